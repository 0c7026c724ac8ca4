// The control server of the tests: Tailscale's own testcontrol, with DERP and STUN on loopback, and an admin port.
//
// It prints one JSON line with its URLs, and ends when its standard input does.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// harness is as much of a testing.TB as RunDERPAndSTUN asks for.
type harness struct {
	testing.TB
	mu       sync.Mutex
	cleanups []func()
}

func (h *harness) Helper()                         {}
func (h *harness) Log(args ...any)                 {}
func (h *harness) Logf(format string, args ...any) {}
func (h *harness) Error(args ...any)               { log.Print(args...) }
func (h *harness) Errorf(f string, args ...any)    { log.Printf(f, args...) }
func (h *harness) Fatal(args ...any)               { log.Fatal(args...) }
func (h *harness) Fatalf(f string, args ...any)    { log.Fatalf(f, args...) }
func (h *harness) Context() context.Context        { return context.Background() }
func (h *harness) Cleanup(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleanups = append(h.cleanups, f)
}

// gate is a listener that remembers its connections: the noise connections are hijacked, and only we can close them.
type gate struct {
	mu      sync.Mutex
	address string
	current net.Listener
	conns   map[net.Conn]struct{}
	handler http.Handler
}

type trackedConn struct {
	net.Conn
	gate *gate
}

func (c trackedConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c.Conn)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

type trackedListener struct {
	net.Listener
	gate *gate
}

func (l trackedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.gate.mu.Lock()
	l.gate.conns[conn] = struct{}{}
	l.gate.mu.Unlock()
	return trackedConn{conn, l.gate}, nil
}

func (g *gate) open() error {
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.current, g.address = listener, listener.Addr().String()
	g.mu.Unlock()
	go http.Serve(trackedListener{listener, g}, g.handler)
	return nil
}

func (g *gate) shut() {
	g.mu.Lock()
	listener := g.current
	g.current = nil
	g.mu.Unlock()
	if listener != nil {
		listener.Close()
	}
	g.drop()
}

func (g *gate) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.conns {
		conn.Close()
		delete(g.conns, conn)
	}
}

// known lets through what testcontrol can answer: it ends the process for anything else.
func known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		for _, prefix := range []string{"/machine/", "/c2n/"} {
			if strings.HasPrefix(path, prefix) {
				next.ServeHTTP(w, r)
				return
			}
		}
		switch path {
		case "/key", "/ts2021", "/generate_204":
			next.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

type admin struct {
	control *testcontrol.Server
	gate    *gate
	harness *harness
	mu      sync.Mutex
	limited int
}

func (a *admin) limit() (bool, string, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limited == 0 {
		return false, "", ""
	}
	a.limited--
	return true, "1", "rate limited by the test"
}

func (a *admin) do(order string, args url.Values) (any, error) {
	switch order {
	case "complete-auth":
		return a.control.CompleteAuth(args.Get("url")), nil
	case "expire":
		a.control.SetExpireAllNodes(args.Get("on") == "1")
	case "authkey":
		a.control.RequireAuthKey = args.Get("key")
	case "auth":
		a.control.RequireAuth = args.Get("on") == "1"
	case "machine-auth":
		a.control.RequireMachineAuth = args.Get("on") == "1"
	case "limit":
		a.mu.Lock()
		fmt.Sscan(args.Get("times"), &a.limited)
		a.mu.Unlock()
	case "fake":
		a.control.AddFakeNode()
	case "offline":
		a.gate.shut()
	case "online":
		return nil, a.gate.open()
	case "drop":
		a.gate.drop()
	case "derp-down":
		a.harness.mu.Lock()
		defer a.harness.mu.Unlock()
		for _, cleanup := range a.harness.cleanups {
			cleanup()
		}
		a.harness.cleanups = nil
	case "nodes":
		return a.nodes(), nil
	case "approve", "expire-node", "cap", "health":
		return a.onNode(order, args)
	default:
		return nil, fmt.Errorf("there is no order %q", order)
	}
	return nil, nil
}

func (a *admin) onNode(order string, args url.Values) (any, error) {
	var node key.NodePublic
	if err := node.UnmarshalText([]byte(args.Get("key"))); err != nil {
		return nil, err
	}
	switch order {
	case "approve":
		base := "http://" + a.gate.address
		return a.control.CompleteDeviceApproval(base, base+"/admin", &node), nil
	case "expire-node":
		found := a.control.Node(node)
		if found == nil {
			return nil, fmt.Errorf("there is no such node")
		}
		found.KeyExpiry = time.Now().Add(-time.Minute)
		a.control.UpdateNode(found)
	case "cap":
		a.control.SetNodeCapMap(node, tailcfg.NodeCapMap{tailcfg.NodeCapability(args.Get("name")): nil})
	case "health":
		return a.control.AddRawMapResponse(node, &tailcfg.MapResponse{Health: []string{args.Get("text")}}), nil
	}
	return nil, nil
}

func (a *admin) nodes() []map[string]any {
	found := []map[string]any{}
	for _, node := range a.control.AllNodes() {
		found = append(found, map[string]any{
			"key": node.Key.String(), "name": node.Name, "tags": node.Tags, "hostname": node.Hostinfo.Hostname(),
			"request_tags": node.Hostinfo.RequestTags().AsSlice(), "routes": node.Hostinfo.RoutableIPs().AsSlice(),
		})
	}
	return found
}

func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := a.do(strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	json.NewEncoder(w).Encode(answer)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where the control server listens")
	authKey := flag.String("authkey", "", "the only key that is good; empty means any")
	auth := flag.Bool("auth", false, "whether a login takes a visit to a URL")
	machineAuth := flag.Bool("machine-auth", false, "whether devices have to be approved")
	flag.Parse()

	harness := &harness{}
	control := &testcontrol.Server{
		Logf:               logger.Discard,
		DERPMap:            integration.RunDERPAndSTUN(harness, logger.Discard, "127.0.0.1"),
		RequireAuth:        *auth,
		RequireAuthKey:     *authKey,
		RequireMachineAuth: *machineAuth,
		AllOnline:          true,
		MagicDNSDomain:     "tail.example",
	}
	gate := &gate{address: *listen, conns: map[net.Conn]struct{}{}, handler: known(control)}
	if err := gate.open(); err != nil {
		log.Fatal(err)
	}
	control.ExplicitBaseURL = "http://" + gate.address
	// Makes the server's keys: a client that knows them already would find none.
	if answer, err := http.Get(control.ExplicitBaseURL + "/key"); err != nil {
		log.Fatal(err)
	} else {
		answer.Body.Close()
	}
	admin := &admin{control: control, gate: gate, harness: harness}
	control.MaybeRateLimitRegister = admin.limit
	adminListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(adminListener, admin)
	json.NewEncoder(os.Stdout).Encode(map[string]string{
		"control": control.ExplicitBaseURL, "admin": "http://" + adminListener.Addr().String(),
	})
	io.Copy(io.Discard, os.Stdin)
}
