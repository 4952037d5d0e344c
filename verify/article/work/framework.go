package work

import (
	"os"
	"os/signal"
	"syscall"
)

// Framework stands for a framework that owns the signals. Like the hooks of
// http.Server.Shutdown, its quitters are called but not awaited.
type Framework struct{ quitters []func() }

// RegisterQuitter makes Run call quitter.
func (f *Framework) RegisterQuitter(quitter func()) { f.quitters = append(f.quitters, quitter) }

// Run returns after a signal.
func (f *Framework) Run() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	<-c
	for _, quitter := range f.quitters {
		go quitter() // ends with the shutdown, or the process
	}
}
