package main

import (
	"net"
	"net/http"
	"sync"
)

// gate is a listener that tracks its connections: the noise connections are hijacked, and only we can close them.
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
