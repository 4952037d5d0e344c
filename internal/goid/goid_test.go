package goid_test

import (
	"testing"
	"testing/synctest"

	"github.com/gracefulgo/graceful/internal/goid"
)

func TestID(t *testing.T) {
	id := goid.ID()
	if id == 0 || goid.ID() != id {
		t.Errorf("ID() = %d, then %d", id, goid.ID())
	}
	other := make(chan uint64)
	go func() { other <- goid.ID() }()
	if o := <-other; o == 0 || o == id {
		t.Errorf("ID() = %d in another goroutine, %d here", o, id)
	}
}

func TestInBubble(t *testing.T) {
	if goid.InBubble() {
		t.Error("InBubble() = true, want false")
	}
	synctest.Test(t, func(t *testing.T) {
		if !goid.InBubble() {
			t.Error("InBubble() = false in a bubble, want true")
		}
		in := make(chan bool)
		go func() { in <- goid.InBubble() }()
		if !<-in {
			t.Error("InBubble() = false in a goroutine of a bubble, want true")
		}
	})
}
