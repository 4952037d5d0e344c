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
//		srv := &http.Server{Handler: handler(db), ReadTimeout: 10 * time.Second}
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
//  4. The drain waits until no counted goroutine is left, or its time is over.
//  5. The AfterDrain closers are called, the last registered first.
//  6. WaitSignal returns what failed, and main returns.
//
// Signals are taken from the call of WaitSignal on, or of [QuitEvent.NotifySignal],
// which a program that takes its time to start calls first.
//
// # The rules
//
// Every closer that was not unregistered is called exactly once: whatever the
// others do, hang, fail, panic or call runtime.Goexit; however many goroutines
// shut down at once; and whenever it was registered.
//
// The time is bounded and fairly shared. The shutdown has [QuitEvent.Timeout],
// 25 seconds by default. Of that a reserve is kept back: a tenth, and one
// second at most. A step gets 4/5 of the rest that is left: its share, at the
// end of which its context expires. A step that does not return then has
// another eighth of its share. After that it is abandoned: it is reported, and
// no longer waited for. So outside the reserve a step takes 9/10 of what was
// left at most.
//
// Once less of that time is left than half of the reserve, or than a hundredth
// of the time if that is more, time goes before order. This takes two closers
// that hang, or a process that stood still. The closers that are left in the
// phase are called all at once, in one half of what is left then, or in all of
// it if no AfterDrain closer waits. The drain is given up, even if it has not
// begun yet. The AfterDrain closers are called all at once in the rest. So
// every closer has at least 2/5 of the reserve with a live context, however
// many before it hang, and the shutdown still ends in time.
//
// A failure stops nothing and is never lost: it is logged when it happens, and
// is in the error that the shutdown returns, in a line of its own with the name
// of the closer and where it was registered.
//
// The package does nothing when it is imported. It runs no user code with a
// lock held, and none that can hurt the shutdown: a log handler that blocks, or
// an error whose methods panic, holds up no closer. It starts goroutines for
// the funcs of Go, for each signal that is handled, for the log while there is
// something to log, and while a shutdown runs. The goroutine of a closer that
// was abandoned, of a force func of Graceful, or of a log handler that blocks
// can be left behind until that returns.
//
// # Events within events
//
// A QuitEvent can be registered with another, by RegisterQuitCloser. When its
// turn comes, it fires, calls its closers and drains its counter within its
// parent's share; only then do its goroutines learn of the end. Its Logger is
// its own. This is how workers are drained before what they use is closed, and
// how a group is closed at once. Its steps are in the parent's report.
//
// A failure goes up. If a registered event fires by itself with a failure, by
// Fail or by an error or a panic of Go, its parent fires with the same cause at
// once. The failure is in the parent's result once, under the event's step. An
// event that is fired or shut down without a failure stops alone.
//
// # The limits
//
// SIGKILL, [os.Exit] and log.Fatal end a process without a shutdown. A closer
// that was abandoned cannot be stopped: Go has no way to end a goroutine from
// outside. A closer that waits for its own event's shutdown in another
// goroutine, without passing its context on, waits until its share is over; so
// does a goroutine that is counted and waits for the drain. [net/http.Server]
// does not wait for hijacked connections, such as WebSockets: count them, as
// Track of package quithttp does. Its Shutdown breaks connections; the stop of
// a server of quithttp does not.
package quit
