package bus

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/whitelist"
)

const hall = "hall"

// A site is a hub without its programs: registry, authority, and places for more.
type site struct {
	*testing.T
	registry  *registry.Registry
	authority authority.Authority
	folder    string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, folder: t.TempDir()}
	var err error
	s.registry, err = registry.Open(t.Context(), "sqlite:"+filepath.Join(s.folder, "registry.db"))
	s.must(err)
	t.Cleanup(func() { s.registry.Close() })
	s.authority, err = authority.Need(filepath.Join(s.folder, "tls"), "hub", time.Now())
	s.must(err)
	s.addScope(hall)
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) addScope(name string) {
	s.Helper()
	s.must(s.registry.AddScope(s.Context(), by, registry.Scope{
		Name: name, Hierarchy: whitelist.Test, Lifetime: time.Hour, LeaseDays: 7,
		Venue: whitelist.Venue{TimeZone: "Asia/Tokyo", Zones: []whitelist.Zone{{Name: "main"}}},
	}))
}

var by = registry.By{Actor: "test", Reason: "test", At: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}

// config is that of a server of our own, at a free port.
func (s *site) config() Config {
	certificate, key, err := s.authority.Server([]string{"127.0.0.1"}, time.Now())
	s.must(err)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	s.must(err)
	return Config{
		Terminals: Of(s.registry), Certificate: func() (*tls.Certificate, error) { return &pair, nil }, Authorities: s.authority.Pool(),
		Listen: "127.0.0.1:0", Store: filepath.Join(s.folder, "nats"),
		Tell: func(v Severity, text string) {
			if v > Debug && s.Context().Err() == nil {
				s.Log("bus: ", text)
			}
		},
	}
}

func (s *site) open(cfg Config) *Bus {
	s.Helper()
	b, err := Open(s.Context(), cfg)
	s.must(err)
	s.Cleanup(func() { b.Close() })
	return b
}

// A gate is a terminal with its key and certificate.
type gate struct {
	scope, name string
	key         crypto.Signer
	spki        []byte

	mu   sync.Mutex
	leaf []byte // DER
}

func (s *site) newGate(scope, name string) *gate {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	s.must(err)
	g := &gate{scope: scope, name: name, key: key, spki: spki}
	s.certify(g, s.authority, link.ID(spki), time.Now())
	return g
}

// terminal adds one to the registry.
func (s *site) terminal(scope, name string) *gate {
	s.Helper()
	g := s.newGate(scope, name)
	s.must(s.registry.AddTerminal(s.Context(), by, scope, registry.Terminal{Name: name, Identity: g.spki}))
	return g
}

func (s *site) certify(g *gate, a authority.Authority, id string, at time.Time) {
	s.Helper()
	leaf, err := a.Terminal(g.key.Public(), id, at)
	s.must(err)
	g.mu.Lock()
	g.leaf = leaf
	g.mu.Unlock()
}

func (g *gate) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &tls.Certificate{Certificate: [][]byte{g.leaf}, PrivateKey: g.key}, nil
}

func (g *gate) subjects() link.Subjects { return link.SubjectsOf(g.scope, g.name, g.spki) }

// A linked gate runs the agent's end.
type linked struct {
	*link.Conn
	pokes  chan struct{}
	states chan link.State
	end    func()
}

func (s *site) link(g *gate, address string) *linked {
	s.Helper()
	l := &linked{pokes: make(chan struct{}, 16), states: make(chan link.State, 4096)}
	var err error
	l.Conn, err = link.Open(link.Config{
		Scope: g.scope, Terminal: g.name, Key: g.key.Public(), Servers: []string{"tls://" + address},
		Certificate: g.certificate, Authorities: func() (*x509.CertPool, error) { return s.authority.Pool(), nil },
		Poke:   func() { l.pokes <- struct{}{} },
		Health: func() link.Health { return link.Health{Agent: "test", List: &link.HealthList{Epoch: 1, Seq: 7}} },
		Tell:   func(s link.State) { l.states <- s },
	})
	s.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.Run(ctx) })
	l.end = func() { cancel(); wg.Wait() }
	s.Cleanup(l.end)
	return l
}

// until waits for a state.
func (l *linked) until(t testing.TB, want string, ok func(link.State) bool) link.State {
	t.Helper()
	var last link.State
	for {
		select {
		case last = <-l.states:
			if ok(last) {
				return last
			}
		case <-time.After(patience):
			t.Fatalf("not %s: %+v", want, last)
		}
	}
}

// patience is how long a test waits for what should happen at once: a machine may be busy.
const patience = 60 * time.Second

func connected(s link.State) bool { return s.Connected }

// await waits until something is so.
func (s *site) await(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not so: %s", what)
		}
	}
}

// raw connects a gate as an attacker would, with the plain library.
func (s *site) raw(g *gate, address string, more ...nats.Option) (*nats.Conn, error) {
	s.Helper()
	n, err := nats.Connect("tls://"+address, append([]nats.Option{
		nats.Secure(&tls.Config{RootCAs: s.authority.Pool(), GetClientCertificate: g.certificate}),
		nats.CustomInboxPrefix(g.subjects().Inbox), nats.NoReconnect(),
	}, more...)...)
	if err == nil {
		s.Cleanup(n.Close)
	}
	return n, err
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
