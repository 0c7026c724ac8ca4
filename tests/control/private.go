package main

import (
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"unsafe"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/util/set"
)

// private accesses private fields of testcontrol, which has no API for what the real service does: refuse a login for a
// specific reason, admit one login and send the next one to a URL, forget a device, rename one. The module's version is
// pinned in go.mod, and a missing field ends the process at its start.
type private struct {
	mux    **http.ServeMux
	mu     *sync.Mutex // guards what follows
	nodes  *map[key.NodePublic]*tailcfg.Node
	authed *set.Set[key.NodePublic] // node keys that need no visit to a URL
}

func open(server *testcontrol.Server) private {
	return private{
		mux:    field[*http.ServeMux](server, "mux"),
		mu:     field[sync.Mutex](server, "mu"),
		nodes:  field[map[key.NodePublic]*tailcfg.Node](server, "nodes"),
		authed: field[set.Set[key.NodePublic]](server, "nodeKeyAuthed"),
	}
}

func field[T any](server *testcontrol.Server, name string) *T {
	found := reflect.ValueOf(server).Elem().FieldByName(name)
	if !found.IsValid() || found.Type() != reflect.TypeFor[T]() {
		panic(fmt.Sprintf("testcontrol.Server has no field %s of type %v: read its source anew", name, reflect.TypeFor[T]()))
	}
	return (*T)(unsafe.Pointer(found.UnsafeAddr()))
}

// letIn sets whether a node key can log in without a visit to a URL.
func (p private) letIn(node key.NodePublic, in bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in {
		p.authed.Make()
		p.authed.Add(node)
	} else {
		p.authed.Delete(node)
	}
}

// edit changes a node in place: UpdateNode would undo the changes of a concurrent map request.
func (p private) edit(node key.NodePublic, change func(*tailcfg.Node)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found := (*p.nodes)[node]; found != nil {
		change(found)
	}
}

// bury moves a node to an unused key: the next id is the number of nodes plus one, so nodes cannot be removed.
func (p private) bury(node key.NodePublic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := (*p.nodes)[node]
	if found == nil {
		return
	}
	delete(*p.nodes, node)
	found.Key = key.NewNode().Public()
	(*p.nodes)[found.Key] = found
	p.authed.Delete(node)
}
