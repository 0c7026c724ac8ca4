package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// admin serves the orders of the tests: GET /ORDER?ARGUMENTS, with a JSON response.
type admin struct {
	tailnet *tailnet
	gate    *gate
	harness *harness
}

func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := a.do(strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	json.NewEncoder(w).Encode(answer)
}

func (a *admin) do(order string, args url.Values) (any, error) {
	switch order {
	case "offline":
		a.gate.shut()
	case "online":
		return nil, a.gate.open()
	case "drop":
		a.gate.drop()
	case "derp-down":
		a.harness.tearDown()
	case "complete-auth":
		return a.tailnet.server.CompleteAuth(args.Get("url")), nil
	case "fake":
		a.tailnet.addFakes()
	case "nodes":
		return a.tailnet.list(), nil
	case "attempts":
		a.tailnet.mu.Lock()
		defer a.tailnet.mu.Unlock()
		return append([]attempt{}, a.tailnet.attempts...), nil
	case "key", "wording", "tags":
		return nil, a.tailnet.onKeys(order, args)
	case "expire":
		return nil, a.tailnet.onExpiry(args)
	case "auth", "machine-auth", "certs", "limit", "policy":
		return nil, a.tailnet.onRules(order, args)
	default:
		return nil, a.tailnet.onDevice(order, args)
	}
	return nil, nil
}

// onKeys makes an auth key, selects the wording of refusals, or sets the existing tags.
func (t *tailnet) onKeys(order string, args url.Values) error {
	t.keys.mu.Lock()
	defer t.keys.mu.Unlock()
	switch order {
	case "key":
		t.keys.keys[args.Get("value")] = &authKey{
			reusable: isOn(args, "reusable"), expired: isOn(args, "expired"), used: isOn(args, "used"),
			ephemeral: isOn(args, "ephemeral"), preauthorized: isOn(args, "preauthorized"),
			tags: list(args.Get("tags")), text: args.Get("text"),
		}
	case "wording":
		if wordings[args.Get("name")] == nil {
			return fmt.Errorf("there is no wording %q", args.Get("name"))
		}
		t.keys.wording = args.Get("name")
	case "tags":
		t.keys.owned = list(args.Get("names"))
		owners := map[string][]string{}
		for _, tag := range t.keys.owned {
			owners[tag] = nil
		}
		t.private.mu.Lock()
		t.server.TagOwners = owners
		t.private.mu.Unlock()
	}
	return nil
}

// onExpiry sets the expiry of one or all node keys, to now or in some seconds, or removes it.
func (t *tailnet) onExpiry(args url.Values) error {
	end := time.Time{}
	if isOn(args, "on") {
		seconds, err := strconv.Atoi(cmp.Or(args.Get("in_s"), "-60"))
		if err != nil {
			return err
		}
		end = time.Now().Add(time.Duration(seconds) * time.Second)
	}
	if args.Has("key") {
		at, err := t.named(args)
		if err != nil {
			return err
		}
		t.expire(at, end)
	} else {
		for _, node := range t.server.AllNodes() {
			if at := t.find(node.Key); at != nil {
				t.expire(at, end)
			}
		}
	}
	t.wake()
	return nil
}

// onRules sets what applies to all devices.
func (t *tailnet) onRules(order string, args url.Values) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch order {
	case "auth":
		t.auth = isOn(args, "on")
	case "machine-auth":
		t.approval = isOn(args, "on")
	case "certs":
		t.certs = isOn(args, "on")
	case "limit":
		times, err := strconv.Atoi(args.Get("times"))
		if err != nil {
			return err
		}
		t.limited, t.wait = times, cmp.Or(args.Get("wait_s"), "1")
	case "policy":
		t.ports = nil
		if args.Has("ports") {
			t.ports = []tailcfg.PortRange{}
		}
		for _, text := range list(args.Get("ports")) {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return err
			}
			t.ports = append(t.ports, tailcfg.PortRange{First: uint16(port), Last: uint16(port)})
		}
	}
	t.wake()
	return nil
}

// onDevice changes the device with the given node key.
func (t *tailnet) onDevice(order string, args url.Values) error {
	at, err := t.named(args)
	if err != nil {
		return err
	}
	switch order {
	case "approve":
		t.private.edit(at.key, func(n *tailcfg.Node) { n.MachineAuthorized = true })
	case "delete":
		t.forget(at)
	case "cap":
		t.server.SetNodeCapMap(at.key, tailcfg.NodeCapMap{tailcfg.NodeCapability(args.Get("name")): nil})
	case "show":
		t.mu.Lock()
		at.shown = nil
		if args.Has("online") {
			shown := isOn(args, "online")
			at.shown = &shown
		}
		t.mu.Unlock()
	case "health":
		t.mu.Lock()
		at.health = nil
		if text := args.Get("text"); text != "" {
			at.health = []string{text}
		}
		t.mu.Unlock()
	default:
		return fmt.Errorf("there is no order %q", order)
	}
	t.wake()
	return nil
}

func (t *tailnet) named(args url.Values) (*device, error) {
	var node key.NodePublic
	if err := node.UnmarshalText([]byte(args.Get("key"))); err != nil {
		return nil, err
	}
	if at := t.find(node); at != nil {
		return at, nil
	}
	return nil, fmt.Errorf("there is no device with the key %v", node)
}

// list describes every device.
func (t *tailnet) list() []map[string]any {
	found := []map[string]any{}
	for _, node := range t.server.AllNodes() {
		t.mu.Lock()
		at := t.devices[node.Key]
		if at != nil {
			told := map[string]any{
				"key": node.Key.String(), "id": node.ID, "name": node.Name, "tags": append([]string{}, node.Tags...),
				"online": at.online(), "ephemeral": at.ephemeral, "expiry": nil, "addresses": addresses(node.Addresses),
				"approved": node.MachineAuthorized, "hostname": at.hostname, "request_tags": []string{}, "routes": []string{},
			}
			if !node.KeyExpiry.IsZero() {
				told["expiry"] = node.KeyExpiry.UTC().Format(time.RFC3339)
			}
			if node.Hostinfo.Valid() {
				told["request_tags"] = append([]string{}, node.Hostinfo.RequestTags().AsSlice()...)
				told["routes"] = append([]netip.Prefix{}, node.Hostinfo.RoutableIPs().AsSlice()...)
			}
			found = append(found, told)
		}
		t.mu.Unlock()
	}
	return found
}

func isOn(args url.Values, name string) bool {
	return args.Get(name) == "1"
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
