package closers

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func closeGRPCServer(q *quit.QuitEvent, s *grpc.Server) {
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop))
}

func closeGRPCClient(q *quit.QuitEvent, conn *grpc.ClientConn) {
	q.RegisterCloser(conn, quit.AfterDrain())
}

// grpcServer serves every method with handle, and connects to it. The channel
// gets a value when a call begins.
func grpcServer(
	t *testing.T, handle func(grpc.ServerStream) error,
) (*grpc.Server, *grpc.ClientConn, <-chan struct{}) {
	began := make(chan struct{}, 10)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		began <- struct{}{}
		return handle(stream)
	}))
	ln := bufconn.Listen(1 << 20)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return ln.DialContext(ctx)
		}))
	must(t, err)
	return s, conn, began
}

// call calls a method, and sends its error to the channel.
func call(conn *grpc.ClientConn) <-chan error {
	done := make(chan error, 1)
	go func() {
		done <- conn.Invoke(context.Background(), "/service/method", new(emptypb.Empty),
			new(emptypb.Empty))
	}()
	return done
}

func TestGRPCServer(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		s, conn, began := grpcServer(t, func(stream grpc.ServerStream) error {
			<-q.Done()
			return stream.SendMsg(new(emptypb.Empty))
		})
		defer conn.Close()
		closeGRPCServer(q, s)
		done := call(conn)
		receive(t, began, "call")
		stops(t, q)
		if err := receive(t, done, "answer"); err != nil {
			t.Errorf("the call = %v, want nil", err)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		s, conn, began := grpcServer(t, func(stream grpc.ServerStream) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		})
		defer conn.Close()
		closeGRPCServer(q, s)
		done := call(conn)
		receive(t, began, "call")
		fails(t, q, context.DeadlineExceeded)
		if err := receive(t, done, "end of the call"); status.Code(err) != codes.Unavailable {
			t.Errorf("the call = %v, want the code Unavailable", err)
		}
	})
	t.Run("hang: handler", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		s, conn, began := grpcServer(t, func(stream grpc.ServerStream) error {
			<-end
			return nil
		})
		defer conn.Close()
		closeGRPCServer(q, s)
		call(conn)
		receive(t, began, "call")
		hangs(t, q, "google.golang.org/grpc.(*Server).GracefulStop")
		close(end)
	})
}

func TestGRPCClient(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		_, conn, _ := grpcServer(t, func(stream grpc.ServerStream) error {
			return stream.SendMsg(new(emptypb.Empty))
		})
		closeGRPCClient(q, conn)
		if err := receive(t, call(conn), "answer"); err != nil {
			t.Fatal(err)
		}
		stops(t, q)
		if err := conn.Close(); status.Code(err) != codes.Canceled {
			t.Errorf("a second Close() = %v, want the code Canceled", err)
		}
	})
	t.Run("call in flight", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		_, conn, began := grpcServer(t, func(stream grpc.ServerStream) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		})
		closeGRPCClient(q, conn)
		done := call(conn)
		receive(t, began, "call")
		stops(t, q) // though the call runs
		if err := receive(t, done, "end of the call"); status.Code(err) != codes.Canceled {
			t.Errorf("the call = %v, want the code Canceled", err)
		}
	})
}

func closeHTTPServer(q *quit.QuitEvent, srv *http.Server) (net.Addr, error) {
	return quithttp.ListenAndServe(q, srv)
}

func TestHTTPServer(t *testing.T) {
	t.Parallel()
	get := func(addr net.Addr) <-chan error {
		done := make(chan error, 1)
		go func() {
			resp, err := new(http.Transport).RoundTrip(
				httptest.NewRequest("GET", "http://"+addr.String(), nil))
			if err == nil {
				resp.Body.Close()
			}
			done <- err
		}()
		return done
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		began := make(chan struct{})
		addr, err := closeHTTPServer(q, &http.Server{Addr: "127.0.0.1:0",
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				close(began)
				<-q.Done()
			})})
		must(t, err)
		done := get(addr)
		receive(t, began, "request")
		stops(t, q)
		if err := receive(t, done, "answer"); err != nil {
			t.Errorf("the request = %v, want an answer", err)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		began := make(chan struct{})
		addr, err := closeHTTPServer(q, &http.Server{Addr: "127.0.0.1:0",
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(began)
				<-r.Context().Done()
			})})
		must(t, err)
		done := get(addr)
		receive(t, began, "request")
		late(t, q)
		if err := receive(t, done, "answer"); err != nil {
			t.Errorf("the request = %v, want an answer", err)
		}
	})
	t.Run("hang: handler", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		began, end := make(chan struct{}), make(chan struct{})
		addr, err := closeHTTPServer(q, &http.Server{Addr: "127.0.0.1:0",
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				close(began)
				<-end
			})})
		must(t, err)
		done := get(addr)
		receive(t, began, "request")
		late(t, q)
		if err := receive(t, done, "end of the request"); err == nil {
			t.Error("the request was answered")
		}
		close(end)
	})
}

