package link

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

// MaxMessage bounds a message in bytes: the hub cuts off whoever sends a larger one.
const MaxMessage = 512 << 10

// How the connection behaves.
const (
	dialTimeout  = 10 * time.Second // with the handshake, in which a card may have to sign
	pingEvery    = 5 * time.Second  // two without an answer: the hub is away
	beatEvery    = 15 * time.Second
	liveBacklog  = 64 // decisions that may wait
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 15 * time.Second
)

// ErrNotConnected says that nothing was sent, since the hub cannot be reached now.
var ErrNotConnected = errors.New("not connected to the hub")

// Config is what a connection needs.
type Config struct {
	Scope, Terminal string

	Key     crypto.PublicKey // of the identity key
	Servers []string         // tls://HOST:PORT

	// Certificate is that of the identity key (enrol.Credential.ForTLS); Authorities are
	// those that vouch for a hub. Both are asked at each attempt: what was renewed is used.
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	Authorities func() (*x509.CertPool, error)

	Poke   func()        // the hub has something new. Must not wait
	Health func() Health // asked for each heartbeat
	Tell   func(State)   // told of each change, one after the other; nil tells nobody
}

// A State is how the connection is.
type State struct {
	Connected bool
	Server    string    // the last one, tls://HOST:PORT; "" before the first
	Since     time.Time // it is so; zero before the first connection
	Problem   string    // why it is not connected, or what the hub refused
}

// A Conn is a terminal's connection. It is made again for as long as Run runs. Its
// methods may be called from several goroutines.
type Conn struct {
	Subjects Subjects

	cfg  Config
	nats *nats.Conn
	live chan []byte
	up   chan struct{} // a new connection wants a heartbeat

	connected atomic.Bool // the library's own state lies behind a lock that it holds while it dials
	dropped   atomic.Int64

	telling sync.Mutex // one change is told after the other

	mu    sync.Mutex
	state State
}

// Open makes a connection without waiting for it. The caller runs Run, which closes it.
func Open(cfg Config) (*Conn, error) {
	c, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the link to the hub: %w", err)
	}
	return c, nil
}

func open(cfg Config) (*Conn, error) {
	if len(cfg.Servers) == 0 {
		return nil, errors.New("no server is named")
	}
	for _, s := range cfg.Servers {
		if u, err := url.Parse(s); err != nil || u.Scheme != "tls" || u.Port() == "" || u.User != nil {
			return nil, fmt.Errorf("%q is no address of a server: want tls://HOST:PORT", s)
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("the identity key: %w", err)
	}
	c := &Conn{
		Subjects: SubjectsOf(cfg.Scope, cfg.Terminal, spki), cfg: cfg,
		live: make(chan []byte, liveBacklog), up: make(chan struct{}, 1),
	}
	dial := &dialer{Dialer: net.Dialer{Timeout: dialTimeout}}
	backoff := fetch.Backoff{Base: firstBackoff, Cap: maxBackoff}
	o := nats.GetDefaultOptions()
	o.Servers, o.NoRandomize, o.IgnoreDiscoveredServers = cfg.Servers, true, true
	o.Name, o.InboxPrefix = ID(spki), c.Subjects.Inbox
	o.Secure, o.RootCAsCB = true, cfg.Authorities
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetClientCertificate: cfg.Certificate}
	o.Timeout, o.CustomDialer, o.SkipHostLookup = dialTimeout, dial, true
	o.PingInterval, o.MaxPingsOut = pingEvery, 1
	o.AllowReconnect, o.RetryOnFailedConnect, o.MaxReconnect, o.IgnoreAuthErrorAbort = true, true, -1, true
	o.CustomReconnectDelayCB = func(attempts int) time.Duration {
		if dial.ready.Load() {
			c.wentDown(c.nats.LastError()) // of the handshake, which no other callback tells
		}
		return backoff.Next(attempts-1, rand.Int64N)
	}
	o.ReconnectBufSize = -1 // what the hub does not get now is sent again by whoever has it
	o.ConnectedCB, o.ReconnectedCB = c.wentUp, c.wentUp
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) { c.wentDown(err) }
	o.ReconnectErrCB = func(_ *nats.Conn, err error) { c.wentDown(err) }
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) {
		c.change(func(s *State) { s.Problem = err.Error() })
	}
	if c.nats, err = o.Connect(); err != nil {
		return nil, err
	}
	dial.ready.Store(true)
	if _, err := c.nats.Subscribe(c.Subjects.Poke, func(*nats.Msg) { cfg.Poke() }); err != nil {
		c.nats.Close()
		return nil, err
	}
	return c, nil
}

