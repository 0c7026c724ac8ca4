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

// device is one that has logged in: what testcontrol does not keep about a node. A node that is waiting for a visit to
// its URL is none yet, and neither is a deleted one; nobody sees those.
type device struct {
	key       key.NodePublic
	machine   key.MachinePublic
	hostname  string // what it asks to be called
	label     string // what it is called
	ephemeral bool
	streams   int       // map polls under way
	shown     *bool     // whether its peers are told that it is online, if not the truth
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

// tailnet is a testcontrol server that keeps keys, names and devices as the real service does.
type tailnet struct {
	server  *testcontrol.Server
	private private
	keys    *keyring

	mu       sync.Mutex
	devices  map[key.NodePublic]*device
	strict   map[key.NodePublic]bool // node keys that were good once: without a visit they are no longer
	auth     bool                    // whether a login without a key takes a visit to a URL
	approval bool                    // whether new devices have to be approved
	certs    bool                    // whether certificates are offered
	ports    []tailcfg.PortRange     // what everybody may reach on everybody; nil means everything
	limited  int                     // how many logins are to be told to wait
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

// wake makes every map poll send its map anew.
func (t *tailnet) wake() {
	t.server.SetGlobalAppCaps(nil)
}

func (t *tailnet) find(node key.NodePublic) *device {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.devices[node]
}

// login is what a device has brought when it was let in.
type login struct {
	hostinfo  *tailcfg.Hostinfo
	key       authKey
	fresh     bool // whether it is a new login, and not an old one used again
	ephemeral bool
}

// admit makes a device of a node that was let in. A machine that has logged in before is the same device again, with
// its old address, and with its old name if it asks for the same.
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
		// A visit to a login URL has put the new key in the place of the old one already.
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

// call gives a device the name it asks for, or the next one that is free, when it asks for another one than before.
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

// rename follows a change of the host name that a device reports.
func (t *tailnet) rename(at *device, hostname string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	label := t.call(at, hostname)
	t.private.edit(at.key, func(n *tailcfg.Node) { n.Name = label })
}

// forget deletes a device. It learns of it by the end of its map poll, and by the answer to the next.
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

// addFakes makes devices of the nodes that AddFakeNode made: only they have no Hostinfo.
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
