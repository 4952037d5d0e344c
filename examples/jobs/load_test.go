//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// load is a number of clients that send requests until they are stopped. Each
// request is sent exactly once, unlike those of an http.Client, which retries
// some.
type load struct {
	t       testing.TB
	clients sync.WaitGroup
	stopped chan struct{}
	killed  bool // so that requests without an answer are not failures

	mu      sync.Mutex // guards the fields below
	changed *sync.Cond // uses mu; signalled for each answer
	addr    string     // where the service listens now
	answers []response
	refused int // connections: nothing was sent
	broken  int // requests that got no answer
	late    int // the same, but on a connection that had been idle for a while
}

type response struct {
	status int
	job    int64 // accepted with a 202
	trace  string
}

// The service waits 250 ms for a request on an idle connection. A later
// request, for example from a client on a busy machine, has no promise of an
// answer.
const lateAfter = 200 * time.Millisecond

// The jobs of the load. The last one is invalid.
var texts = []string{"0s", "1ms", "2ms", "5ms", "10ms", "soon"}

func startLoad(t testing.TB, clients int, addr string, killed bool) *load {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := &load{t: t, killed: killed, stopped: make(chan struct{}), addr: addr}
	l.changed = sync.NewCond(&l.mu)
	for n := range clients {
		l.clients.Go(func() { l.client(rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	t.Cleanup(l.stop)
	return l
}

// stop waits for the answers to all requests sent.
func (l *load) stop() {
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.clients.Wait()
}

// to directs all later connections of the clients to addr.
func (l *load) to(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = addr
}

// await waits for n more answers with the given status.
func (l *load) await(n, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for seen := len(l.answers); n > 0; {
		for ; seen < len(l.answers); seen++ {
			if l.answers[seen].status == status {
				n--
			}
		}
		if n > 0 {
			l.changed.Wait()
		}
	}
}

func (l *load) client(random *rand.Rand) {
	var conn net.Conn
	var r *bufio.Reader
	var last time.Time // when it was made or used: it cannot have been idle before that
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for job := int64(0); ; {
		select {
		case <-l.stopped:
			return
		case <-time.After(time.Duration(random.IntN(8)) * time.Millisecond):
		}
		if conn == nil {
			l.mu.Lock()
			addr := l.addr
			l.mu.Unlock()
			var err error
			last = time.Now()
			if conn, err = net.Dial("tcp", addr); err != nil {
				conn = nil
				l.mu.Lock()
				l.refused++
				l.mu.Unlock()
				continue
			}
			conn.SetDeadline(time.Now().Add(3 * time.Minute))
			r = bufio.NewReader(conn)
		}

		// Every fourth request asks for the last job instead, once there is
		// one.
		method, path, body := "POST", "/jobs", texts[random.IntN(len(texts))]
		if job != 0 && random.IntN(4) == 0 {
			method, path, body = "GET", fmt.Sprint("/jobs/", job), ""
		}
		trace := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64()|1)
		sent := time.Now()
		_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\n"+
			"Traceparent: 00-%s-%016x-01\r\nContent-Length: %d\r\n\r\n%s",
			method, path, trace, random.Uint64()|1, len(body), body)
		gap := time.Since(last)
		last = sent
		var resp *http.Response
		var content []byte
		if err == nil {
			if resp, err = http.ReadResponse(r, nil); err == nil {
				content, err = io.ReadAll(resp.Body)
			}
		}

		if err != nil || resp.Close {
			conn.Close()
			conn = nil
		}
		l.mu.Lock()
		switch {
		case err != nil && gap > lateAfter:
			l.late++
		case err != nil:
			if l.broken++; !l.killed {
				l.t.Errorf("%s %s, %v after the last one: no answer: %v", method, path, gap, err)
			}
		default:
			a := response{status: resp.StatusCode, trace: trace}
			if a.status == http.StatusAccepted {
				if job, err = strconv.ParseInt(
					strings.TrimSpace(string(content)), 10, 64); err != nil {
					l.t.Errorf("POST /jobs = 202 with %q", content)
				}
				a.job = job
			}
			l.answers = append(l.answers, a)
			l.changed.Broadcast()
		}
		l.mu.Unlock()
	}
}

// count is the outcome of the jobs and requests of a load.
type count struct {
	answered, accepted int
	lost, twice        int // of the accepted jobs
	begunAgain         int // of all jobs, by the spans of the workers
	spans, missing     int // of answered requests and accepted jobs
}

// count compares the answers of the clients with the rows of the database and
// the spans of the collector. The service must have ended.
func (l *load) count(p *postgres, c *collector) (n count) {
	l.t.Helper()
	done := make(map[int64]int)
	rows, err := p.db.Query(l.t.Context(), `select job from done`)
	must(l.t, err)
	for rows.Next() {
		var job int64
		must(l.t, rows.Scan(&job))
		done[job]++
	}
	must(l.t, rows.Err())
	for _, times := range done {
		if times > 1 {
			n.twice++
		}
	}
	requests, work, jobs := c.counts()
	for _, times := range jobs {
		if times > 1 {
			n.begunAgain++
		}
	}
	has := func(spans int) {
		if n.spans++; spans == 0 {
			n.missing++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		n.answered++
		has(requests[a.trace])
		if a.job != 0 {
			n.accepted++
			has(work[a.trace]) // regardless of which process did it
			if done[a.job] == 0 {
				n.lost++
			}
		}
	}
	return n
}

func (n count) String() string {
	return fmt.Sprintf("%d requests answered, %d jobs accepted: %d lost, %d done twice, "+
		"%d begun again; %d spans, %d of them missing",
		n.answered, n.accepted, n.lost, n.twice, n.begunAgain, n.spans, n.missing)
}
