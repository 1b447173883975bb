// Package bus is the hub's end of NATS: the server, embedded in the hub or another one
// that it is a client of, who may do what there, and what terminals say to the hub.
// docs/link.md describes it.
//
// It promises:
//
//   - Whoever connects is a terminal of the registry, by its identity key, and may say and
//     hear what package link permits it. Once the registry does not know it any more it is
//     cut off, within the time between two calls of Sweep.
//   - A message is taken for a terminal's only where the terminal itself has sent it.
//   - What JetStream has confirmed is on the disk, in a server of ours and in one that is
//     configured as Server says.
package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/link"
)

// HubName is the hub's own name: CN of its certificate, and its user at a server.
const HubName = "gate-hub"

// hubInbox is the prefix of the hub's inboxes, of which no terminal hears.
const hubInbox = "_INBOX_hub"

// How much is done at once, and how long it may take.
const (
	workers       = 32 // batches, or heartbeats, under way
	workTimeout   = 20 * time.Second
	readyTimeout  = 30 * time.Second // of a server, which may have much to recover
	lookupTimeout = 5 * time.Second
)

// A Terminal is one that is in force.
type Terminal struct {
	Scope, Name string
	Identity    []byte // SubjectPublicKeyInfo in DER
}

func (t Terminal) subjects() link.Subjects { return link.SubjectsOf(t.Scope, t.Name, t.Identity) }

// ErrUnknown says that no terminal in force has a key.
var ErrUnknown = errors.New("no terminal in force has this key")

// Terminals knows the terminals in force.
type Terminals interface {
	// ByKey finds a terminal by its identity key (SubjectPublicKeyInfo in DER). The error
	// is ErrUnknown where there is none.
	ByKey(ctx context.Context, spki []byte) (scope, name string, err error)

	// InForce are all of them.
	InForce(ctx context.Context) ([]Terminal, error)
}

// A Config says what a bus is.
type Config struct {
	Terminals Terminals

	// Certificate is what the hub shows to whoever asks: as a server, or as a client of
	// another one. Authorities vouch for terminals, and for that server.
	Certificate func() (*tls.Certificate, error)
	Authorities *x509.CertPool

	URL string // of another server, tls://HOST:PORT; "" is one of our own

	Listen string // HOST:PORT of our own server
	Leaves string // HOST:PORT for leaf nodes of venues, "" for none
	Store  string // its folder

	// Domains are the JetStream domains in which the claims of a scope are kept, those of
	// its venue's leaf node. A scope that is not there has them at the server itself.
	Domains map[string]string

	// Tell is told what the server says; nil tells nobody.
	Tell func(Severity, string)
}

// A Severity is how bad a line of a server's log is.
type Severity int

const (
	Debug Severity = iota
	Warning
	Failure
)

// A Bus is open. Its methods may be called from several goroutines.
type Bus struct {
	cfg    Config
	server *server.Server // nil: another one
	admit  *admission     // nil: another one
	known  *directory
	beats  *beats
	nats   *nats.Conn
}

// Open starts the server, or becomes a client of another one, and listens for heartbeats.
// Another one need not be there yet; one that is and is too old is ErrTooOld.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	if cfg.Tell == nil {
		cfg.Tell = func(Severity, string) {}
	}
	b := &Bus{cfg: cfg, known: newDirectory(cfg.Terminals), beats: newBeats()}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the bus: %w", err), b.Close())
	}
	return b, nil
}

func (b *Bus) open(ctx context.Context) error {
	if err := b.known.refresh(ctx); err != nil {
		return err
	}
	if b.cfg.URL == "" {
		if err := b.startServer(); err != nil {
			return err
		}
	}
	if err := b.connect(); err != nil {
		return err
	}
	_, err := b.listen("health", func(t Terminal, m *nats.Msg) {
		if err := b.beats.add(t, m.Data, time.Now()); err != nil {
			b.cfg.Tell(Warning, fmt.Sprintf("terminal %q of %q: %v", t.Name, t.Scope, err))
		}
	})
	return err
}

func (b *Bus) connect() (err error) {
	o := nats.GetDefaultOptions()
	o.Name, o.InboxPrefix = HubName, hubInbox
	o.AllowReconnect, o.MaxReconnect, o.IgnoreAuthErrorAbort = true, -1, true
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { b.cfg.Tell(Warning, "bus: "+err.Error()) }
	if b.server != nil {
		o.InProcessServer, o.User, o.Password = b.server, HubName, b.admit.secret
	} else {
		u, err := url.Parse(b.cfg.URL)
		if err != nil || u.Scheme != "tls" || u.Port() == "" || u.User != nil {
			return fmt.Errorf("%q is no address of a server: want tls://HOST:PORT", b.cfg.URL)
		}
		o.Servers = []string{b.cfg.URL}
		o.Secure, o.TLSConfig = true, &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: b.cfg.Authorities,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return b.cfg.Certificate() },
		}
		o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
			if err != nil {
				b.cfg.Tell(Warning, "the server is away: "+err.Error())
			}
		}
		o.RetryOnFailedConnect = true
		o.ConnectedCB, o.ReconnectedCB = b.reached, b.reached
	}
	if b.nats, err = o.Connect(); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	if b.server == nil && b.nats.IsConnected() {
		return durable(b.nats.ConnectedServerVersion())
	}
	return nil
}

