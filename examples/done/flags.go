package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// parseFlags is like [flag.Parse], for a program called name. It reports a
// mistake as one line on stderr, without the usage, and exits with status 2.
// With -h it prints the usage on stdout and exits with status 0.
func parseFlags(name string) {
	flag.CommandLine.Init(name, flag.ContinueOnError)
	flag.CommandLine.SetOutput(io.Discard)
	err := flag.CommandLine.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Printf("usage: %s [flags]\n", name)
		flag.CommandLine.SetOutput(os.Stdout)
		flag.PrintDefaults()
		os.Exit(0)
	}
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if err != nil {
		exit(2, err)
	}
}

// exit prints err and ends the program with the given status.
func exit(status int, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", flag.CommandLine.Name(), err)
	os.Exit(status)
}
