package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// parseFlags is [flag.Parse] for the program with that name. A mistake is one
// line on stderr, instead of the whole usage, and status 2. With -h, the usage
// is on stdout, and the status is 0.
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

// exit ends the program with that status, and says why.
func exit(status int, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", flag.CommandLine.Name(), err)
	os.Exit(status)
}
