package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/sync/upload"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A venueHub is a real hub without its programs, which listens to the log of claims
// as it is written.
type venueHub struct {
	dir       string
	registry  *registry.Registry
	authority authority.Authority
	shown     *tls.Certificate
	ackKey    ed25519.PrivateKey
	ackKeys   sign1.Keys     // by which terminals know acknowledgements
	ticket    map[string]int // by its token in the log
	now       func() int64
	bus       *bus.Bus
	events    *ingest.Store
	endEvents func() error // closes them, once
	disk      int          // how often it was taken over
	stop      func() error

	mu     sync.Mutex
	log    heardLog // of the server that runs
	before heardLog // of the one before, until all that this one began with is heard
	faults []string
}

// A heardLog is what was heard of the log.
type heardLog struct {
	entered map[string]int64 // of a claim: when its entry was first seen
	freed   map[string]freed // of a claim: when it was first seen that nobody came in
	last    [2]written       // the newest record, and the newest of another gate than that one's
}

type freed struct {
	ticket int
	at     int64
}

// A written is a record of the log.
type written struct {
	gate   string
	ticket int
	number uint64
}

var venueBy = registry.By{Actor: "gate-sim", Reason: "venue"}

// newVenueHub makes a hub with its disk in dir.
func newVenueHub(ctx context.Context, dir string, now func() int64, tickets map[string]int) (h *venueHub, err error) {
	h = &venueHub{
		dir: dir, now: now, ticket: make(map[string]int), stop: func() error { return nil }}
	for name, n := range tickets {
		h.ticket[claims.Token(world.Scope, name)] = n
	}
	if h.registry, err = registry.Open(ctx, "sqlite:"+filepath.Join(dir, "registry.db")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.authority, err = authority.Need(filepath.Join(dir, "tls"), "hub", time.Now()); err != nil {
		return nil, err
	}
	certificate, key, err := h.authority.Server([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	h.shown = &pair
	var public ed25519.PublicKey
	if public, h.ackKey, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	if h.ackKeys, err = upload.Keys(world.Scope, [][]byte{spki}); err != nil {
		return nil, err
	}
	by := venueBy
	by.At = time.Now()
	return h, h.registry.AddScope(ctx, by, registry.Scope{
		Name: world.Scope, Hierarchy: whitelist.Test, Lifetime: time.Hour, LeaseDays: 7,
		Venue: whitelist.Venue{TimeZone: "Asia/Tokyo", Zones: []whitelist.Zone{{Name: hallZone}}},
	})
}

// register makes the identity of a terminal.
func (h *venueHub) register(ctx context.Context, name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	by := venueBy
	by.At = time.Now()
	if err := h.registry.AddTerminal(ctx, by, world.Scope, registry.Terminal{Name: name, Identity: spki}); err != nil {
		return nil, err
	}
	leaf, err := h.authority.Terminal(key.Public(), link.ID(spki), time.Now())
	return &tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}, err
}

// diskDir is where the server and the store of events write.
func (h *venueHub) diskDir() string { return filepath.Join(h.dir, fmt.Sprint("disk-", h.disk)) }

// start opens the server and the store of events on their disk, and returns the
// server's address.
func (h *venueHub) start(ctx context.Context) (address string, err error) {
	if err := os.MkdirAll(h.diskDir(), 0o700); err != nil {
		return "", err
	}
	if h.events, err = ingest.Open(ctx, "sqlite:"+filepath.Join(h.diskDir(), "events.db")); err != nil {
		return "", err
	}
	h.endEvents = sync.OnceValue(h.events.Close)
	h.stop = h.endEvents
	h.bus, err = bus.Open(ctx, bus.Config{
		Terminals: bus.Of(h.registry), Authorities: h.authority.Pool(), Listen: "127.0.0.1:0", Store: filepath.Join(h.diskDir(), "nats"),
		Certificate: func() (*tls.Certificate, error) { return h.shown, nil },
	})
	if err != nil {
		return "", err
	}
	listening, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	var unheard error
	h.stop = sync.OnceValue(func() error {
		cancel()
		parts.Wait()
		return errors.Join(unheard, h.bus.Close(), h.endEvents())
	})
	in := ingest.Handler{Store: h.events, Signer: h.ackKey}
	parts.Go(func() {
		unheard = h.bus.Answer(listening, func(ctx context.Context, from bus.Terminal, batch []byte) []byte {
			return in.Handle(ctx, from.Scope, from.Name, batch)
		})
	})
	js, err := h.bus.JetStream(world.Scope)
	if err != nil {
		return "", err
	}
	bucket := link.SubjectsOf(world.Scope, "", nil).Bucket
	if err := claims.MakeBucket(ctx, js, bucket, 1); err != nil {
		return "", err
	}
	b, err := claims.Open(ctx, js, bucket)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	h.before, h.log = h.log, heardLog{entered: make(map[string]int64), freed: make(map[string]freed)}
	h.mu.Unlock()
	watcher, err := b.Watch(listening, 1)
	if err != nil {
		return "", err
	}
	parts.Go(func() {
		for {
			select {
			case <-listening.Done():
				return
			case e, open := <-watcher.Updates():
				if !open {
					return
				}
				if e == nil {
					h.mu.Lock()
					h.before = heardLog{}
					h.mu.Unlock()
					continue
				}
				h.hear(e.Key(), e.Value())
			}
		}
	})
	return h.bus.Address(), nil
}

// hear notes a record of the log.
func (h *venueHub) hear(key string, value []byte) {
	at := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	token, n, err := claims.ParseKey(key)
	var r claims.Record
	if err == nil {
		r, err = claims.Parse(world.Scope, token, value)
	}
	ticket, known := h.ticket[token]
	if err != nil || !known {
		h.faults = append(h.faults, fmt.Sprintf("log of claims: %s: of a ticket: %t (%v)", key, known, err))
		return
	}
	l := &h.log
	if l.last[0].gate != r.Terminal {
		l.last[1] = l.last[0]
	}
	l.last[0] = written{r.Terminal, ticket, n}
	switch _, twice := l.entered[r.ID]; {
	case r.Kind == claims.Entry && twice:
		h.faults = append(h.faults, fmt.Sprintf("log of claims: %s: the claim is there twice", key))
	case r.Kind == claims.Entry:
		l.entered[r.ID] = at
		if first, known := h.before.entered[r.ID]; known {
			l.entered[r.ID] = first
		}
	case r.Kind == claims.Settle && r.People == 0 && !r.Doubt:
		if first, known := h.before.freed[r.ID]; known {
			l.freed[r.ID] = first
		} else if _, known := l.freed[r.ID]; !known {
			l.freed[r.ID] = freed{ticket, at}
		}
	}
}

// losePower stops the server as it stands: the hub goes on from a copy of its disk of
// that moment. Nothing that it says afterwards may reach anybody. The store of events
// ends between two commits, since files of a database cannot be copied one by one
// beside it; package ingest kills it in one.
func (h *venueHub) losePower() error {
	if err := h.endEvents(); err != nil {
		return err
	}
	from := h.diskDir()
	h.disk++
	// The server goes on writing: a file that is gone when its turn comes is looked
	// for again.
	for tries := 0; ; tries++ {
		err := os.CopyFS(h.diskDir(), os.DirFS(from))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || tries == 100 {
			return fmt.Errorf("copying the hub's disk: %w", err)
		}
		if err := os.RemoveAll(h.diskDir()); err != nil {
			return err
		}
	}
	return h.stop()
}

// newest are the newest record of the log, and the newest by another gate.
func (h *venueHub) newest() [2]written {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.last
}

func (h *venueHub) close() error { return errors.Join(h.stop(), h.registry.Close()) }
