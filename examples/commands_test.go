//go:build unix

package examples_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
)

// commands are the commands of the top README that TestCommands does not run,
// by the file of the test or script that runs them.
var commands = map[string][]string{
	".ci/run": {"go test ./..."},
	"bench/readme_test.go": {
		"cd bench && go run ./scenarios -markdown",
		"cd bench && ./run.sh && go run ./report && go run ./plot && go run ./scaling",
	},
}

// TestCommands runs the commands of the top README in a clean checkout. The
// servers get ports that the system picks.
func TestCommands(t *testing.T) {
	checkout := process.Checkout(t)
	blocks := shellBlocks(t, filepath.Join(checkout, "README.md"))
	take := func(prefixes ...string) []string {
		t.Helper()
		for i, block := range blocks {
			if len(block) == len(prefixes) && strings.HasPrefix(block[0], prefixes[0]) {
				for j, prefix := range prefixes {
					if !strings.HasPrefix(block[j], prefix) {
						t.Errorf("the README has the command %q, want %q", block[j], prefix)
					}
				}
				blocks = slices.Delete(blocks, i, i+1)
				return block
			}
		}
		t.Fatalf("the README has no commands like %q", prefixes)
		return nil
	}

	try := take("go run ./examples/server", "go test")
	curl := take("curl -i ", "curl ", "curl ")
	build := take("go build -o /tmp/server ")
	require := take("go mod edit ", "go mod tidy")
	blocks = append(blocks, try[1:])
	t.Run("server", func(t *testing.T) { tryServer(t, checkout, try[0], curl) })
	t.Run("binary", func(t *testing.T) { tryBinary(t, checkout, build[0]) })
	t.Run("module", func(t *testing.T) { tryModule(t, checkout, require) })

	for file, known := range commands {
		text, err := os.ReadFile(filepath.Join(checkout, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range known {
			if !strings.Contains(string(text), command+"\n") {
				t.Errorf("%s does not run %q", file, command)
			}
		}
	}
	known := slices.Concat(slices.Collect(maps.Values(commands))...)
	for _, command := range slices.Concat(blocks...) {
		if !slices.Contains(known, command) {
			t.Errorf("no test runs %q", command)
		}
	}
}

// shellBlocks returns the lines of each block of shell commands in a file,
// without comments.
func shellBlocks(t *testing.T, file string) (blocks [][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)\n```").FindAllSubmatch(text, -1) {
		block := regexp.MustCompile(` +#.*`).ReplaceAllString(string(m[1]), "")
		blocks = append(blocks, strings.Split(block, "\n"))
	}
	return blocks
}

// shell returns a command line to be run in dir by a shell, in a process group
// of its own, as an interactive shell runs it.
func shell(t *testing.T, dir, line string) *exec.Cmd {
	t.Helper()
	cmd := process.Other(t, "sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "GOWORK=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

const anyPorts = " -addr=127.0.0.1:0 -admin=127.0.0.1:0"

// startServer runs a command line that ends with the program server.
func startServer(t *testing.T, dir, line string) (p *process.Process, addr, admin string) {
	t.Helper()
	p = process.StartCommand(t, shell(t, dir, line+anyPorts+" -journal="+t.TempDir()+"/journal"))
	t.Cleanup(func() {
		select {
		case <-p.Exited():
		default: // the test has failed
			syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		}
	})
	addr = p.Line("listening on http://")
	admin, _, _ = strings.Cut(p.Line("admin: http://"), "/")
	return p, addr, admin
}

// tryServer checks that the last request is answered after a Ctrl-C.
func tryServer(t *testing.T, checkout, run string, curl []string) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	server, addr, admin := startServer(t, checkout, "exec "+run)
	start := func(line string) *process.Process {
		line = strings.Replace(line, "localhost:8080", addr, 1)
		line = strings.Replace(line, "localhost:6060", admin, 1)
		line = strings.Replace(line, "d=15s", "d=1s", 1)
		line = strings.Replace(line, "curl", "exec curl -sv", 1)
		return process.StartCommand(t, shell(t, checkout, line))
	}
	for i, want := range []string{" 202 Accepted", "admin"} {
		p := start(curl[i])
		p.WantExit(0)
		if got := p.Stdout(); !strings.Contains(got, want) {
			t.Errorf("%s prints %q, want %q in it", curl[i], got, want)
		}
	}
	p := start(curl[2])
	p.AwaitStderr("> GET /work") // the request has been sent
	if err := syscall.Kill(-server.Process.Pid, syscall.SIGINT); err != nil {
		t.Error(err)
	}
	p.WantExit(0)
	p.AwaitStderr("< HTTP/1.1 200 OK")
	server.WantExit(1) // of go run
	server.AwaitStdout("journalled ")
}

// tryBinary checks the exit status of a program that is not run by go run.
func tryBinary(t *testing.T, checkout, line string) {
	line = strings.ReplaceAll(line, "/tmp/server", filepath.Join(t.TempDir(), "server"))
	line = strings.Replace(line, "&& ", "&& exec ", 1)
	p, _, _ := startServer(t, checkout, line)
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
}

// tryModule checks that a module beside a checkout can use it after the
// commands.
func tryModule(t *testing.T, checkout string, lines []string) {
	dir := filepath.Join(filepath.Dir(checkout), "app")
	for name, text := range map[string]string{
		"go.mod": "module app\n\ngo 1.25.0\n",
		"main.go": `package main

import (
	"net/http"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	quithttp.ListenAndServe(quit.GetQuitEvent(), new(http.Server))
	quit.WaitSignal()
}
`,
	} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range append(lines, "go vet ./...") {
		if out, err := shell(t, dir, line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}
