package main

import (
	"context"
	"crypto/ecdsa"
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

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A venueHub is a real hub without its programs, which listens to the log of claims
// as it is written.
type venueHub struct {
	dir       string
	registry  *registry.Registry
	authority authority.Authority
	shown     *tls.Certificate
	ticket    map[string]int // by its token in the log
	now       func() int64
	bus       *bus.Bus
	store     int // how often its disk was taken over
	stop      func() error

	mu      sync.Mutex
	entered map[string]int64 // of a claim: when its entry was seen in the log
	freed   map[string]freed // of a claim: when the log had it that nobody came in
	next    map[int]uint64   // of a ticket: the first number that is free
	last    [2]written       // the newest record, and the newest of another gate than that one's
	faults  []string
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
		dir: dir, now: now, ticket: make(map[string]int), stop: func() error { return nil },
		entered: make(map[string]int64), freed: make(map[string]freed), next: make(map[int]uint64),
	}
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

func (h *venueHub) natsDir() string { return filepath.Join(h.dir, fmt.Sprint("nats-", h.store)) }

// start opens the server on its disk and returns its address.
func (h *venueHub) start(ctx context.Context) (address string, err error) {
	h.bus, err = bus.Open(ctx, bus.Config{
		Terminals: bus.Of(h.registry), Authorities: h.authority.Pool(), Listen: "127.0.0.1:0", Store: h.natsDir(),
		Certificate: func() (*tls.Certificate, error) { return h.shown, nil },
	})
	if err != nil {
		return "", err
	}
	listening, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	h.stop = sync.OnceValue(func() error {
		cancel()
		parts.Wait()
		return h.bus.Close()
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
				if e != nil {
					h.hear(e.Key(), e.Value())
				}
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
	h.next[ticket] = max(h.next[ticket], n+1)
	if h.last[0].gate != r.Terminal {
		h.last[1] = h.last[0]
	}
	h.last[0] = written{r.Terminal, ticket, n}
	if r.Kind == claims.Settle && r.People == 0 && !r.Doubt {
		if _, known := h.freed[r.ID]; !known {
			h.freed[r.ID] = freed{ticket, at}
		}
	}
	if r.Kind == claims.Entry {
		if _, known := h.entered[r.ID]; !known {
			h.entered[r.ID] = at
		}
	}
}

// losePower stops the hub as it stands: it goes on from a copy of its disk of that
// moment. Nothing that it says afterwards may reach anybody.
func (h *venueHub) losePower() error {
	from := h.natsDir()
	h.store++
	// The server goes on writing: a file that is gone when its turn comes is looked
	// for again.
	for tries := 0; ; tries++ {
		err := os.CopyFS(h.natsDir(), os.DirFS(from))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || tries == 100 {
			return fmt.Errorf("copying the hub's disk: %w", err)
		}
		if err := os.RemoveAll(h.natsDir()); err != nil {
			return err
		}
	}
	return h.stop()
}

// newest are the newest record of the log, and the newest by another gate.
func (h *venueHub) newest() [2]written {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *venueHub) close() error { return errors.Join(h.stop(), h.registry.Close()) }
