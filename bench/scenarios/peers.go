//go:build unix

package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Peer is a way to stop a program: one in the folder peers plays all scenarios.
type Peer struct {
	Name   string // its folder, and for -peer
	Label  string // its column
	Module string // its version is that of this module; "" if it is no module
	Used   string // how
	Tags   string // for the build
}

// peers are in the order of the columns.
var peers = []Peer{
	{"quit", "quit", "", "`RegisterQuitCloser`, with `AfterDrain` for shared parts; `Go`; " +
		"`quithttp.ListenAndServe` with `Track`; `NotifySignal` first and `WaitSignal` last", ""},
	{"hand", "by hand", "golang.org/x/sync",
		"`signal.NotifyContext` with a deferred stop, errgroup, `http.Server.Shutdown`; " +
			"a `defer` for each part, which share one timeout", ""},
	{"article", "article", "", "the package of the article whose names `quit` has: " +
		"its behaviour, written anew; `RegisterQuitCloser`, `AddGoroutine`, `WaitSignal`", ""},
	{"run", "oklog/run", "github.com/oklog/run",
		"the actors of its README, `SignalHandler`; a `defer` for each part", ""},
	{"fx", "fx", "go.uber.org/fx",
		"hooks on the `Lifecycle`, `Shutdowner`, `StopTimeout`, `App.Run`", ""},
	{"kratos", "kratos", "github.com/go-kratos/kratos/v2",
		"its HTTP server, workers as `transport.Server`, `StopTimeout`; deferred cleanups for " +
			"the parts, as in kratos-layout", ""},
	{"tomb", "tomb.v2", "gopkg.in/tomb.v2",
		"all goroutines in a `Tomb`; `signal.Notify`; a `defer` for each part", ""},
	{"suture", "suture", "github.com/thejerf/suture/v4",
		"workers and servers as services of a `Supervisor` with a `Timeout`; " +
			"`ErrTerminateSupervisorTree` for failures; `UnstoppedServiceReport`; a `defer` for " +
			"each part", ""},
	{"closer", "xlab/closer", "github.com/xlab/closer",
		"`Bind` for parts, workers and servers; `Checked`, `Hold`", ""},
	{"conc", "conc", "github.com/sourcegraph/conc",
		"a `ContextPool` `WithCancelOnError` under `signal.NotifyContext`; a `defer` for each part",
		""},
	{"do", "samber/do", "github.com/samber/do/v2",
		"parts, workers and servers as services, each of which invokes the one before it; " +
			"`ShutdownWithContext` under `signal.NotifyContext`", ""},
	{"gozero", "go-zero", "github.com/zeromicro/go-zero",
		"`service.ServiceGroup`; `proc.AddShutdownListener` for parts, `AddWrapUpListener` for " +
			"servers; `SetTimeToForceQuit`", ""},
	{"manager", "controller-runtime", "sigs.k8s.io/controller-runtime",
		"a `Manager` with `GracefulShutdownTimeout`, workers as Runnables, `manager.Server`; " +
			"a `defer` for each part", "heavy"},
}

// absent are peers that could not be downloaded.
var absent = []string{"github.com/klauspost/shutdown2", "github.com/skovtunenko/graterm",
	"github.com/appleboy/graceful", "github.com/cockroachdb/cockroach (pkg/util/stop)"}

func findPeer(name string) *Peer {
	for i := range peers {
		if peers[i].Name == name {
			return &peers[i]
		}
	}
	return nil
}

// build builds the programs of the peers into dir. Each peer is a program of
// its own, since some packages take the signals when they are imported.
func build(dir string, some []Peer) error {
	_, file, _, _ := runtime.Caller(0)
	var args, tags []string
	for _, p := range some {
		args = append(args, "./peers/"+p.Name)
		if p.Tags != "" {
			tags = []string{"-tags", p.Tags}
		}
	}
	cmd := exec.Command("go", append(append(append([]string{"build"}, tags...),
		"-ldflags=-s -w", "-o", dir+"/"), args...)...)
	cmd.Dir = filepath.Dir(file)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// version returns the version of the module that the peer was built with.
func (p *Peer) version(dir string) string {
	if p.Module == "" {
		return "this checkout"
	}
	info, err := buildinfo.ReadFile(filepath.Join(dir, p.Name))
	if err != nil {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == p.Module {
			v := dep.Version
			if strings.HasPrefix(v, "v0.0.0-") || strings.Contains(v, ".0.0-2") {
				v = strings.Split(v, "-")[len(strings.Split(v, "-"))-1]
				v = "commit " + v
			}
			return v
		}
	}
	return ""
}

func (p *Peer) String() string { return fmt.Sprintf("%-8s %s", p.Name, p.Module) }
