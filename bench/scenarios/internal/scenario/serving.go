//go:build unix

package scenario

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

var serving = []*Scenario{
	{
		Name: "request", Title: "four requests in flight, of 500 ms",
		Promise: "Each is answered. Lost: requests that are not.",
		Build: func(a *App) {
			a.Servers = []*Server{web(handle(func(http.ResponseWriter, *http.Request) {
				time.Sleep(500 * time.Millisecond)
			}))}
		},
		Drive: func(p *Proc) { p.askAndTerm(4) },
		Judge: func(r *Result) Cell { return lost(4 - r.Answered) },
	},
	{
		Name: "request-db", Title: "… that use a part",
		Promise: "The part is closed after the last use. Lost: requests that found it closed, " +
			"or were not answered.",
		Build: func(a *App) {
			var closed atomic.Bool
			db := part("db", func(ctx ctx) error { closed.Store(true); return nil })
			a.Parts = []*Part{shared(db)}
			a.Servers = []*Server{web(handle(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(500 * time.Millisecond)
				if closed.Load() {
					w.WriteHeader(http.StatusInternalServerError)
				}
			}))}
		},
		Drive: func(p *Proc) { p.askAndTerm(4) },
		Judge: func(r *Result) Cell { return lost(4 - r.Answered + r.missing("closed ", "db")) },
	},
	{
		Name: "request-ctx", Title: "… whose context must not be cancelled by the signal",
		Promise: "The handlers give up when their context is done. Lost: requests that were " +
			"cut off.",
		Build: func(a *App) {
			a.Servers = []*Server{web(handle(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
					w.WriteHeader(http.StatusServiceUnavailable)
				case <-time.After(500 * time.Millisecond):
				}
			}))}
		},
		Drive: func(p *Proc) { p.askAndTerm(4) },
		Judge: func(r *Result) Cell { return lost(4 - r.Answered) },
	},
	{
		Name: "connect", Title: "32 clients, a new connection for each request",
		Promise: "Lost: broken connections. A connection is broken if the client has sent a " +
			"request and gets a reset or an end. A refused connection is not broken. " +
			"(All peers except quit use http.Server.Shutdown, so the figures are those " +
			"of net/http.)",
		Build: usualServer,
		Times: 10,
		Drive: func(p *Proc) { p.loadAndTerm(32, false) },
		Judge: func(r *Result) Cell { return lost(r.Broken) },
	},
	{
		Name: "keep-alive", Title: "32 clients, busy on connections that they keep alive",
		Promise: "Lost: broken connections.",
		Build:   usualServer,
		Times:   10,
		Drive:   func(p *Proc) { p.loadAndTerm(32, true) },
		Judge:   func(r *Result) Cell { return lost(r.Broken) },
	},
	{
		Crash: true,
		Less:  true,
		Name:  "stream", Title: "a stream that never ends",
		Promise: "The process ends within its timeout of 3 s, and its part is closed.",
		Build:   endlessStream,
		Timed:   true,
		Drive:   streamAndTerm,
		Judge: func(r *Result) Cell {
			if n := r.missing("closed ", "db"); n > 0 {
				return lost(n)
			}
			return judgeTime(r)
		},
	},
	{
		Crash: true,
		Less:  true,
		Name:  "stream-told", Title: "… and its handler is told before the end",
		Promise: "Its request's context is cancelled, so that it can clean up, before main " +
			"returns.",
		Build: endlessStream,
		Timed: true,
		Drive: streamAndTerm,
		Judge: func(r *Result) Cell {
			told, ok := r.at("stream told")
			end, ends := r.at("main")
			if !ok || ends && told.After(end) {
				return lost(1)
			}
			return kept(figure(told.Sub(r.Told)))
		},
	},
	{
		Less: true,
		Name: "silent", Title: "a client that connects and says nothing",
		Promise: "It does not delay the shutdown: the process ends within a second.",
		Build: func(a *App) {
			a.Timeout = 10 * time.Second
			quickServer(a)
		},
		Timed: true,
		Drive: func(p *Proc) {
			p.Ready()
			if conn, err := net.Dial("tcp", p.addr); err == nil {
				p.cleanups = append(p.cleanups, func() { conn.Close() })
			}
			time.Sleep(100 * time.Millisecond) // accepted
			term(p)
		},
		Judge: func(r *Result) Cell {
			if r.Took > time.Second {
				return lostBecause(figure(r.Took))
			}
			return kept(figure(r.Took))
		},
	},
	{
		Name: "hijacked", Title: "a hijacked connection, as of a WebSocket",
		Promise: "Its handler, which needs 600 ms after the signal to say goodbye, is awaited.",
		Build: func(a *App) {
			a.Servers = []*Server{web(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					http.Error(w, err.Error(), 500)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "hello\n")
				Say("handling 1")
				time.Sleep(600*time.Millisecond + 2*settle)
				io.WriteString(conn, "goodbye\n")
			})}
		},
		Drive: func(p *Proc) {
			p.Ready()
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			p.Await("handling 1")
			term(p)
			conn.SetDeadline(time.Now().Add(8 * time.Second))
			text, _ := io.ReadAll(conn)
			p.result.Kept = strings.Contains(string(text), "goodbye")
		},
		Judge: func(r *Result) Cell {
			if !r.Kept {
				return lost(1)
			}
			return kept()
		},
	},
	{
		Name: "jobs", Title: "jobs under load: those accepted are done",
		Promise: "Eight clients post jobs, which four workers take from a queue. Lost: jobs " +
			"that were answered with 202 and not done.",
		Build: jobQueue,
		Drive: func(p *Proc) {
			p.Ready()
			wait := p.load(8, false, "POST", "/jobs")
			p.Await("did 100")
			term(p)
			wait()
		},
		Judge: func(r *Result) Cell {
			if r.Answered < 100 { // nothing was tried
				return lost(1, fmt.Sprintf("only %d were accepted", r.Answered))
			}
			return lost(r.Answered-len(r.all("did ")), fmt.Sprint("of ", r.Answered))
		},
	},
}

