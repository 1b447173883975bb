package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// A natsConfig says how terminals are connected live.
type natsConfig struct {
	Listen   string      `toml:"listen"`   // HOST:PORT of the hub's own server; "" is none
	Store    string      `toml:"store"`    // its folder
	Leaves   string      `toml:"leaves"`   // HOST:PORT for leaf nodes of venues; "" is none
	Replicas int         `toml:"replicas"` // of the claims, in a cluster
	URL      string      `toml:"url"`      // tls://HOST:PORT of another server, in the place of the hub's own; "" is none
	Venues   []natsVenue `toml:"venues"`   // those with a leaf node
}

// A natsVenue is a scope whose claims are kept at its venue.
type natsVenue struct {
	Scope   string `toml:"scope"`
	Domain  string `toml:"domain"`  // of JetStream, of the leaf node
	Address string `toml:"address"` // tls://HOST:PORT of the leaf node, for the terminals of the scope
}

func (n natsConfig) enabled() bool { return n.Listen != "" || n.URL != "" }

func (n natsConfig) check() error {
	if n.Listen != "" && n.URL != "" {
		return errors.New("nats.listen and nats.url: the server is the hub's own or another one, not both")
	}
	if n.Leaves != "" && n.Listen == "" {
		return errors.New("nats.leaves without nats.listen: leaf nodes connect to the server that nats.url names")
	}
	if n.Replicas < 1 || n.Replicas > 5 {
		return fmt.Errorf("nats.replicas is %d, want 1 to 5", n.Replicas)
	}
	for name, addr := range map[string]string{"nats.listen": n.Listen, "nats.leaves": n.Leaves} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s is %q: write HOST:PORT or :PORT", name, addr)
		}
	}
	if n.URL != "" && !isNATS(n.URL) {
		return fmt.Errorf("nats.url is %q: write tls://HOST:PORT", n.URL)
	}
	seen := map[string]bool{bus.HubDomain: true}
	for _, v := range n.Venues {
		switch {
		case v.Scope == "" || v.Domain == "" || !isNATS(v.Address):
			return fmt.Errorf("nats.venues of scope %q: it needs scope, domain, and address as tls://HOST:PORT", v.Scope)
		case !bus.IsDomain(v.Domain):
			return fmt.Errorf("nats.venues has the domain %q: letters, digits, - and _ alone", v.Domain)
		case seen[v.Domain] || seen["scope "+v.Scope]:
			return fmt.Errorf("nats.venues names scope %q or domain %q twice, or the domain is the hub's own", v.Scope, v.Domain)
		}
		seen[v.Domain], seen["scope "+v.Scope] = true, true
	}
	return nil
}

func isNATS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "tls" && u.Hostname() != "" && u.Port() != "" && u.User == nil && u.Path == ""
}

// venue is the leaf node of a scope.
func (n natsConfig) venue(scope string) (v natsVenue, ok bool) {
	for _, v := range n.Venues {
		if v.Scope == scope {
			return v, true
		}
	}
	return natsVenue{}, false
}

// domains are those in which claims are kept, by scope.
func (c *config) domains() map[string]string {
	domains := make(map[string]string)
	for _, v := range c.NATS.Venues {
		domains[v.Scope] = v.Domain
	}
	return domains
}

// addresses are those by which terminals of a scope connect. One of a venue connects to
// its leaf node alone: its claims are there.
func (c *config) addresses(scope string) []string {
	if v, ok := c.NATS.venue(scope); ok {
		return []string{v.Address}
	}
	if c.NATS.URL != "" {
		return []string{c.NATS.URL}
	}
	_, port, err := net.SplitHostPort(c.NATS.Listen)
	if err != nil || port == "" || port == "0" {
		return []string{}
	}
	all := []string{}
	for _, h := range c.Serve.Hosts {
		all = append(all, "tls://"+net.JoinHostPort(h, port))
	}
	return all
}

// openBus opens the hub's end of NATS, nil where it has none. The certificate that it
// shows is of the hub's own authority, by which terminals know it, whatever the one of
// HTTPS is.
func (s *site) openBus(ctx context.Context, log *slog.Logger) (*bus.Bus, error) {
	if !s.NATS.enabled() {
		return nil, nil
	}
	own, err := s.authority()
	if err != nil {
		return nil, err
	}
	show := &shownCertificate{issue: func(at time.Time) (tls.Certificate, error) {
		if s.NATS.URL == "" {
			certificate, key, err := own.Server(s.Serve.Hosts, at)
			if err != nil {
				return tls.Certificate{}, err
			}
			return tls.LoadX509KeyPair(certificate, key)
		}
		return hubClient(own, at)
	}}
	return bus.Open(ctx, bus.Config{
		Terminals: bus.Of(s.registry), Certificate: show.get, Authorities: own.Pool(),
		URL: s.NATS.URL, Listen: s.NATS.Listen, Leaves: s.NATS.Leaves, Store: s.path(s.NATS.Store), Domains: s.domains(),
		Tell: func(v bus.Severity, text string) {
			level := map[bus.Severity]slog.Level{bus.Debug: slog.LevelDebug, bus.Warning: slog.LevelWarn, bus.Failure: slog.LevelError}[v]
			log.Log(ctx, level, "nats", "says", text)
		},
	})
}

