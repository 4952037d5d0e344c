// Package quit shuts a program down gracefully. On SIGTERM, on Ctrl-C or after
// a failure, it calls the registered closers and waits for the counted
// goroutines, all within a time limit.
//
//	func main() {
//		q := quit.GetQuitEvent()
//		q.NotifySignal() // handles signals during the start too
//
//		db := open()
//		q.RegisterCloser(db, quit.AfterDrain()) // closed last: all use it
//
//		q.Go(func(ctx context.Context) error {
//			for db.wait(ctx) { // takes no job after the fire
//				if err := db.doNext(q.WorkContext()); err != nil {
//					return err // shuts the program down
//				}
//			}
//			return nil
//		})
//
//		srv := &http.Server{
//			Addr:        ":8080",
//			Handler:     handler(db),
//			ReadTimeout: 10 * time.Second,
//		}
//		if _, err := quithttp.ListenAndServe(q, srv); err != nil {
//			q.Fail(err)
//		}
//
//		if err := quit.WaitSignal(); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// Three rules make such a program correct:
//
//   - Closers run before the drain, which is the wait for counted goroutines.
//     Anything that these goroutines use must be closed [AfterDrain].
//   - [QuitEvent.Fire] only announces the shutdown. [WaitSignal],
//     [QuitEvent.Shutdown] or [QuitEvent.GracefulStop] runs it, and main must
//     wait in one of them.
//   - The fire cancels [QuitEvent.Context], but not [QuitEvent.WorkContext].
//     The first tells goroutines to take no more work. The second is for the
//     work in flight.
//
// Package [github.com/gracefulgo/graceful/quit/quithttp] runs HTTP servers that
// stop without breaking a connection. It also has a readiness probe, a handler
// that counts requests as goroutines, and a status page. Package
// [github.com/gracefulgo/graceful/quit/quittest] gives a test its own event.
//
// # What happens on SIGTERM
//
//  1. The event fires: Done is closed, HasFired reports true, and Context is
//     cancelled.
//  2. Delay passes, so that load balancers notice. By default there is none.
//  3. The closers are called one at a time, the last registered first.
//  4. The drain waits until no counted goroutine is left, or until its time is
//     over.
//  5. The AfterDrain closers are called one at a time, the last registered
//     first.
//  6. WaitSignal returns nil, or an error with a line for each failure. Then
//     main returns.
//
// Signals are handled from the moment [QuitEvent.NotifySignal] or WaitSignal is
// called. NotifySignal comes first, or a signal kills a program that starts,
// with the requests that it already serves. The documentation of that method
// describes how a second Ctrl-C ends the process at once.
//
// # Guarantees
//
// Every closer that was not unregistered is called exactly once. This holds
// even if other closers hang, fail, panic or call runtime.Goexit, if many
// goroutines shut down at once, and regardless of when the closer was
// registered.
//
// A failure does not stop the shutdown, and is never lost. It is logged when it
// happens. The shutdown returns an error with a line for each failure. The line
// of a closer has its name and the place where it was registered.
//
// Importing the package has no effect. User code never runs with a lock held.
// A log handler that blocks, or an error whose methods panic, does not hold up
// any closer.
//
// # Time limits
//
// The shutdown may take [QuitEvent.Timeout] in all, by default 25 seconds. A
// reserve is kept back: a tenth of that, but one second at most. The share of a
// step is 4/5 of the time that is left before the reserve. The context of the
// step expires at the end of the share. If the step has not returned after
// another eighth of the share, it is abandoned: it is reported, and no longer
// waited for. So outside the reserve no step takes more than 9/10 of the time
// that was left.
//
// Time takes precedence over order once little time is left before the reserve:
// less than half of the reserve, or less than a hundredth of all the time
// before it if that is more. This happens after two closers have hung, or after
// the process stood still. The remaining closers of the phase are then called
// all at once, in half of the time left, or in all of it if no AfterDrain
// closer waits. The drain is given up, even if it has not begun. The AfterDrain
// closers are called all at once in the rest. So every closer has at least 2/5
// of the reserve with a live context, however many closers hang before it, and
// the shutdown still ends in time.
//
// # Nested events
//
// A QuitEvent is a [QuitCloser], so it can be registered with another event,
// its parent. When its turn comes, it fires, calls its closers and drains its
// counter, all within the share that its parent gives it. Its goroutines learn
// of the shutdown only then. It logs to its own Logger. The parent's report
// includes its steps. With a nested event, workers can be drained before the
// resources that they use are closed. If the nested event is Concurrent, its
// closers are called all at once.
//
// A failure goes up. If a registered event fires by itself with a failure, by
// Fail or by an error or a panic in Go, its parent fires at once with the same
// cause. The parent's result has the failure once, under the step of the nested
// event. An event that is fired or shut down without a failure stops alone.
//
// # Limits
//
// SIGKILL, [os.Exit] and [log.Fatal] end a process without a shutdown. A closer
// that was abandoned keeps running, since Go has no way to end a goroutine from
// outside.
//
// A closer may wait for the shutdown of its own event in another goroutine. It
// must pass its context on, or it waits until its share is over. A counted
// goroutine that waits for the drain holds the drain up until its time is over.
//
// [net/http.Server.Shutdown] breaks connections, unlike the shutdown of a
// server of package quithttp. It does not wait for hijacked connections, such
// as WebSockets. Count them, as Track of package quithttp does.
//
// The package starts goroutines for the funcs of Go, for each handled signal,
// for the log while there are records to hand over, and during a shutdown. An
// abandoned closer, a force func of [Graceful] or a log handler that blocks can
// leave a goroutine behind until it returns.
package quit
