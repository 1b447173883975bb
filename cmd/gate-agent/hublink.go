package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// A hubLink is the live connection to the hub, or none: then all but wake is nil.
type hubLink struct {
	conn   atomic.Pointer[link.Conn]
	upload atomic.Pointer[uploading]
	claims *claiming     // nil in a shelter
	moved  bool          // to a scope that it is not enrolled in: nobody takes its events in
	wake   chan struct{} // a poke came
	health func() link.Health
}

func newHubLink() *hubLink { return &hubLink{wake: make(chan struct{}, 1)} }

// open opens the connection of an enrolled terminal, without waiting for it, and what goes
// over it.
func (l *hubLink) open(ctx context.Context, c *config, log *slog.Logger, record *journal.Journal) error {
	if c.enrolled == nil || len(c.enrolled.Hub.NATS) == 0 {
		return nil
	}
	credential, err := c.credential(ctx)
	if err != nil {
		return err
	}
	hub := c.enrolled.Hub
	if l.moved = hub.Scope != c.Scope; l.moved {
		log.Warn("not connected: the terminal is enrolled in another scope; all events are kept here", "scope", c.Scope, "enrolled", hub.Scope, "next", "enrol with a token of its scope")
		return nil
	}
	conn, err := link.Open(link.Config{
		Scope: hub.Scope, Terminal: hub.Terminal, Servers: hub.NATS,
		Key: c.enrolled.Certificate.PublicKey, Certificate: credential.ForTLS,
		Authorities: func() (*x509.CertPool, error) {
			e, err := enrol.Read(c.path(c.State))
			return e.Roots(), err
		},
		Poke: func() {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		},
		Health: func() link.Health { return l.health() }, // by run, which comes behind shows
		Tell:   l.tell(log),
	})
	if err != nil {
		return cli.ConfigError{Err: fmt.Errorf("hub.connect: %w", err)}
	}
	l.conn.Store(conn)
	u, err := c.openUpload(ctx, log, record, conn)
	if err != nil {
		return err
	}
	l.upload.Store(u)
	l.claims, err = c.openClaims(log, record, conn)
	return err
}

// close closes what was heard of the venue. Run and all lanes have ended.
func (l *hubLink) close() error {
	if l.claims == nil {
		return nil
	}
	return l.claims.Close()
}

// shows has heartbeats say how the agent is, and whoever asks the agent how the link is.
func (l *hubLink) shows(ctx context.Context, c *config, about *api.Parts) {
	conn, started, asked := l.conn.Load(), time.Now(), *about
	if conn == nil {
		return
	}
	l.health = func() link.Health {
		h := c.health(ctx, asked, started)
		if u := l.upload.Load(); u != nil {
			u.about(&h, nil)
		}
		if l.claims != nil {
			is := l.claims.status(ctx)
			h.Claims = &link.HealthClaims{Apart: is.Apart, Untold: is.Untold, Unread: is.Unread}
		}
		return h
	}
	about.Hub = func() api.HubStatus {
		s := conn.State()
		h := api.HubStatus{Connected: s.Connected, Server: s.Server, Problem: s.Problem}
		if !s.Since.IsZero() {
			h.Since = &s.Since
		}
		if u := l.upload.Load(); u != nil {
			u.about(nil, &h)
		}
		if l.claims != nil {
			is := l.claims.status(ctx)
			h.Claims = &is
		}
		return h
	}
}

// run keeps the connection, sends events and tells the venue's log, until ctx ends.
func (l *hubLink) run(ctx context.Context) {
	conn, u := l.conn.Load(), l.upload.Load()
	if conn == nil || u == nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { u.Run(ctx) })
	if l.claims != nil {
		wg.Go(func() { l.claims.Run(ctx) })
	}
	conn.Run(ctx)
	wg.Wait()
}

// add sends a decision to whoever looks on, at most once. No tap waits for it.
func (l *hubLink) add(d terminal.Decision) {
	conn := l.conn.Load()
	if conn == nil || !conn.Connected() {
		return
	}
	if b, err := json.Marshal(d.Event()); err == nil {
		conn.Live(b)
	}
}

// tell tells the operator when the hub comes and goes, and each reason once. When it
// comes, events go at once.
func (l *hubLink) tell(log *slog.Logger) func(link.State) {
	said := link.State{}
	return func(s link.State) {
		switch {
		case s.Connected && !said.Connected:
			log.Info("connected to the hub", "server", s.Server)
			if u := l.upload.Load(); u != nil {
				u.Wake()
			}
		case !s.Connected && said.Connected:
			log.Warn("not connected to the hub: taps go on", "problem", s.Problem)
		case s.Problem != "" && s.Problem != said.Problem:
			log.Warn("the link to the hub", "problem", s.Problem)
		}
		said = s
	}
}

// health is what a heartbeat says.
func (c *config) health(ctx context.Context, about api.Parts, started time.Time) link.Health {
	s := about.Status(ctx, started)
	h := link.Health{
		Agent: s.Version, UpForS: s.UptimeS, ClockTrusted: s.Clock.Trusted, KeysLost: c.keys.lostNames(),
		Lanes: []link.HealthLane{}, InDoubt: s.Journal.InDoubt,
	}
	if s.List != nil {
		h.List = &link.HealthList{Epoch: s.List.Epoch, Seq: s.List.Seq, NotAfter: s.List.NotAfter}
	}
	for _, l := range s.Lanes {
		lane := link.HealthLane{Lane: l.Lane, Signal: l.Signal, Why: []string{}, Reader: l.Reader.Up}
		for _, r := range l.Why {
			lane.Why = append(lane.Why, string(r))
		}
		h.Lanes = append(h.Lanes, lane)
	}
	return h
}

// lostNames are the places of the configuration whose key cannot sign now.
func (r *keyring) lostNames() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := []string{}
	for _, k := range r.keys {
		if k.Lost() != nil {
			names = append(names, k.name)
		}
	}
	return names
}