// hubClient is what the hub shows to another server: a key that lives as long as the
// process, and its certificate.
func hubClient(own authority.Authority, at time.Time) (tls.Certificate, error) {
	certificate, key, err := own.Node(bus.HubName, nil, at)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certificate, key)
}

// A shownCertificate is issued anew from time to time.
type shownCertificate struct {
	issue func(at time.Time) (tls.Certificate, error)

	mu      sync.Mutex
	current tls.Certificate
	issued  time.Time
}

// showFor is how long one is shown: it lasts for weeks.
const showFor = 12 * time.Hour

func (c *shownCertificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.issued) > showFor {
		fresh, err := c.issue(now)
		if err != nil {
			return nil, err
		}
		c.current, c.issued = fresh, now
	}
	shown := c.current
	return &shown, nil
}

// followBus cuts off who is not in force any more, and answers other commands of the hub,
// until ctx ends. events is nil where none come in.
func (s *site) followBus(ctx context.Context, log *slog.Logger, events *ingest.Store) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.keepBuckets(ctx, log) })
	wg.Go(func() {
		if err := s.answerBeats(ctx, events); err != nil {
			log.Warn("gate-hub terminal list will not know heartbeats", "error", err)
		}
	})
	tick := time.NewTicker(s.Serve.Poll.Duration)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch err := s.bus.Sweep(ctx); {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			log.Error("nobody is cut off", "error", err)
		}
	}
}

// poke tells the terminals of a scope that there is a new list; those that do not hear
// it look by themselves.
func (s *site) poke(scope string, log *slog.Logger) {
	if s.bus == nil {
		return
	}
	if err := s.bus.Poke(scope); err != nil {
		log.Warn("terminals not told", "error", err)
	}
}

// beatsSocket is where the running hub tells heartbeats to commands of its own user.
const beatsSocket = "beats.sock"

func (s *site) answerBeats(ctx context.Context, events *ingest.Store) error {
	path := filepath.Join(s.folder, beatsSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{ReadTimeout: 5 * time.Second, Handler: s.answers(events)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nobody waits for more
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// beats asks the running hub for the heartbeats of a scope, by terminal. The error is
// errNoHub where none runs.
func (s *site) beats(ctx context.Context, scope string) (map[string]bus.Beat, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var all []bus.Beat
	if err := s.ask(ctx, http.MethodGet, "/", &all); err != nil {
		return nil, fmt.Errorf("heartbeats: %w", err)
	}
	of := make(map[string]bus.Beat)
	for _, b := range all {
		if b.Scope == scope {
			of[b.Terminal] = b
		}
	}
	return of, nil
}

// ask asks the running hub. The error is errNoHub where none runs.
func (s *site) ask(ctx context.Context, method, what string, v any) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.folder, beatsSocket))
		},
	}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, "http://hub"+what, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoHub, err)
	}
	defer answer.Body.Close() // only read
	if answer.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
		return errors.Join(errors.New(strings.TrimSpace(string(text))), err)
	}
	return json.NewDecoder(answer.Body).Decode(v)
}

// answers are what the running hub tells commands of its own user.
func (s *site) answers(events *ingest.Store) http.Handler {
	mux := http.NewServeMux()
	tell := func(what string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(what, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v) // whoever asked is away
		})
	}
	tell("GET /{$}", func(*http.Request) (any, error) { return s.bus.Beats(), nil })
	tell("GET "+claimsPath, func(r *http.Request) (any, error) {
		return s.claimsOf(r.Context(), r.FormValue("scope"), r.FormValue("entitlement"))
	})
	tell("POST "+claimsPath, func(r *http.Request) (any, error) {
		return s.rebuildClaims(r.Context(), events, r.FormValue("scope"))
	})
	return mux
}

var errNoHub = errors.New("no hub runs here")

// checkBus says what is wrong with what only serve needs.
func (c *config) checkBus() error {
	if c.NATS.Listen != "" && len(c.Serve.Hosts) == 0 {
		return cli.ConfigError{Err: errors.New("nats.listen needs serve.hosts: the names by which terminals reach the hub, for its certificate")}
	}
	return nil
}
