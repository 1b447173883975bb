package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

// What goes wrong in the field, each with the next step, and in the same words
// each time: who tells what is new would tell each of them.
func TestFailureNamesTheNextStep(t *testing.T) {
	dial := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40000 + time.Now().Nanosecond()%1000}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Source: local, Addr: local, Err: err}
		}
	}
	errno := func(e syscall.Errno) error { return os.NewSyscallError("connect", e) }
	for name, test := range map[string]struct {
		dial       func(context.Context, string, string) (net.Conn, error)
		want, hint string
	}{
		"refused":     {dial(errno(syscall.ECONNREFUSED)), "dial: connect: connection refused", "server running"},
		"no network":  {dial(errno(syscall.ENETUNREACH)), "dial: connect: network is unreachable", "connected to the network"},
		"no route":    {dial(errno(syscall.EHOSTUNREACH)), "dial: connect: no route to host", "connected to the network"},
		"no name":     {dial(&net.DNSError{Name: "hub.example", Err: "no such host", IsNotFound: true}), "lookup hub.example: no such host", "host of the source"},
		"no resolver": {dial(&net.DNSError{Name: "hub.example", Err: "read udp 10.0.0.7:4711->10.0.0.1:53: i/o timeout", IsTimeout: true}), "lookup hub.example: no answer", ""},
		"broken":      {dial(errno(syscall.ECONNRESET)), "dial: connect: connection reset by peer", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := fetch.New("https://hub.example", fetch.Options{Dial: test.dial})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Get(t.Context(), "manifest", 100)
			told(t, err, test.want, test.hint)
			if strings.Contains(err.Error(), "10.0.0.") {
				t.Errorf("%v differs each time", err)
			}
		})
	}
}

func told(t *testing.T, err error, want, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("%v, want %q", err, want)
	}
	if e, ok := errors.AsType[*fetch.Error](err); ok != (hint != "") || ok && !strings.Contains(e.Hint, hint) {
		t.Errorf("%v, want a hint with %q", err, hint)
	}
}

func TestServerOfAnotherIdentityIsNotAsked(t *testing.T) {
	asked := func(w http.ResponseWriter, r *http.Request) { t.Errorf("asked for %v", r.URL) }
	synctest.Test(t, func(t *testing.T) {
		s := serveAs(t, "https://other.example/", asked)
		_, err := s.Get(t.Context(), "manifest", 100)
		told(t, err, "other.example", "login page")
		start := time.Now()
		_, want := big()
		_, err = s.Download(t.Context(), "abc", want, folder(t), nil)
		told(t, err, "other.example", "login page")
		if time.Since(start) > 0 {
			t.Error("tries again")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, asked)
		time.Sleep(100 * 365 * 24 * time.Hour)
		_, err := s.Get(t.Context(), "manifest", 100)
		told(t, err, "expired", "clock of this terminal")
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, asked)
		s, err := fetch.New("https://example.com/", fetch.Options{Dial: w.dial}) // the system's authorities
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Get(t.Context(), "manifest", 100)
		told(t, err, "unknown authority", "certificate of the authority")
	})
}

// Whoever answers in plain text on the port is no https server.
func TestServerThatSpeaksNoTLS(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"} {
		s, err := fetch.New("https://example.com/", fetch.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			server, client := net.Pipe()
			go func() { // ends with the connection
				defer server.Close()
				if _, err := server.Read(make([]byte, 1)); err == nil {
					go fmt.Fprint(server, answer)
					for b := make([]byte, 1024); err == nil; {
						_, err = server.Read(b)
					}
				}
			}()
			return client, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Get(t.Context(), "manifest", 100)
		told(t, err, "", "speak https")
	}
}
