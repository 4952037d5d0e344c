// Package quit ends a program well. It is a registry of what must be closed, a
// counter of goroutines that must finish, and the signal that starts it all.
//
//	func main() {
//		q := quit.GetQuitEvent()
//
//		db := open()
//		q.RegisterCloser(db, quit.AfterDrain()) // last: workers use it
//
//		q.Go(func(ctx context.Context) error { return work(ctx, db) })
//
//		srv := &http.Server{Handler: handler(db)}
//		q.RegisterQuitCloser(srv) // first: it lets in new work
//		q.Go(func(context.Context) error { return srv.ListenAndServe() }, quit.Ignore(http.ErrServerClosed))
//
//		if err := quit.WaitSignal(); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// # What happens on SIGTERM
//
//  1. The event fires: Done is closed, HasFired is true, Context is cancelled.
//  2. Delay passes, for load balancers to notice; by default there is none.
//  3. The closers are called, the last registered first, one at a time.
//  4. The drain waits until no counted goroutine is left.
//  5. The AfterDrain closers are called, the last registered first.
//  6. WaitSignal returns what failed, and main returns.
//
// Signals are taken from the call of WaitSignal on, or of [QuitEvent.NotifySignal],
// which a program that takes its time to start calls first.
//
// # The rules
//
// Every closer that was not unregistered is called exactly once, whatever the
// others do: hang, fail, panic or call runtime.Goexit; however many goroutines
// shut down at once; and whenever it was registered.
//
// The time is bounded and fairly shared. The shutdown has [QuitEvent.Timeout], 25
// seconds by default. A step gets 4/5 of what is left of it: its share, at the end
// of which its context expires. A step that does not return then has another eighth
// of its share; after that it is abandoned, which means reported, and the shutdown
// goes on without it. So each step has 9/10 of what was left at most, and those after
// it are called in time, with a live context. What is left shrinks to a tenth with each
// that hangs: after four, of 25 seconds, to milliseconds, where timers and the
// scheduler count. Once nothing is left, each that follows still gets a millisecond.
//
// A failure stops nothing and is never lost: all are in the error that the
// shutdown returns, each in a line of its own with the name of the closer and
// where it was registered.
//
// The package does nothing when it is imported, and runs no user code with a lock
// held. It starts a goroutine for a func of Go, for a NotifySignal in effect and
// while a shutdown runs; what can be left behind is the goroutine of a
// closer that was abandoned, or of a force func of Graceful, until that returns.
//
// # What it logs
//
// Attributes, not sentences; a handler may go by the messages, which are part of the API.
//
//	Info   quit: fired                  cause
//	Info   quit: stopped                took, failures
//	Debug  quit: step begins            step, site, share (0: no limit)
//	Debug  quit: step ended             step, site, took
//	Warn   quit: step still running     step, site, for, left, stacks; after 5 s, then ever rarer
//	Error  quit: step failed            step, site, took, err, stacks; stack of a panic
//	Error  quit: step abandoned         the same, or the stacks later: quit: stacks of abandoned step
//	Debug  quit: abandoned step returned; Error: quit: abandoned step failed
//	Error  quit: panic                  goroutine, panic, stack
//	Error  quit: failure after the shutdown   err
//	Warn   quit: nil ignored            in, site
//	Warn   quit: closer has Shutdown too, RegisterCloser calls Close   closer, site
//
// Steps that are nobody's closers, the delay and the drain, have no site.
//
// # The limits
//
// SIGKILL, [os.Exit] and log.Fatal end a process without a shutdown. A closer that
// was abandoned cannot be stopped: Go has no way to end a goroutine from outside. A
// closer that waits for its own event's shutdown in another goroutine, without passing
// its context on, waits until its share is over; so does a goroutine that is
// counted and waits for the drain. [net/http.Server] does not wait for hijacked
// connections, such as WebSockets: count them with AddGoroutine. It drops a request
// that it reads once its Shutdown has begun: Delay is the time for clients to leave before.
package quit
