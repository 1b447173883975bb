package bus

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gate-agent/gate-agent/sync/link"
)

// What one connection may cost.
const (
	maxSubscriptions = 64
	maxPending       = 8 << 20 // bytes that wait for a slow reader, who is cut off then
	writeDeadline    = 5 * time.Second
	pingEvery        = 10 * time.Second
	handshake        = 10 * time.Second // a card may have to sign
	memoryStore      = 64 << 20         // bytes, for streams in memory: nobody here makes one
)

// startServer starts a server in this process.
func (b *Bus) startServer() error {
	host, port, err := splitAddress(b.cfg.Listen)
	if err != nil {
		return err
	}
	b.admit = &admission{cfg: b.cfg, known: b.known, secret: rand.Text(), admitted: make(map[string]admitted)}
	o := &server.Options{
		ServerName: HubName, Host: host, Port: port, NoSigs: true,
		TLSConfig: b.tls(), TLSVerify: true, TLSTimeout: handshake.Seconds(), AuthTimeout: handshake.Seconds(),
		CustomClientAuthentication: b.admit,
		JetStream:                  true, StoreDir: b.cfg.Store, JetStreamMaxMemory: memoryStore,
		SyncAlways: true, SyncInterval: 2 * time.Minute, // the interval of a second look, as in a configuration with "always"
		MaxPayload: link.MaxMessage, MaxPending: maxPending, MaxSubs: maxSubscriptions, WriteDeadline: writeDeadline,
		PingInterval: pingEvery, MaxPingsOut: 2,
	}
	if b.cfg.Leaves != "" {
		if o.LeafNode.Host, o.LeafNode.Port, err = splitAddress(b.cfg.Leaves); err != nil {
			return err
		}
		o.LeafNode.TLSConfig, o.LeafNode.TLSTimeout, o.LeafNode.AuthTimeout = b.tls(), handshake.Seconds(), handshake.Seconds()
		o.JetStreamDomain = HubDomain
	}
	s, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("making a server: %w", err)
	}
	log := &serverLog{tell: b.cfg.Tell}
	s.SetLoggerV2(log, false, false, false)
	b.server = s
	s.Start()
	if !s.ReadyForConnections(readyTimeout) {
		return fmt.Errorf("the server did not start: %w", log.fatal())
	}
	return nil
}

// HubDomain is the JetStream domain of the hub's own server, where venues have leaf nodes
// with one of theirs.
const HubDomain = "hub"

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%q is no address to listen at: want HOST:PORT or :PORT", address)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

func (b *Bus) tls() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return b.cfg.Certificate() },
		ClientAuth:     tls.RequireAndVerifyClientCert, ClientCAs: b.cfg.Authorities,
	}
}

// Address is where our own server listens, "" where it is another's.
func (b *Bus) Address() string {
	if b.server == nil {
		return ""
	}
	return b.server.Addr().String()
}

// cutOff closes the connections of those that are not in force any more, or whose
// certificate has ended.
func (b *Bus) cutOff(at time.Time) error {
	open, err := b.server.Connz(&server.ConnzOptions{Username: true, Limit: 1 << 20})
	if err != nil {
		return fmt.Errorf("listing connections: %w", err)
	}
	var failed error
	connected := make(map[string]bool)
	for _, c := range open.Conns {
		connected[c.AuthorizedUser] = true
		if b.admit.still(c.AuthorizedUser, b.known.has, at) {
			continue
		}
		b.cfg.Tell(Warning, fmt.Sprintf("%s is cut off: it is not in force any more", c.AuthorizedUser))
		if err := b.server.DisconnectClientByID(c.Cid); err != nil && b.server.GetClient(c.Cid) != nil {
			failed = errors.Join(failed, err)
		}
	}
	b.admit.forget(connected)
	return failed
}

// An admission decides who may connect to our own server.
type admission struct {
	cfg    Config
	known  *directory
	secret string // of the hub's own connection, which no socket leads to

	mu       sync.Mutex
	admitted map[string]admitted // by user
}

// admitted is somebody who was let in.
type admitted struct {
	terminal Terminal // zero: a leaf node
	until    time.Time
	at       time.Time
}

// Check implements server.Authentication. The handshake has verified the chain, with its
// dates and that it is for clients.
func (a *admission) Check(c server.ClientAuthentication) bool {
	state := c.GetTLSConnectionState()
	if state == nil {
		own := subtle.ConstantTimeCompare([]byte(c.GetOpts().Password), []byte(a.secret)) == 1
		if own {
			c.RegisterUser(&server.User{Username: HubName})
		}
		return own
	}
	if len(state.VerifiedChains) == 0 {
		return false
	}
	leaf := state.VerifiedChains[0][0]
	user, err := a.user(leaf, c.Kind())
	if err != nil {
		a.cfg.Tell(Warning, fmt.Sprintf("%q from %v is not let in: %v", leaf.Subject.CommonName, c.RemoteAddress(), err))
		return false
	}
	c.RegisterUser(user)
	return true
}

func (a *admission) user(leaf *x509.Certificate, kind int) (*server.User, error) {
	name := leaf.Subject.CommonName
	if scope, ok := strings.CutPrefix(name, leafPrefix); ok && kind == server.LEAF {
		for s, domain := range a.cfg.Domains {
			if link.Token(s) == scope {
				a.note(name, admitted{until: leaf.NotAfter})
				return user(name, leafPermissions(s, domain)), nil
			}
		}
		return nil, fmt.Errorf("no scope %q has a leaf node", scope)
	}
	if kind != server.CLIENT {
		return nil, errors.New("a terminal is no server")
	}
	if name != link.ID(leaf.RawSubjectPublicKeyInfo) {
		return nil, errors.New("its name is not that of its key")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	t := Terminal{Identity: leaf.RawSubjectPublicKeyInfo}
	var err error
	if t.Scope, t.Name, err = a.cfg.Terminals.ByKey(ctx, t.Identity); err != nil {
		return nil, err
	}
	a.known.add(t)
	a.note(name, admitted{terminal: t, until: leaf.NotAfter})
	publish, subscribe := t.subjects().Permissions()
	return user(name, permissions{publish, subscribe}), nil
}

func user(name string, p permissions) *server.User {
	return &server.User{Username: name, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: p.publish}, Subscribe: &server.SubjectPermission{Allow: p.subscribe},
	}}
}

func (a *admission) note(user string, who admitted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who.at = time.Now()
	a.admitted[user] = who
}

// still says whether somebody who was let in would be now.
func (a *admission) still(user string, inForce func(Terminal) bool, at time.Time) bool {
	if user == HubName {
		return true
	}
	a.mu.Lock()
	who, ok := a.admitted[user]
	a.mu.Unlock()
	return ok && at.Before(who.until) && (who.terminal.Identity == nil || inForce(who.terminal))
}

// forget leaves those who are connected, or may be about to.
func (a *admission) forget(connected map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for user, who := range a.admitted {
		if !connected[user] && time.Since(who.at) > time.Minute {
			delete(a.admitted, user)
		}
	}
}

// A serverLog passes on what the server says. It has its names from server.Logger.
type serverLog struct {
	tell func(Severity, string)

	mu   sync.Mutex
	last string // fatal
}

func (l *serverLog) Noticef(format string, v ...any) { l.tell(Debug, fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  {}
func (l *serverLog) Tracef(format string, v ...any)  {}
func (l *serverLog) Warnf(format string, v ...any)   { l.tell(Warning, fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.tell(Warning, fmt.Sprintf(format, v...)) }

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	l.tell(Failure, text)
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return errors.New("it said nothing")
	}
	return errors.New(l.last)
}