func closeHTTPClient(q *quit.QuitEvent, client *http.Client) {
	q.RegisterStopFunc(client.CloseIdleConnections, quit.AfterDrain())
}

func TestHTTPClient(t *testing.T) {
	t.Parallel()
	// serve starts a server. The channel gets a value at the end of each
	// connection.
	serve := func(t *testing.T, h http.HandlerFunc) (*httptest.Server, <-chan struct{}) {
		closed := make(chan struct{}, 10)
		s := httptest.NewUnstartedServer(h)
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed <- struct{}{}
			}
		}
		s.Start()
		t.Cleanup(s.Close)
		return s, closed
	}
	get := func(client *http.Client, url string) error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		s, closed := serve(t, func(http.ResponseWriter, *http.Request) {})
		client := &http.Client{Transport: new(http.Transport)}
		closeHTTPClient(q, client)
		must(t, get(client, s.URL))
		stops(t, q)
		receive(t, closed, "end of the connection")
	})
	t.Run("request in flight", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		began, end := make(chan struct{}), make(chan struct{})
		s, closed := serve(t, func(http.ResponseWriter, *http.Request) {
			close(began)
			<-end
		})
		client := &http.Client{Transport: new(http.Transport)}
		closeHTTPClient(q, client)
		done := make(chan error)
		go func() { done <- get(client, s.URL) }()
		receive(t, began, "request")
		stops(t, q) // though there is a request
		close(end)
		if err := receive(t, done, "answer"); err != nil {
			t.Errorf("the request = %v, want an answer", err)
		}
		receive(t, closed, "end of the connection") // not kept for the next request
	})
	t.Run("wrapped transport", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		s, closed := serve(t, func(http.ResponseWriter, *http.Request) {})
		transport := new(http.Transport)
		client := &http.Client{Transport: wrapped{transport}}
		closeHTTPClient(q, client)
		must(t, get(client, s.URL))
		stops(t, q)
		must(t, get(client, s.URL))
		if len(closed) != 0 {
			t.Error("the connection was closed")
		}
		transport.CloseIdleConnections()
		receive(t, closed, "end of the connection")
	})
}

// wrapped is a round tripper as middleware makes it: it has no
// CloseIdleConnections.
type wrapped struct{ t http.RoundTripper }

func (w wrapped) RoundTrip(r *http.Request) (*http.Response, error) { return w.t.RoundTrip(r) }

func closeWebSocket(conns *quit.QuitEvent, c *websocket.Conn) (unregister func() bool) {
	return conns.RegisterStopFunc(func() { c.Close(websocket.StatusGoingAway, "") })
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	// run connects n clients to a server of q. Each returned function reads
	// from a client, and returns the error at the end.
	run := func(t *testing.T, q *quit.QuitEvent, n int) (read []func() error) {
		conns := event(0)
		conns.Concurrent = true
		q.RegisterQuitCloser(conns)
		accepted := make(chan struct{}, n)
		addr, err := quithttp.ListenAndServe(q, &http.Server{
			Addr: "127.0.0.1:0",
			Handler: quithttp.Track(q, http.HandlerFunc(func(
				w http.ResponseWriter, r *http.Request,
			) {
				c, err := websocket.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer closeWebSocket(conns, c)()
				accepted <- struct{}{}
				for err == nil {
					_, _, err = c.Read(q.WorkContext())
				}
			})),
		})
		must(t, err)
		for range n {
			c, _, err := websocket.Dial(context.Background(), "ws://"+addr.String(), nil)
			must(t, err)
			t.Cleanup(func() { c.CloseNow() })
			receive(t, accepted, "connection")
			read = append(read, func() error {
				_, _, err := c.Read(context.Background())
				return err
			})
		}
		return read
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		results := make(chan error, 10)
		for _, read := range run(t, q, 10) {
			go func() { results <- read() }()
		}
		stops(t, q)
		for range 10 {
			err := receive(t, results, "end of a connection")
			if websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("Read() = %v, want the status %v", err, websocket.StatusGoingAway)
			}
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		run(t, q, 10) // and does not read: the close handshake is not answered
		start := time.Now()
		stops(t, q)
		if d := time.Since(start); d < 5*time.Second {
			t.Errorf("stopped after %v, want 5s", d)
		}
	})
	t.Run("CloseNow", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		accepted, end := make(chan *websocket.Conn), make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
			}
			accepted <- c
			<-end
		}))
		defer s.Close()
		defer close(end)
		client, _, err := websocket.Dial(context.Background(), s.URL, nil)
		must(t, err)
		defer client.CloseNow()
		c := receive(t, accepted, "connection")
		q.RegisterQuitCloser(quit.Graceful(func() {
			c.Close(websocket.StatusGoingAway, "")
		}, func() { c.CloseNow() }), quit.Timeout(time.Second))
		// It does not force a Close to end.
		hangs(t, q, "github.com/coder/websocket.(*Conn).CloseNow")
	})
}
