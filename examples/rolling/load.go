//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	patience = time.Minute      // a client waits this long for an answer: longer than HAProxy does
	maxIdle  = 10 * time.Second // of a connection: HAProxy closes it after 50 s
)

// answer is the outcome of a request.
type answer struct {
	latency time.Duration // from the moment when the request was due
	lost    string        // how it was lost; empty if it was answered as it should be
}

// load sends n requests to addr, rate a second, and then more until enough is
// closed. It returns all of them when each has its answer. Once ctx is done, it
// returns early, with those that were sent. It is an open loop: requests are
// sent when they are due, regardless of how many are still unanswered. So it
// does not spare a slow service, and a wait counts in full.
//
// It has a client of its own, since http.Client sends a GET again if the first
// one gets no answer. A client must not do that for a POST, so this one never
// does it.
func load(ctx context.Context, enough <-chan struct{}, addr string, n, rate int) []*answer {
	var answers []*answer
	c := &client{addr: addr}
	defer c.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		if ctx.Err() != nil {
			return answers
		}
		if i >= n {
			select {
			case <-enough:
				return answers
			default:
			}
		}
		a := new(answer)
		answers = append(answers, a)
		wg.Go(func() {
			d := 20 * time.Millisecond
			if i%4 == 0 {
				d = time.Millisecond
			}
			lost := c.get(d)
			*a = answer{time.Since(due), lost}
		})
	}
}

// client keeps connections alive, as many as it needs.
type client struct {
	addr string

	mu   sync.Mutex // guards the field below
	idle []*conn    // the most recently used one is last
}

type conn struct {
	net.Conn
	r    *bufio.Reader
	used time.Time
}

// get asks once for work that takes d. It returns how the answer was lost, or
// "".
func (c *client) get(d time.Duration) (lost string) {
	conn, err := c.conn()
	if err != nil {
		return kind(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(
		conn, "GET /work?d=%v HTTP/1.1\r\nHost: rolling\r\n\r\n", d); err != nil {
		conn.Close()
		return kind(err)
	}
	resp, err := http.ReadResponse(conn.r, nil)
	if err != nil {
		conn.Close()
		return kind(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Close {
		conn.Close()
	} else {
		c.keep(conn)
	}
	switch want := fmt.Sprintln("worked for", d); {
	case err != nil:
		return kind(err)
	case resp.StatusCode != http.StatusOK:
		return strconv.Itoa(resp.StatusCode)
	case string(body) != want:
		return "wrong answer"
	}
	return ""
}

// kind names the way in which a request without an answer was lost.
func kind(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "timeout"
	}
	return "connection closed" // refused, reset, or closed before the end of the answer
}

func (c *client) conn() (*conn, error) {
	c.mu.Lock()
	for len(c.idle) > 0 {
		last := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if time.Since(last.used) < maxIdle {
			c.mu.Unlock()
			return last, nil
		}
		last.Close()
	}
	c.mu.Unlock()
	nc, err := net.DialTimeout("tcp", c.addr, patience)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, r: bufio.NewReader(nc)}, nil
}

func (c *client) keep(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.used = time.Now()
	c.idle = append(c.idle, conn)
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		conn.Close()
	}
}