// reached refuses another server that is too old: what it confirmed could be lost.
func (b *Bus) reached(n *nats.Conn) {
	if err := durable(n.ConnectedServerVersion()); err != nil {
		b.cfg.Tell(Failure, err.Error())
		n.Close()
	}
}

// ErrTooOld says that a server cannot keep claims.
var ErrTooOld = errors.New("nats-server is too old for durable claims")

// oldest is the first minor version of 2 that is taken. 2.9, which Debian 12 has, knows no
// sync_interval; 2.10 has it, and nobody has tried claims there.
const oldest = 11

func durable(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("%w: version %q is not readable", ErrTooOld, version)
	}
	if major < 2 || major == 2 && minor < oldest {
		return fmt.Errorf("%w: it is %s, want 2.%d or newer", ErrTooOld, version, oldest)
	}
	return nil
}

// Connected says whether the hub itself reaches the server.
func (b *Bus) Connected() bool { return b.nats.IsConnected() }

// JetStream is where the claims of a scope are kept.
func (b *Bus) JetStream(scope string) (jetstream.JetStream, error) {
	if domain := b.cfg.Domains[scope]; domain != "" {
		return jetstream.NewWithDomain(b.nats, domain)
	}
	return jetstream.New(b.nats)
}

// Poke tells the terminals of a scope that there is something new.
func (b *Bus) Poke(scope string) error {
	if err := b.nats.Publish(link.PokeOf(scope), []byte(`{"version":1}`)); err != nil {
		return fmt.Errorf("telling scope %q of a new list: %w", scope, err)
	}
	return nil
}

// Beats are the last heartbeats of all terminals, in no order.
func (b *Bus) Beats() []Beat { return b.beats.all() }

// listen calls take for each message of a kind that a terminal in force has sent itself.
// Others are told, and go nowhere.
func (b *Bus) listen(kind string, take func(Terminal, *nats.Msg)) (*nats.Subscription, error) {
	return b.nats.Subscribe("gate.*.*."+kind, func(m *nats.Msg) {
		t, err := b.sender(m)
		if err != nil {
			b.cfg.Tell(Warning, "message refused: "+err.Error())
			return
		}
		take(t, m)
	})
}

// sender is the terminal that has sent a message.
func (b *Bus) sender(m *nats.Msg) (Terminal, error) {
	parts := strings.Split(m.Reply, ".") // _INBOX.<scope>.<id>.…
	if len(parts) < 4 {
		return Terminal{}, fmt.Errorf("at %s from nobody", m.Subject)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	t, err := b.known.byID(ctx, parts[2])
	if err != nil {
		return Terminal{}, fmt.Errorf("at %s from %q: %w", m.Subject, parts[2], err)
	}
	s := t.subjects()
	if !s.Genuine(m.Reply) || m.Subject != s.Events && m.Subject != s.Health && m.Subject != s.Live {
		return Terminal{}, fmt.Errorf("at %s, which is not terminal %q's", m.Subject, t.Name)
	}
	return t, nil
}

// Answer has answer called for each batch of events, from several goroutines, until ctx
// ends; it waits for those under way. What it returns goes to the terminal.
func (b *Bus) Answer(ctx context.Context, answer func(ctx context.Context, from Terminal, batch []byte) []byte) error {
	return b.work(ctx, "events", func(ctx context.Context, from Terminal, m *nats.Msg) {
		if err := m.Respond(answer(ctx, from, m.Data)); err != nil {
			b.cfg.Tell(Warning, fmt.Sprintf("answering terminal %q: %v", from.Name, err))
		}
	})
}

// Hear has heard called for each heartbeat, beside Beats, from several goroutines, until
// ctx ends; it waits for those under way. Nobody has read the message.
func (b *Bus) Hear(ctx context.Context, heard func(ctx context.Context, from Terminal, message []byte, at time.Time)) error {
	return b.work(ctx, "health", func(ctx context.Context, from Terminal, m *nats.Msg) { heard(ctx, from, m.Data, time.Now()) })
}

// work has do called for each message of a kind, by workers.
func (b *Bus) work(ctx context.Context, kind string, do func(context.Context, Terminal, *nats.Msg)) error {
	type job struct {
		from Terminal
		m    *nats.Msg
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case j := <-jobs:
					// What has begun is finished: a terminal waits for it.
					bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
					do(bound, j.from, j.m)
					cancel()
				}
			}
		})
	}
	sub, err := b.listen(kind, func(from Terminal, m *nats.Msg) {
		select {
		case jobs <- job{from, m}:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return fmt.Errorf("listening for %s: %w", kind, err)
	}
	<-ctx.Done()
	wg.Wait()
	return sub.Unsubscribe()
}

// Watch calls seen for each decision of the live feed, one after the other.
func (b *Bus) Watch(seen func(from Terminal, decision []byte)) error {
	_, err := b.listen("live", func(t Terminal, m *nats.Msg) { seen(t, m.Data) })
	return err
}

// Sweep cuts off whoever is connected and not in force any more.
func (b *Bus) Sweep(ctx context.Context) error {
	if err := b.known.refresh(ctx); err != nil {
		return fmt.Errorf("looking for terminals to cut off: %w", err)
	}
	b.beats.forget(b.known.has)
	if b.server == nil {
		return nil // whoever runs that server replaces its configuration
	}
	return b.cutOff(time.Now())
}

// Close ends the hub's connection and its server.
func (b *Bus) Close() error {
	if b.nats != nil {
		b.nats.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	return nil
}