// A dialer refuses the first attempt, which the library makes while its caller waits.
// All others it makes by itself.
type dialer struct {
	net.Dialer
	ready atomic.Bool
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if !d.ready.Load() {
		return nil, ErrNotConnected
	}
	return d.Dialer.Dial(network, address)
}

func (c *Conn) wentUp(n *nats.Conn) {
	c.connected.Store(true)
	c.change(func(s *State) { *s = State{Connected: true, Server: n.ConnectedUrl(), Since: time.Now()} })
	select {
	case c.up <- struct{}{}:
	default:
	}
}

func (c *Conn) wentDown(err error) {
	c.connected.Store(false)
	c.change(func(s *State) {
		if s.Connected {
			s.Connected, s.Since = false, time.Now()
		}
		if err != nil && !errors.Is(err, ErrNotConnected) {
			s.Problem = err.Error()
		}
	})
}

func (c *Conn) change(f func(*State)) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	before := c.state
	f(&c.state)
	now := c.state
	c.mu.Unlock()
	if now != before && c.cfg.Tell != nil {
		c.cfg.Tell(now)
	}
}

// State is how the connection is now.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Connected says, without waiting for anything, whether the hub can be asked.
func (c *Conn) Connected() bool { return c.connected.Load() }

// Dropped is how many decisions the live feed has left out.
func (c *Conn) Dropped() int64 { return c.dropped.Load() }

// Request sends a message and waits for its answer until ctx ends. The error is
// ErrNotConnected, at once, while the hub is away. A tap calls it in a goroutine of its
// own: for as long as the library dials it can take longer than ctx.
func (c *Conn) Request(ctx context.Context, subject string, message []byte) ([]byte, error) {
	if !c.Connected() {
		return nil, ErrNotConnected
	}
	answer, err := c.nats.RequestWithContext(ctx, subject, message)
	if err != nil {
		return nil, fmt.Errorf("asking the hub: %w", err)
	}
	return answer.Data, nil
}

// JetStream is the JetStream of the server that the terminal is connected to.
func (c *Conn) JetStream() (jetstream.JetStream, error) { return jetstream.New(c.nats) }

// Live sends a decision to whoever looks on. It does not wait: what finds the hub away,
// or too slow, is left out.
func (c *Conn) Live(decision []byte) {
	if c.Connected() {
		select {
		case c.live <- decision:
			return
		default:
		}
	}
	c.dropped.Add(1)
}

// Run keeps the connection, sends heartbeats and the live feed, until ctx ends, and closes it.
func (c *Conn) Run(ctx context.Context) {
	defer c.nats.Close()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-c.live:
			if c.send(c.Subjects.Live, b) != nil {
				c.dropped.Add(1)
			}
		case <-c.up:
			c.beat()
		case <-beat.C:
			c.beat()
		}
	}
}

func (c *Conn) beat() {
	if !c.Connected() {
		return
	}
	h := c.cfg.Health()
	h.Version, h.At = HealthVersion, time.Now().UTC()
	b, err := json.Marshal(h)
	if err == nil {
		err = c.send(c.Subjects.Health, b)
	}
	if err != nil {
		c.change(func(s *State) { s.Problem = "heartbeat: " + err.Error() })
	}
}

// send names an inbox of the terminal's own to answer to, at which nobody listens: by it
// the hub tells its messages from those that a server sends on for others (Genuine).
func (c *Conn) send(subject string, message []byte) error {
	if !c.Connected() {
		return ErrNotConnected
	}
	return c.nats.PublishRequest(subject, c.Subjects.Inbox+".none", message)
}
