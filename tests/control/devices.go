package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/util/dnsname"
)

const domain = "tail.example"

// device is a logged-in node, with what testcontrol does not store about it. A node that waits for a visit to its URL
// is not yet a device, and a deleted one no longer is; peers see only devices.
type device struct {
	key       key.NodePublic
	machine   key.MachinePublic
	hostname  string // the name it requests
	label     string // the name it has
	ephemeral bool
	streams   int       // open map polls
	shown     *bool     // overrides whether its peers see it online; nil means the actual state
	seen      time.Time // when its last stream ended
	health    []string

	life context.Context // ends with the node key
	end  context.CancelFunc
}

func (d *device) online() bool {
	if d.shown != nil {
		return *d.shown
	}
	return d.streams > 0
}

// tailnet is a testcontrol server that handles keys, names and devices like the real service.
type tailnet struct {
	server  *testcontrol.Server
	private private
	keys    *keyring

	mu       sync.Mutex
	devices  map[key.NodePublic]*device
	strict   map[key.NodePublic]bool // former node keys, which need a visit to a URL
	auth     bool                    // whether a login without a key needs a visit to a URL
	approval bool                    // whether new devices need an approval
	certs    bool                    // whether certificates are offered
	ports    []tailcfg.PortRange     // the ports that all devices may reach on each other; nil means all
	limited  int                     // how many more logins are told to wait
	wait     string                  // for how many seconds
	attempts []attempt
}

func newTailnet(server *testcontrol.Server) *tailnet {
	return &tailnet{
		server:  server,
		private: open(server),
		keys:    &keyring{keys: map[string]*authKey{}, wording: "tailscale"},
		devices: map[key.NodePublic]*device{},
		strict:  map[key.NodePublic]bool{},
	}
}

// wake makes every map poll send its map again.
func (t *tailnet) wake() {
	t.server.SetGlobalAppCaps(nil)
}

func (t *tailnet) find(node key.NodePublic) *device {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.devices[node]
}

// login is what a device presented when it was admitted.
type login struct {
	hostinfo  *tailcfg.Hostinfo
	key       authKey
	fresh     bool // whether it is a new login; false for an existing one
	ephemeral bool
}

// admit makes an admitted node a device. A machine that has logged in before is the same device again, with its old
// address, and with its old name if it requests the same one.
func (t *tailnet) admit(node key.NodePublic, by login) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.server.Node(node)
	if found == nil {
		return
	}
	approved := !t.approval || by.key.preauthorized
	at := t.ofMachine(found.Machine)
	if at == nil {
		at = &device{machine: found.Machine}
	} else if before := t.server.Node(at.key); before != nil {
		approved = before.MachineAuthorized
	} else {
		// A visit to a login URL has already replaced the old key.
		approved = found.MachineAuthorized
	}
	if at.key != node {
		t.move(at, found)
	}
	if by.fresh {
		at.ephemeral = by.ephemeral || by.key.ephemeral
	}
	label := t.call(at, by.hostinfo.Hostname)
	t.private.edit(node, func(n *tailcfg.Node) {
		n.Hostinfo, n.Name, n.MachineAuthorized = by.hostinfo.View(), label, approved
		if by.fresh {
			n.KeyExpiry, n.Tags = time.Time{}, by.hostinfo.RequestTags
			if len(n.Tags) == 0 {
				n.Tags = by.key.tags
			}
		}
	})
}

func (t *tailnet) ofMachine(machine key.MachinePublic) *device {
	for _, at := range t.devices {
		if at.machine == machine {
			return at
		}
	}
	return nil
}

// move gives a device its new node key.
func (t *tailnet) move(at *device, to *tailcfg.Node) {
	if from := t.server.Node(at.key); from != nil {
		t.private.edit(to.Key, func(n *tailcfg.Node) {
			n.ID, n.StableID, n.Addresses, n.AllowedIPs = from.ID, from.StableID, from.Addresses, from.AllowedIPs
		})
		at.end()
		t.private.bury(at.key)
	}
	if !at.key.IsZero() {
		delete(t.devices, at.key)
		t.strict[at.key] = true
	}
	at.key, at.streams = to.Key, 0
	at.life, at.end = context.WithCancel(context.Background())
	t.devices[to.Key] = at
	delete(t.strict, to.Key)
}

// call gives a device the name it requests, or else the next free one, if the request differs from the last one.
func (t *tailnet) call(at *device, hostname string) string {
	if at.label == "" || at.hostname != hostname {
		plain := dnsname.SanitizeHostname(hostname)
		at.hostname, at.label = hostname, plain
		for number := 1; t.isTaken(at); number++ {
			at.label = fmt.Sprintf("%s-%d", plain, number)
		}
	}
	return at.label + "." + domain + "."
}

func (t *tailnet) isTaken(by *device) bool {
	for _, at := range t.devices {
		if at != by && at.label == by.label {
			return true
		}
	}
	return false
}

// rename applies a change of the host name that a device reports.
func (t *tailnet) rename(at *device, hostname string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	label := t.call(at, hostname)
	t.private.edit(at.key, func(n *tailcfg.Node) { n.Name = label })
}

// forget deletes a device, which learns this from the end of its map poll and the response to the next one.
func (t *tailnet) forget(at *device) {
	t.mu.Lock()
	delete(t.devices, at.key)
	t.strict[at.key] = true
	at.end()
	t.private.bury(at.key)
	t.mu.Unlock()
	t.wake()
}

// expire sets the end of a device's node key; zero means never.
func (t *tailnet) expire(at *device, end time.Time) {
	t.private.edit(at.key, func(n *tailcfg.Node) { n.KeyExpiry = end })
}

// addFakes makes a fake node, and devices of all fake nodes: only these have no Hostinfo.
func (t *tailnet) addFakes() {
	t.server.AddFakeNode()
	for _, node := range t.server.AllNodes() {
		if !node.Hostinfo.Valid() && t.find(node.Key) == nil {
			at := &device{machine: node.Machine, label: node.Key.ShortString()}
			at.key, at.end = node.Key, func() {}
			t.mu.Lock()
			t.devices[node.Key] = at
			t.mu.Unlock()
		}
	}
	t.wake()
}

func addresses(prefixes []netip.Prefix) []string {
	found := []string{}
	for _, prefix := range prefixes {
		found = append(found, prefix.Addr().String())
	}
	return found
}
