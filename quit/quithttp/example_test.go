package quithttp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// A program with an API server and an admin server. On SIGTERM the readiness
// probe fails at once. The API server is shut down five seconds later, and the
// admin server after the drain.
func Example() {
	q := quit.GetQuitEvent()
	q.Delay = 5 * time.Second

	admin := http.NewServeMux()
	admin.Handle("/readyz", quithttp.Ready(q))
	admin.Handle("/debug/quit", quithttp.Status(q))
	adminServer := &http.Server{Addr: "127.0.0.1:8081", Handler: admin}
	_, err := quithttp.ListenAndServe(q, adminServer, quit.AfterDrain(), quit.Name("admin"))
	if err != nil {
		log.Fatal(err)
	}

	api := http.NewServeMux()
	api.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})
	apiServer := &http.Server{Addr: ":8080", Handler: api, ReadTimeout: 10 * time.Second}
	if _, err := quithttp.ListenAndServe(q, apiServer, quit.Name("api")); err != nil {
		log.Fatal(err)
	}

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// A server with one client. Its idle connection is still open at the end, and
// the shutdown closes it.
func ExampleListenAndServe() {
	q := quit.NewQuitEvent()
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: mux} // the system picks a port
	addr, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		log.Fatal(err)
	}

	res, err := http.Get("http://" + addr.String() + "/hello")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(os.Stdout, res.Body)

	q.Fire() // a SIGTERM does the same
	err = q.WaitSignal()
	fmt.Println("shutdown:", err)
	// Output:
	// hello
	// shutdown: <nil>
}

// A request is in flight when the event fires. Its context is not cancelled,
// and the shutdown waits for its answer.
func ExampleServe() {
	q := quit.NewQuitEvent()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q.Fire() // a SIGTERM does the same
			fmt.Fprintln(w, "fired:", q.HasFired(), "- cancelled:", r.Context().Err() != nil)
		}),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	quithttp.Serve(q, srv, ln)

	answer := make(chan string)
	go func() {
		res, err := http.Get("http://" + ln.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			log.Fatal(err)
		}
		answer <- string(body)
	}()

	err = q.WaitSignal()
	fmt.Print("answer: ", <-answer)
	fmt.Println("shutdown:", err)
	// Output:
	// answer: fired: true - cancelled: false
	// shutdown: <nil>
}

// A load balancer probes before the fire and after it.
func ExampleReady() {
	// Between the fire and the first closer, load balancers have time to probe.
	q := &quit.QuitEvent{Delay: 5 * time.Second}

	mux := http.NewServeMux()
	mux.Handle("/readyz", quithttp.Ready(q))
	probe := func() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		fmt.Print(w.Code, " ", w.Body)
	}

	probe()
	q.Fire() // a SIGTERM does the same
	probe()
	// Output:
	// 200 ready
	// 503 quitting
}

// The handler takes over its connection, as a WebSocket library does. The
// server does not wait for such a connection. The drain does, because of Track.
func ExampleTrack() {
	q := quit.NewQuitEvent()
	chat := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n"+
			"Connection: Upgrade\r\nUpgrade: chat\r\n\r\n")
		fmt.Fprintln(conn, "welcome")
		<-q.Done()
		fmt.Fprintln(conn, "goodbye")
	})
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: quithttp.Track(q, chat)}
	addr, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		log.Fatal(err)
	}

	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: example.com\r\n"+
		"Connection: Upgrade\r\nUpgrade: chat\r\n\r\n")
	r := bufio.NewReader(conn)
	if _, err := http.ReadResponse(r, nil); err != nil {
		log.Fatal(err)
	}

	err = q.Shutdown(context.Background())
	io.Copy(os.Stdout, r)
	fmt.Println("shutdown:", err)
	// Output:
	// welcome
	// goodbye
	// shutdown: <nil>
}

// An admin server shows the plan of the shutdown. It serves until after the
// drain, so it shows most of the shutdown too.
func ExampleStatus() {
	q := quit.NewQuitEvent()
	mux := http.NewServeMux()
	mux.Handle("/debug/quit", quithttp.Status(q))
	admin := &http.Server{Addr: "127.0.0.1:0", Handler: mux}
	addr, err := quithttp.ListenAndServe(q, admin, quit.AfterDrain(), quit.Name("admin"))
	if err != nil {
		log.Fatal(err)
	}
	q.RegisterStopFunc(func() {}, quit.Name("consumer"))

	// A browser gets a page, and curl gets text.
	req, err := http.NewRequest("GET", "http://"+addr.String()+"/debug/quit", nil)
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	var report struct {
		Steps []struct{ Name string }
	}
	if err := json.NewDecoder(res.Body).Decode(&report); err != nil {
		log.Fatal(err)
	}
	for _, step := range report.Steps {
		fmt.Println(step.Name)
	}

	if err := q.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// consumer
	// drain
	// admin
}
