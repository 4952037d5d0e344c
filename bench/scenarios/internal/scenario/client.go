//go:build unix

package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// client sends requests over one connection at a time, each of them once. It
// distinguishes a refused connection from a broken one: on the latter, it has
// sent data and gets an end or a reset instead of an answer.
type client struct {
	addr string
	keep bool // whether it uses a connection again
	conn net.Conn
	r    *bufio.Reader
	err  error     // the last one
	sent time.Time // the last request
}

// Break is a connection that broke.
type Break struct {
	Sent, At time.Time // the request, and the break
	Err      error
}

type outcome int

const (
	answered outcome = iota
	refused
	broken
)

// get sends one request and returns the status of the answer.
func (c *client) get(method, path string) (status int, body string, o outcome) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
		if err != nil {
			return 0, "", refused
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	c.sent = time.Now()
	if _, err := fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		method, path); err != nil {
		c.fail(err)
		return 0, "", broken
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.fail(err)
		return 0, "", broken
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.fail(err)
		return 0, "", broken
	}
	if resp.Close || !c.keep {
		c.close()
	}
	return resp.StatusCode, string(text), answered
}

func (c *client) fail(err error) {
	c.err = err
	c.close()
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// load makes n clients send requests one after the other, until one is refused
// or breaks. The returned function waits for all of them.
func (p *Proc) load(n int, keep bool, method, path string) (wait func()) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards the figures of the result
	for range n {
		wg.Go(func() {
			c := &client{addr: p.addr, keep: keep}
			defer c.close()
			// Connections that break are followed by others, until one is
			// refused; a server that answers for ever is left.
			for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
				_, _, o := c.get(method, path)
				mu.Lock()
				switch o {
				case answered:
					p.result.Answered++
				case broken:
					p.result.Broken++
					p.result.Breaks = append(p.result.Breaks, Break{c.sent, time.Now(), c.err})
				}
				mu.Unlock()
				if o == refused || !p.Alive() {
					return
				}
			}
		})
	}
	return wg.Wait
}

// ask sends n requests at once, a connection each, and waits until the server
// has begun to answer them all. The returned function waits for the answers.
func (p *Proc) ask(n int, path string) (wait func()) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range n {
		wg.Go(func() {
			c := &client{addr: p.addr}
			status, _, o := c.get("GET", path)
			mu.Lock()
			defer mu.Unlock()
			if o == answered && status == http.StatusOK {
				p.result.Answered++
			} else {
				p.result.Broken++
			}
		})
	}
	for i := range n {
		p.Await(fmt.Sprintf("handling %d", i+1))
	}
	return wg.Wait
}
