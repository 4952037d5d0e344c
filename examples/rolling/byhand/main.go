// Command byhand serves the requests of the rolling update like
// examples/server, but is stopped without package quit. It is there for
// comparison.
//
//	-pattern=shutdown  with http.Server.Shutdown, as documented, and carefully
//	-pattern=article   as in a widely copied article
//
// Both close the port as soon as the signal arrives. So /readyz never has time
// to announce the shutdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`")
	pattern := flag.String("pattern", "shutdown", "how it is stopped: shutdown or article")
	flag.Parse()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.URL.Query().Get("d"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(d)
		fmt.Fprintln(w, "worked for", d)
	})
	srv := &http.Server{
		Addr:        *addr,
		Handler:     mux,
		ReadTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Minute, // longer than the load balancer's
	}

	switch *pattern {
	case "shutdown":
		if err := shutdown(srv); err != nil {
			log.Fatal(err)
		}
	case "article":
		article(srv)
	default:
		log.Printf("no such pattern: %q", *pattern)
		os.Exit(2)
	}
}

// shutdown makes none of the usual mistakes. main waits until Shutdown has
// returned, and the time is limited. http.ErrServerClosed is not a failure, but
// a taken port is.
func shutdown(srv *http.Server) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	served := make(chan error, 1)
	go func() { served <- srv.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	err := srv.Shutdown(ctx)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// article calls the closers in the order of their registration, without a
// limit, and then waits for a fixed time. But it never gets there:
// ListenAndServe returns as soon as Shutdown is called, and log.Fatal ends the
// process with requests in flight.
func article(srv *http.Server) {
	closers := []func(context.Context) error{srv.Shutdown}
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		<-signals
		for _, closer := range closers {
			closer(context.Background())
		}
		time.Sleep(3 * time.Second)
		os.Exit(0)
	}()
	if err := srv.ListenAndServe(); err != nil {
		log.Fatal("ListenAndServe: ", err)
	}
}
