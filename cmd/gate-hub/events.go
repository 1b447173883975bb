package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/upload"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/rules"
)

// eventsName is what package ingest opens: where hub.toml says nothing, beside the
// registry, in its database or in a file of its own.
func (c *config) eventsName() string {
	switch path, lite := strings.CutPrefix(c.Events, "sqlite:"); {
	case lite:
		return "sqlite:" + c.path(path)
	case c.Events != "":
		return c.Events
	case strings.HasPrefix(c.Registry, "sqlite:"):
		return "sqlite:" + c.path("events.db")
	}
	return c.Registry
}

func (s *site) openEvents(ctx context.Context) (*ingest.Store, error) {
	e, err := ingest.Open(ctx, s.eventsName())
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return e, nil
}

// ackKeys are the public keys by which terminals know acknowledgements, as
// SubjectPublicKeyInfo.
func (c *config) ackKeys() ([][]byte, error) {
	all := [][]byte{}
	for _, name := range c.AckPublic {
		k, err := readPublicKey(c.path(name))
		var spki []byte
		if err == nil {
			spki, err = x509.MarshalPKIXPublicKey(k)
		}
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("ack_public: %w", err)}
		}
		all = append(all, spki)
	}
	return all, nil
}

// An intake takes in what terminals record.
type intake struct {
	*ingest.Handler
	key *keystore.Key
}

func (i *intake) Close() error { return errors.Join(i.Store.Close(), i.key.Close()) }

// openIntake opens the store of events, and the key that acknowledges them; nil where
// none come in.
func (s *site) openIntake(ctx context.Context, log *slog.Logger) (*intake, error) {
	if s.bus == nil {
		return nil, nil
	}
	if s.AckKey == "" {
		log.Warn("no events are taken in: ack_key of hub.toml names no key to acknowledge them with (gate-hub key generate --purpose ack)")
		return nil, nil
	}
	key, err := s.keys.OpenSigner(ctx, s.AckKey, keystore.Purpose(sign1.RoleAck))
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("ack_key: %w", err)}
	}
	store, err := s.openEvents(ctx)
	if err != nil {
		return nil, errors.Join(err, key.Close())
	}
	refused := func(scope, terminal string, r *upload.Refusal, err error) {
		level := slog.LevelWarn
		if r.Code == upload.Clone || r.Retry {
			level = slog.LevelError
		}
		log.Log(ctx, level, "events not taken", "scope", scope, "terminal", terminal, "code", string(r.Code), "why", r.Message, "error", err)
	}
	return &intake{&ingest.Handler{Store: store, Signer: key, Refused: refused}, key}, nil
}

// takeIn takes in what terminals record and how they are, until ctx ends.
func (s *site) takeIn(ctx context.Context, log *slog.Logger, in *intake) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := s.bus.Answer(ctx, func(ctx context.Context, from bus.Terminal, batch []byte) []byte {
			return in.Handle(ctx, from.Scope, from.Name, batch)
		}); err != nil {
			log.Error("no events are taken in", "error", err)
		}
	})
	wg.Go(func() {
		if err := s.bus.Hear(ctx, func(ctx context.Context, from bus.Terminal, message []byte, at time.Time) {
			if err := in.Store.Heartbeat(ctx, from.Scope, from.Name, message, at); err != nil {
				log.Warn("heartbeat not kept", "scope", from.Scope, "terminal", from.Name, "error", err)
			}
		}); err != nil {
			log.Error("no heartbeats are kept", "error", err)
		}
	})
}

// withEvents gives a command the events of the scope that it is about.
func withEvents(f func(ctx context.Context, s *site, e *ingest.Store, scope string) error) func(context.Context, *site, string) error {
	return func(ctx context.Context, s *site, scope string) (err error) {
		if _, err := s.registry.Scope(ctx, scope); err != nil {
			return err
		}
		e, err := s.openEvents(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		return f(ctx, s, e, scope)
	}
}

// tickets judge conflicts by the registry.
type tickets struct {
	registry *registry.Registry
	scope    string
	day      rules.Facts
}

func (s *site) ticketsOf(ctx context.Context, scope string) (*tickets, error) {
	is, err := s.registry.Scope(ctx, scope)
	if err != nil {
		return nil, err
	}
	where, err := time.LoadLocation(is.Venue.TimeZone)
	if err != nil {
		return nil, err
	}
	return &tickets{s.registry, scope, rules.Facts{Location: where, DayStarts: is.Venue.DayStarts}}, nil
}

// Terms implements ingest.Tickets.
func (t *tickets) Terms(ctx context.Context, id string) (whitelist.Entitlement, bool, error) {
	ticket, err := t.registry.Ticket(ctx, t.scope, id)
	if errors.Is(err, registry.ErrNotFound) {
		return whitelist.Entitlement{}, false, nil
	}
	return ticket.Entitlement, err == nil, err
}

// Day implements ingest.Tickets.
func (t *tickets) Day(at time.Time) int64 { return t.day.Day(at).Unix() / (24 * 60 * 60) }
