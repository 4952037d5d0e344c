package quittest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quittest"
)

// startConsumer is the code to test. It uses the event of the process.
func startConsumer() {
	quit.GetQuitEvent().Go(func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, quit.Name("consumer"))
}

func TestConsumer(t *testing.T) {
	q := quittest.New(t)
	startConsumer() // uses quit.GetQuitEvent()
	q.Fire()
	q.WaitGoroutines()
}

// In a file of tests, test is a func TestConsumer(t *testing.T).
func ExampleNew() {
	test := func(t testing.TB) {
		q := quittest.New(t)
		startConsumer() // uses quit.GetQuitEvent()
		q.Fire()
		q.WaitGoroutines() // until the consumer has ended
	}
	fmt.Println("failed:", run(test) != "")
	// Output: failed: false
}

// At the end of the test the event is shut down. The test fails if a closer
// does, or if a goroutine is left.
func ExampleNew_failure() {
	test := func(t testing.TB) {
		q := quittest.New(t)
		q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
			return errors.New("connection lost")
		}), quit.Name("database"))
	}
	failure := run(test)
	fmt.Println("failed:", failure != "")
	fmt.Println("with the closer's name:", strings.Contains(failure, "✗ database ("))
	// Output:
	// failed: true
	// with the closer's name: true
}

// run calls a test as "go test" does, and returns its failures.
func run(test func(t testing.TB)) (failures string) {
	t := new(exampleT)
	test(t)
	return t.end()
}

// exampleT stands for a *testing.T, which only "go test" makes.
type exampleT struct{ recorder }

func (*exampleT) Helper()            {}
func (*exampleT) Name() string       { return "TestConsumer" }
func (*exampleT) Setenv(_, _ string) {}

// recorder is a testing.TB that records failures. Its end method calls the
// cleanups.
type recorder struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, a ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, a...))
}
func (r *recorder) Fatal(a ...any) { r.failures = append(r.failures, fmt.Sprint(a...)) }

// end ends the test and returns its failures.
func (r *recorder) end() string {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.failures, "\n")
}
