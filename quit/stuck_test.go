package quit_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// reader is a closer that waits for an answer that never comes.
type reader struct{ acknowledged chan struct{} }

func (r *reader) Close() error { return r.leaveGroup() }

func (r *reader) leaveGroup() error {
	<-r.acknowledged
	return nil
}

// stuckShutdown is a shutdown with a closer that hangs, and one that fails.
func stuckShutdown(hang chan struct{}) quit.Report {
	q := quietEvent()
	q.Delay = 2 * time.Second
	q.RegisterCloser(closerFunc(func() error { time.Sleep(40 * time.Millisecond); return nil }), quit.Name("database"), quit.AfterDrain())
	q.RegisterCloser(closerFunc(func() error { return errors.New("write: broken pipe") }), quit.Name("journal"))
	q.RegisterCloser(&reader{hang})
	q.RegisterStopFunc(func() { time.Sleep(1200 * time.Millisecond) }, quit.Name("http server"))
	q.Go(func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(23 * time.Second)
		return nil
	}, quit.Name("worker"))
	q.Fail(&quit.SignalError{Signal: sigterm{}})
	q.GracefulStop()
	return q.Report()
}

type sigterm struct{}

func (sigterm) Signal()        {}
func (sigterm) String() string { return "terminated" }

// TestDocsStuck keeps what the documentation shows of a stuck shutdown true: it
// is what a real one comes to. With -update it is written anew.
func TestDocsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		report := stuckShutdown(hang)
		close(hang)
		root, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(report.String(), filepath.ToSlash(root), "/src")
		file := filepath.Join("..", "docs", "stuck.txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the report of a stuck shutdown =\n%s\nand %s has\n%s", got, file, want)
		}
		readme, err := os.ReadFile(filepath.Join("..", "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), "```\n"+string(want)+"```") {
			t.Errorf("the README does not show %s as it is", file)
		}
	})
}
