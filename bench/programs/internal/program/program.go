// Package program is the common part of the programs of this folder, so that
// each shows only the way in which it is stopped.
package program

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

// Listen returns a listener on a port that the system picks if the argument of
// the program is "serve", and nil otherwise.
func Listen() net.Listener {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		return nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

// Ready says where the program listens, if it does, and that it has come as far
// as its way of stopping lets it tell: some take the signals a moment later.
func Ready(ln net.Listener) {
	if ln != nil {
		fmt.Println("ready", ln.Addr())
	} else {
		fmt.Println("ready")
	}
}

// Server returns a server that answers "ok".
func Server() *http.Server {
	return &http.Server{Handler: http.HandlerFunc(Answer)}
}

// Answer answers "ok".
func Answer(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

// Must ends the program with err, if there is one.
func Must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
