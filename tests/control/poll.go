package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/util/zstdframe"
)

// poll answers a map request with testcontrol's maps, corrected.
func (t *tailnet) poll(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request tailcfg.MapRequest
		if !take(w, r, &request) {
			return
		}
		at := t.find(request.NodeKey)
		if at == nil {
			// The text of the real service; a deleted device gets no other message.
			http.Error(w, "node not found", http.StatusNotFound)
			return
		}
		if !request.Stream && !request.ReadOnly && request.Hostinfo != nil {
			t.rename(at, request.Hostinfo.Hostname)
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(at.life, cancel)()
		if request.Stream {
			t.count(at, request.NodeKey, 1)
			defer t.count(at, request.NodeKey, -1)
		}
		corrected := &mapWriter{ResponseWriter: w, compress: request.Compress != ""}
		corrected.correct = func(m *tailcfg.MapResponse) { t.correct(m, request.NodeKey) }
		next.ServeHTTP(corrected, r.WithContext(ctx))
	}
}

// count updates the number of a device's streams, and tells its peers when it comes online or goes offline. The streams
// of a former node key do not count.
func (t *tailnet) count(at *device, node key.NodePublic, more int) {
	t.mu.Lock()
	before := at.online()
	if at.key == node {
		at.streams += more
	}
	if at.streams == 0 {
		at.seen = time.Now()
	}
	changed := at.online() != before
	t.mu.Unlock()
	if changed {
		t.wake()
	}
}

// correct changes a map to match this tailnet.
func (t *tailnet) correct(m *tailcfg.MapResponse, reader key.NodePublic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	peers := m.Peers
	m.Peers = nil
	for _, peer := range peers {
		if at := t.devices[peer.Key]; at != nil {
			online, seen := at.online(), at.seen
			peer.Online = &online
			if !online && !seen.IsZero() {
				peer.LastSeen = &seen
			}
			m.Peers = append(m.Peers, peer)
		}
	}
	if len(m.Peers) == 0 {
		// An empty list would mean that nothing has changed.
		for _, peer := range peers {
			m.PeersRemoved = append(m.PeersRemoved, peer.ID)
		}
	}
	// testcontrol's clock stands still in 2020, so that no key would expire.
	now := time.Now()
	m.ControlTime = &now
	m.PacketFilter, m.PacketFilters = nil, map[string][]tailcfg.FilterRule{"base": t.rules()}
	m.DisplayMessages = map[tailcfg.DisplayMessageID]*tailcfg.DisplayMessage{"*": nil}
	if at := t.devices[reader]; at != nil {
		for number, text := range at.health {
			id := tailcfg.DisplayMessageID(fmt.Sprintf("test-%d", number))
			m.DisplayMessages[id] = &tailcfg.DisplayMessage{Title: text, Text: text, Severity: tailcfg.SeverityMedium}
		}
		m.DNSConfig = &tailcfg.DNSConfig{}
		if t.certs {
			m.DNSConfig.CertDomains = []string{at.label + "." + domain}
		}
	}
}

func (t *tailnet) rules() []tailcfg.FilterRule {
	if t.ports == nil {
		return tailcfg.FilterAllowAll
	}
	rules := []tailcfg.FilterRule{}
	for _, ports := range t.ports {
		open := []tailcfg.NetPortRange{{IP: "*", Ports: ports}}
		rules = append(rules, tailcfg.FilterRule{SrcIPs: []string{"*"}, DstPorts: open})
	}
	return rules
}

// mapWriter corrects the maps written to it: each has its length in four bytes, and JSON that may be compressed.
type mapWriter struct {
	http.ResponseWriter
	compress bool
	correct  func(*tailcfg.MapResponse)
	refused  bool
	buffer   []byte
}

func (m *mapWriter) WriteHeader(code int) {
	m.refused = code != http.StatusOK
	m.ResponseWriter.WriteHeader(code)
}

func (m *mapWriter) Write(data []byte) (int, error) {
	if m.refused {
		return m.ResponseWriter.Write(data)
	}
	m.buffer = append(m.buffer, data...)
	for len(m.buffer) >= 4 {
		length := 4 + int(binary.LittleEndian.Uint32(m.buffer))
		if len(m.buffer) < length {
			break
		}
		if err := m.send(m.buffer[4:length]); err != nil {
			return 0, err
		}
		m.buffer = m.buffer[length:]
	}
	return len(data), nil
}

func (m *mapWriter) Flush() {
	m.ResponseWriter.(http.Flusher).Flush()
}

func (m *mapWriter) send(body []byte) error {
	var err error
	if m.compress {
		if body, err = zstdframe.AppendDecode(nil, body); err != nil {
			return err
		}
	}
	var response tailcfg.MapResponse
	if err = json.Unmarshal(body, &response); err != nil {
		return err
	}
	if !response.KeepAlive && response.Node != nil {
		m.correct(&response)
		if body, err = json.Marshal(response); err != nil {
			return err
		}
	}
	if m.compress {
		body = zstdframe.AppendEncode(nil, body, zstdframe.FastestCompression)
	}
	_, err = m.ResponseWriter.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}
