package main

import (
	"context"
	"log"
	"sync"
	"testing"
)

// harness is the part of testing.TB that RunDERPAndSTUN uses.
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

// tearDown ends DERP and STUN, which only their clean-up functions can do.
func (h *harness) tearDown() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cleanup := range h.cleanups {
		cleanup()
	}
	h.cleanups = nil
}
