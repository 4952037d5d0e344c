package quit_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// asConsole, when set, makes the test binary a program in a console of its own.
const asConsole = "QUIT_TEST_AS_CONSOLE"

func TestMain(m *testing.M) {
	if os.Getenv(asConsole) == "" {
		os.Exit(m.Run())
	}
	time.AfterFunc(5*time.Minute, func() { panic("no test has ended this process") })
	inConsole()
}

// inConsole waits for a signal and obeys the lines on stdin.
func inConsole() {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	goOn := make(chan struct{})
	q.RegisterStopFunc(func() { fmt.Println("closing"); <-goOn })
	q.NotifySignal()
	fmt.Println("ready")
	go func() { // ends with the process
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if lines.Text() == "Ctrl-C" {
				ctrlC()
			} else {
				close(goOn)
			}
		}
	}()
	err := quit.WaitSignal()
	var sig *quit.SignalError
	fmt.Printf("returned %v, a signal %t: %v\n", err, errors.As(q.Cause(), &sig), q.Cause())
}

// ctrlC sends a Ctrl-C event to all processes of the console.
func ctrlC() {
	generate := syscall.NewLazyDLL("kernel32.dll").NewProc("GenerateConsoleCtrlEvent")
	if ok, _, err := generate.Call(syscall.CTRL_C_EVENT, 0); ok == 0 {
		fmt.Println(err)
	}
}

// TestCtrlC sends Ctrl-C to the console of a program. The first one shuts the
// program down. The second one ends it at once.
func TestCtrlC(t *testing.T) {
	for _, test := range []struct {
		name string
		want int // exit status
	}{
		{"once", 0},
		{"twice", 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startInConsole(t)
			p.expect("ready")
			p.tell("Ctrl-C")
			p.expect("closing")
			if test.want == 0 {
				p.tell("go on")
				p.expect("returned <nil>, a signal true: quit: received signal: interrupt")
			} else {
				time.Sleep(600 * time.Millisecond) // earlier, it would count as the first one
				p.tell("Ctrl-C")
			}
			p.Wait() // its error is the exit status
			if got := p.ProcessState.ExitCode(); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
			}
			const message = "received signal: interrupt, ending at once"
			atOnce := strings.Contains(p.stderr.String(), message)
			if atOnce != (test.want == 130) {
				t.Errorf("stderr says that the process ends at once: %t, want %t\n%s",
					atOnce, test.want == 130, &p.stderr)
			}
		})
	}
}

// console is a program in a console of its own.
type console struct {
	*exec.Cmd
	t      *testing.T
	stdout *bufio.Reader
	stderr strings.Builder
	tell   func(line string)
}

func startInConsole(t *testing.T) *console {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &console{Cmd: exec.Command(self), t: t}
	p.Env = append(os.Environ(), asConsole+"=1")
	const noWindow = 0x08000000 // CREATE_NO_WINDOW: a console without a window
	p.SysProcAttr = &syscall.SysProcAttr{CreationFlags: noWindow}
	p.Stderr = &p.stderr
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.tell = func(line string) { fmt.Fprintln(stdin, line) }
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	return p
}

// expect fails the test unless want is the next line on stdout.
func (p *console) expect(want string) {
	p.t.Helper()
	if got, _ := p.stdout.ReadString('\n'); got != want+"\n" {
		p.t.Fatalf("the process said %q, want %q", got, want)
	}
}
