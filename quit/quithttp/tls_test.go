package quithttp_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// certificate returns the certificate of httptest, which is for example.com and
// 127.0.0.1.
var certificate = sync.OnceValue(func() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
})

func certified() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{certificate()}} }

// certificateFiles writes the certificate and its key to files and returns
// their names.
func certificateFiles(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	write := func(name, kind string, b []byte) string {
		file := filepath.Join(t.TempDir(), name)
		block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
		if err := os.WriteFile(file, block, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c := certificate()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("cert", "CERTIFICATE", c.Certificate[0]), write("key", "PRIVATE KEY", key)
}

// TestServeTLS serves HTTP/1 and HTTP/2 over TLS, with a certificate in files
// or in the server's configuration.
func TestServeTLS(t *testing.T) {
	certFile, keyFile := certificateFiles(t)
	for name, serve := range map[string]func(*quit.QuitEvent, *http.Server) string{
		"ListenAndServeTLS, files": func(q *quit.QuitEvent, srv *http.Server) string {
			addr, err := quithttp.ListenAndServeTLS(q, srv, certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			return addr.String()
		},
		"ListenAndServeTLS, config": func(q *quit.QuitEvent, srv *http.Server) string {
			srv.TLSConfig = certified()
			addr, err := quithttp.ListenAndServeTLS(q, srv, "", "")
			if err != nil {
				t.Fatal(err)
			}
			return addr.String()
		},
		"ListenAndServeTLS, GetCertificate": func(q *quit.QuitEvent, srv *http.Server) string {
			srv.TLSConfig = &tls.Config{
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
					c := certificate()
					return &c, nil
				},
			}
			addr, err := quithttp.ListenAndServeTLS(q, srv, "", "")
			if err != nil {
				t.Fatal(err)
			}
			return addr.String()
		},
		"ListenAndServeTLS, GetConfigForClient": func(q *quit.QuitEvent, srv *http.Server) string {
			srv.TLSConfig = &tls.Config{
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
					c := certified()
					c.NextProtos = []string{"h2", "http/1.1"}
					return c, nil
				},
			}
			addr, err := quithttp.ListenAndServeTLS(q, srv, "", "")
			if err != nil {
				t.Fatal(err)
			}
			return addr.String()
		},
		"ServeTLS": func(q *quit.QuitEvent, srv *http.Server) string {
			ln, err := net.Listen("tcp", srv.Addr)
			if err != nil {
				t.Fatal(err)
			}
			quithttp.ServeTLS(q, srv, ln, certFile, keyFile)
			return ln.Addr().String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := quietEvent()
			url := "https://" + serve(q, &http.Server{Addr: "127.0.0.1:0", Handler: answered}) + "/"
			for _, http2 := range []bool{false, true} {
				p := new(http.Protocols)
				p.SetHTTP1(!http2)
				p.SetHTTP2(http2)
				transport := &http.Transport{
					Protocols:       p,
					TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				}
				res, err := (&http.Client{Transport: transport}).Get(url)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if string(body) != "answered" || err != nil || (res.ProtoMajor == 2) != http2 {
					t.Errorf("answer %q, %v, by %s", body, err, res.Proto)
				}
				transport.CloseIdleConnections()
			}
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestListenAndServeTLSErrors checks that a wrong argument leads to an error at
// once, and that nothing is started.
func TestListenAndServeTLSErrors(t *testing.T) {
	certFile, keyFile := certificateFiles(t)
	for name, test := range map[string]struct {
		addr, certFile, keyFile string
		config                  *tls.Config
		want                    string
	}{
		"no certificate": {certFile: "no such file", keyFile: keyFile, want: "no such file"},
		"no key":         {certFile: certFile, keyFile: "no such file", want: "no such file"},
		"not a key": {
			certFile: certFile,
			keyFile:  certFile,
			want:     fmt.Sprintf("quit: certificate %q, key %q: tls: ", certFile, certFile),
		},
		"nothing":             {want: "open : "},
		"empty configuration": {config: new(tls.Config), want: "open : "},
		"files are preferred": {
			config:   certified(),
			certFile: "no such file",
			want:     "no such file",
		},
		"a bad address": {addr: "127.0.0.1:nonsense", config: certified(), want: "nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			q := quietEvent()
			srv := &http.Server{Addr: "127.0.0.1:0", TLSConfig: test.config}
			if test.addr != "" {
				srv.Addr = test.addr
			}
			addr, err := quithttp.ListenAndServeTLS(q, srv, test.certFile, test.keyFile)
			if err == nil || addr != nil || !strings.HasPrefix(err.Error(), "quit: ") ||
				!strings.Contains(err.Error(), test.want) {
				t.Errorf("ListenAndServeTLS() = %v, %v, want an error with %q",
					addr, err, test.want)
			}
			if r := q.Report(); len(r.Steps) != 1 || r.Goroutines != 0 || q.HasFired() ||
				srv.BaseContext != nil {
				t.Errorf("something was started or registered:\n%v", r)
			}
		})
	}
}

// TestDefaultAddr checks that the default ports are those of net/http. The test
// listens on them first. If the system does not permit that, quithttp cannot
// listen on them either.
func TestDefaultAddr(t *testing.T) {
	certFile, keyFile := certificateFiles(t)
	for port, listen := range map[string]func(*quit.QuitEvent, *http.Server) (net.Addr, error){
		":80": func(q *quit.QuitEvent, srv *http.Server) (net.Addr, error) {
			return quithttp.ListenAndServe(q, srv)
		},
		":443": func(q *quit.QuitEvent, srv *http.Server) (net.Addr, error) {
			return quithttp.ListenAndServeTLS(q, srv, certFile, keyFile)
		},
	} {
		if ln, err := net.Listen("tcp", port); err == nil {
			defer ln.Close()
		}
		q := quietEvent()
		addr, err := listen(q, new(http.Server))
		if err == nil || !strings.Contains(err.Error(), "listen tcp "+port+":") {
			t.Errorf("without an address: %v, %v, want an error with %s", addr, err, port)
		}
		q.GracefulStop()
	}
}
