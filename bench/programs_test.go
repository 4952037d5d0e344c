//go:build unix

package bench_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

// programs are those of the folder programs, in the order of the report.
var programs = []string{
	"quit", "quit.http", "hand", "errgroup", "oklog-run", "ory-graceful", "tomb", "suture", "conc",
	"xlab-closer",
	"samber-do", "fx", "kratos", "go-zero",
}

var folder = flag.String("programs", "", "the folder of the programs, if they are built already")

// built builds the programs, and returns their folder.
var built = sync.OnceValues(func() (string, error) {
	if *folder != "" {
		return *folder, nil
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return "", err
	}
	remove = dir
	if out, err := exec.Command("go", "build", "-o", dir,
		"./programs/...").CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %v\n%s", err, out)
	}
	return dir, nil
})

// remove is the folder that built has made; empty if it has made none.
var remove string

func TestMain(m *testing.M) {
	status := m.Run()
	if remove != "" {
		os.RemoveAll(remove)
	}
	os.Exit(status)
}

func BenchmarkBinary(b *testing.B) {
	dir, err := built()
	if err != nil {
		b.Fatal(err)
	}
	var ways []way[struct{}]
	for _, name := range programs {
		ways = append(ways, way[struct{}]{peer: name, run: func(b *testing.B, _ struct{}) {
			for b.Loop() {
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil {
					b.Fatal(err)
				}
				packages, err := exec.Command("go", "list", "-deps", "./programs/"+name).Output()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(info.Size()), "size-bytes")
				b.ReportMetric(float64(bytes.Count(packages, []byte("\n"))), "packages")
			}
			b.ReportMetric(0, "ns/op") // that of go list; not shown
		}})
	}
	compare(b, once, ways...)
}

func BenchmarkExit(b *testing.B) {
	dir, err := built()
	if err != nil {
		b.Fatal(err)
	}
	values := []string{"nothing", "server", "client"}
	var ways []way[string]
	for _, name := range programs {
		ways = append(ways, way[string]{peer: name, run: func(b *testing.B, with string) {
			times := b.N
			if name == "go-zero" {
				times = 1 // it sleeps for a second each time
			}
			var sum time.Duration
			for range times {
				sum += exit(b, filepath.Join(dir, name), with)
			}
			b.ReportMetric(float64(sum.Nanoseconds())/float64(times), "ns/op")
		}})
	}
	compare(b, values, ways...)
}

// exit returns the time that the program takes from a SIGTERM to its end.
func exit(b *testing.B, program, with string) time.Duration {
	var args []string
	if with != "nothing" {
		args = []string{"serve"}
	}
	// Some programs take the signal a moment after they could say so.
	for settle := 20 * time.Millisecond; ; settle *= 4 {
		p := process.StartCommand(b, process.Other(b, program, args...))
		addr := strings.TrimSpace(p.Line("ready"))
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: with == "server"}}
		if addr != "" {
			res, err := client.Get("http://" + addr)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body) // to the end: otherwise the connection is not kept
			res.Body.Close()
		}
		time.Sleep(settle)
		start := time.Now()
		p.Signal(syscall.SIGTERM)
		<-p.Exited()
		took := time.Since(start)
		client.CloseIdleConnections()
		switch state := p.ProcessState.String(); {
		case state == "exit status 0":
			return took
		case state == "signal: terminated" && settle < 10*time.Second:
			b.Logf("%s did not take the signal within %v; once more",
				filepath.Base(program), settle)
		default:
			b.Fatalf("%s ended with %q, want exit status 0; stderr:\n%s",
				program, state, p.Stderr())
		}
	}
}
