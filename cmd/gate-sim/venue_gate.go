package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/claims/claimer"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/sync/upload"
	"github.com/gate-agent/gate-agent/terminal"
)

// A venueGate is a terminal with a lane: all of it real but reader, cards and relay.
type venueGate struct {
	*turnstile
	name   string
	wire   *wire
	site   *world.Site
	link   *link.Conn
	claims *recorder
	apart  bool // cut off, and known to be

	claimer  *claimer.Claimer
	uploader *upload.Uploader
	running  sync.WaitGroup
	stop     context.CancelFunc
	ended    error // of the lane
}

// newVenueGate starts the i-th terminal, on a list, with its state in a folder in dir.
func (v *venueRun) newVenueGate(ctx context.Context, i int, dir string, list []byte, hub string) (g *venueGate, err error) {
	name := entryName(i)
	dir = filepath.Join(dir, name)
	g = &venueGate{turnstile: newTurnstile(), name: name, stop: func() {}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting %s: %w", name, errors.Join(err, g.close()))
			g = nil
		}
	}()
	var delays *mathrand.Rand
	if v.flaky {
		delays = mathrand.New(mathrand.NewPCG(v.seed, uint64(i+1)))
	}
	if g.wire, err = newWire(delays); err != nil {
		return g, err
	}
	g.wire.leadTo(hub)
	if g.site, err = v.world.Open(dir); err != nil {
		return g, err
	}
	now := time.Now()
	if _, err := g.site.Store.Import(ctx, bytes.NewReader(list), now, nil); err != nil {
		return g, err
	}
	if err := g.site.Journal.Started(ctx, now, name, world.Scope, "gate-sim"); err != nil {
		return g, err
	}
	identity, err := v.hub.register(ctx, name)
	if err != nil {
		return g, err
	}
	if g.link, err = link.Open(link.Config{
		Scope: world.Scope, Terminal: name, Key: identity.PrivateKey.(crypto.Signer).Public(), Servers: []string{"tls://" + g.wire.address()},
		Certificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return identity, nil },
		Authorities: func() (*x509.CertPool, error) { return v.hub.authority.Pool(), nil },
		Poke:        func() {}, Health: func() link.Health { return link.Health{Agent: "gate-sim"} },
	}); err != nil {
		return g, err
	}
	running, stop := context.WithCancel(context.Background())
	g.stop = stop
	g.running.Go(func() { g.link.Run(running) })
	js, err := g.link.JetStream()
	if err != nil {
		return g, err
	}
	g.claimer, err = claimer.Open(claimer.Config{
		Path: filepath.Join(dir, "claims.db"), Scope: world.Scope, Terminal: name, Bucket: g.link.Subjects.Bucket,
		JetStream: js, Connected: g.link.Connected, Journal: g.site.Journal.Reader, Report: func(error) {},
	})
	if err != nil {
		return g, err
	}
	g.running.Go(func() { g.claimer.Run(running) })
	g.uploader = upload.New(upload.Config{
		Journal: g.site.Journal.Reader, Hub: g.link, Subject: g.link.Subjects.Events, Scope: world.Scope, Terminal: name,
		Agent: "gate-sim", Keys: v.hub.ackKeys, File: filepath.Join(dir, "ack.cose"),
	})
	g.running.Go(func() { g.uploader.Run(running) })
	g.claims = &recorder{Claims: g.claimer, now: v.now, ticket: func(name string) int { return v.byName[name] }}
	if v.spoil != nil {
		g.claims.Claims = v.spoil(g.claimer)
	}
	g.lane, _, err = g.site.Lane(g.field, func(c *terminal.Config, parts *terminal.Parts) {
		g.turnstile.wire(parts)
		c.Terminal, c.GateName = name, name
		// A machine that stalls shall not look like a gate that errs.
		c.Deadline = patience / 2
		parts.Claims = g.claims
	})
	if err != nil {
		return g, err
	}
	g.running.Go(func() { g.ended = g.lane.Run(running) })
	return g, nil
}

// abreast reports whether the log and the hub have all of the gate's journal, and the
// gate all of the log.
func (g *venueGate) abreast(ctx context.Context, v *venueRun) (bool, error) {
	s, err := g.claimer.Status(ctx)
	if err != nil || s.Apart || s.Loose > 0 {
		return false, err
	}
	last, err := g.site.Journal.CheckTail(ctx)
	if err != nil || s.Through < last || g.uploader.Status().Acknowledged < last {
		return false, err
	}
	for _, w := range v.hub.newest() {
		if w.gate == "" {
			continue
		}
		log, err := g.claimer.Log(ctx, v.tickets[w.ticket].name)
		if err != nil || log.Next <= w.number {
			return false, err
		}
	}
	return true, nil
}

// close stops the terminal.
func (g *venueGate) close() error {
	g.stop()
	g.running.Wait()
	err := g.ended
	if g.claimer != nil {
		err = errors.Join(err, g.claimer.Close())
	}
	if g.site != nil {
		err = errors.Join(err, g.site.Close())
	}
	if g.wire != nil {
		err = errors.Join(err, g.wire.close())
	}
	return err
}