// handle returns a handler that says how many requests it has begun.
func handle(h http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		Say("handling %d", n.Add(1))
		h(w, r)
	}
}

// usualServer has the usual time of programs in a container. The number of
// connections that break on a busy machine depends on that.
func usualServer(a *App) {
	a.Timeout = 25 * time.Second
	quickServer(a)
}

func quickServer(a *App) {
	a.Servers = []*Server{web(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "ok\n")
	})}
}

func endlessStream(a *App) {
	a.Parts = []*Part{shared(part("db", ok))}
	a.Servers = []*Server{web(func(w http.ResponseWriter, r *http.Request) {
		Say("handling 1")
		for {
			select {
			case <-r.Context().Done():
				Say("stream told")
				return
			case <-time.After(50 * time.Millisecond):
				io.WriteString(w, "data: x\n\n")
				http.NewResponseController(w).Flush()
			}
		}
	})}
}

// jobQueue answers each job with 202 once it is in the queue.
func jobQueue(a *App) {
	queue := make(chan int64, 10_000)
	var n atomic.Int64
	a.Servers = []*Server{web(func(w http.ResponseWriter, r *http.Request) {
		queue <- n.Add(1)
		w.WriteHeader(http.StatusAccepted)
	})}
	do := func(job int64) {
		time.Sleep(time.Millisecond)
		Say("did %d", job)
	}
	for i := range 4 {
		w := worker(fmt.Sprint("w", i), func(ctx ctx) error {
			for {
				select {
				case job := <-queue:
					do(job)
				case <-ctx.Done():
					for {
						select {
						case job := <-queue:
							do(job)
						default:
							return ctx.Err()
						}
					}
				}
			}
		})
		w.Last = true
		a.Workers = append(a.Workers, w)
	}
}

func (p *Proc) askAndTerm(n int) {
	p.Ready()
	wait := p.ask(n, "/")
	term(p)
	wait()
}

func (p *Proc) loadAndTerm(n int, keep bool) {
	p.Ready()
	wait := p.load(n, keep, "GET", "/")
	time.Sleep(200 * time.Millisecond)
	term(p)
	wait()
}

func streamAndTerm(p *Proc) {
	p.Ready()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		return
	}
	p.cleanups = append(p.cleanups, func() { conn.Close() })
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	go io.Copy(io.Discard, conn) // ends when the connection is closed
	p.Await("handling 1")
	term(p)
}
