package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func config(t *testing.T, servers ...string) Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Scope: "hall", Terminal: "gate-1", Key: key.Public(), Servers: servers,
		Certificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil },
		Authorities: func() (*x509.CertPool, error) { return x509.NewCertPool(), nil },
		Poke:        func() {}, Health: func() Health { return Health{} },
	}
}

// A server that takes connections and says nothing holds the library's lock for as long
// as it waits. Whoever stands at a gate does not wait with it.
func TestServerThatHangsHoldsNobodyUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Open(config(t, "tls://"+l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	silent, err := l.Accept() // it is dialled: the lock is held from now on
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c.Connected() {
			t.Error("connected")
		}
		if _, err := c.Request(ctx, c.Subjects.Events, nil); !errors.Is(err, ErrNotConnected) {
			t.Error(err)
		}
		for range 2 * liveBacklog {
			c.Live(nil)
		}
		if s := c.State(); s.Connected {
			t.Errorf("%+v", s)
		}
		if _, err := c.JetStream(); err != nil {
			t.Error(err)
		}
	}()
	library := make(chan struct{})
	go func() {
		defer close(library)
		c.nats.Status()
	}()
	<-done
	select {
	case <-library:
		t.Error("the library holds no lock any more while it dials: Connected could ask it")
	default:
	}
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	<-library
	cancel()
	wg.Wait()
}

func TestAddressThatIsNoneIsRefused(t *testing.T) {
	for _, servers := range [][]string{nil, {""}, {"nats://127.0.0.1:4222"}, {"tls://127.0.0.1"}, {"tls://user:secret@127.0.0.1:4222"}, {"tls://a:1", "ws://a:1"}} {
		c, err := Open(config(t, servers...))
		if err == nil {
			c.nats.Close()
			t.Errorf("%q is taken", servers)
		}
	}
}

func TestHeartbeatOfAnotherVersionIsRefused(t *testing.T) {
	good := Health{Version: HealthVersion, At: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), KeysLost: []string{"identity.key"}, Lanes: []HealthLane{{Lane: "gate-1/entry", Reader: true}}}
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := ParseHealth(b); err != nil || len(h.Lanes) != 1 || !h.At.Equal(good.At) {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := ParseHealth([]byte(strings.Replace(string(b), "{", `{"new":[1],`, 1))); err != nil {
		t.Errorf("a member that is new: %v", err)
	}
	for name, text := range map[string]string{
		"of version 2": `{"version":2,"at":"2026-07-01T12:00:00Z"}`, "of none": `{"at":"2026-07-01T12:00:00Z"}`, "without a time": `{"version":1}`,
		"that is none": `heartbeat`, "that is empty": ``, "that is long": strings.Repeat(" ", maxHealth) + string(b),
		"that JetStream could have sent": `{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0}`,
	} {
		if _, err := ParseHealth([]byte(text)); err == nil {
			t.Errorf("a heartbeat %s is taken", name)
		}
	}
}

func TestMessageIsGenuineByTheInboxThatItNames(t *testing.T) {
	s := SubjectsOf("hall", "gate-1", []byte("key"))
	for reply, want := range map[string]bool{
		s.Inbox + ".x": true, s.Inbox + ".": true, s.Inbox: false, s.Inbox + "x.y": false, "": false, "$JS.ACK.KV_claims_hall.x.1.1.1.1.0": false,
		SubjectsOf("hall", "gate-2", []byte("other")).Inbox + ".x": false, SubjectsOf("other", "gate-1", []byte("key")).Inbox + ".x": false,
	} {
		if s.Genuine(reply) != want {
			t.Errorf("%q: %v", reply, !want)
		}
	}
}

// What is taken reads back as the same.
func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte(`{"version":1,"at":"2026-07-01T12:00:00Z","list":{"epoch":1,"seq":2},"lanes":[{"lane":"a","why":["ok"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHealth(b)
		if err != nil {
			return
		}
		text, err := json.Marshal(h)
		if err != nil {
			return // a time that JSON cannot say, in whatever zone it came
		}
		if len(text) > maxHealth {
			return
		}
		again, err := ParseHealth(text)
		if err != nil || !again.At.Equal(h.At) || len(again.Lanes) != len(h.Lanes) {
			t.Errorf("%s: %+v, %v", text, again, err)
		}
	})
}
