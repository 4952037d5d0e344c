//go:build unix

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// options are the flags. A successor gets the same ones.
type options struct {
	http, https, unix string // addresses; empty for none
	cert, key         string
	pidfile           string
	readyTimeout      time.Duration
}

// parseFlags sets the fields of q and returns the other flags.
func parseFlags(q *quit.QuitEvent) (o options) {
	flags := flag.NewFlagSet("restart", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.StringVar(&o.http, "addr", "127.0.0.1:8080",
		"serve HTTP on `address`; port 0 picks one; empty for none")
	flags.StringVar(&o.https, "https", "", "serve HTTPS on `address`, which needs -cert and -key")
	flags.StringVar(&o.unix, "unix", "", "serve HTTP on the Unix socket `path`")
	flags.StringVar(&o.cert, "cert", "", "`file` with the certificate")
	flags.StringVar(&o.key, "key", "", "`file` with its key")
	flags.StringVar(&o.pidfile, "pidfile", "", "write the pid of the process that serves to `file`")
	flags.DurationVar(&o.readyTimeout, "ready-timeout", 10*time.Second,
		"time for a successor to serve, and then again to end if it does not")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout,
		"time for the whole stop; negative means no limit")
	flags.DurationVar(&q.Delay, "delay", time.Second,
		"part of that in which connections are still served, and clients asked to leave")

	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("usage: restart [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.readyTimeout <= 0:
		err = fmt.Errorf("-ready-timeout=%v is no time", o.readyTimeout)
	case o.https != "" && (o.cert == "" || o.key == ""):
		err = errors.New("-https needs -cert and -key")
	}
	if err != nil {
		exit(2, err)
	}
	return o
}
