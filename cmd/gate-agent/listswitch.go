package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// A listSwitch is the list store of a terminal whose scope key comes and goes: while
// there is none, nobody reads a list or takes one over.
type listSwitch struct {
	mu    sync.Mutex
	store *listdb.Store // nil: why says so
	why   error
	ready chan struct{} // closed when there was a store first
}

func newListSwitch() *listSwitch { return &listSwitch{ready: make(chan struct{})} }

// wait waits until there was a store, and reports whether ctx goes on: a source is not
// asked for what nobody could open.
func (l *listSwitch) wait(ctx context.Context) bool {
	select {
	case <-l.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// errNoScopeKey is every use of a list without a scope key.
var errNoScopeKey = errors.New("no scope key")

// put puts a store into use, and closes the one before. Views of that one stay valid.
func (l *listSwitch) put(store *listdb.Store) error { return l.set(store, nil) }

// drop closes the store, and says why there is none.
func (l *listSwitch) drop(why error) error { return l.set(nil, why) }

func (l *listSwitch) set(store *listdb.Store, why error) error {
	l.mu.Lock()
	old := l.store
	l.store, l.why = store, why
	select {
	case <-l.ready:
	default:
		if store != nil {
			close(l.ready)
		}
	}
	l.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.Close()
}

func (l *listSwitch) get() (*listdb.Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store == nil {
		return nil, fmt.Errorf("%w: %w", errNoScopeKey, l.why)
	}
	return l.store, nil
}

// Close ends the use of the switch.
func (l *listSwitch) Close() error { return l.drop(listdb.ErrClosed) }

func (l *listSwitch) Current() (whitelist.View, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Current()
}

func (l *listSwitch) Import(ctx context.Context, r io.Reader, at time.Time, progress func(uint64)) (whitelist.Manifest, error) {
	s, err := l.get()
	if err != nil {
		return whitelist.Manifest{}, err
	}
	return s.Import(ctx, r, at, progress)
}

func (l *listSwitch) Examine(ctx context.Context, head []byte, at time.Time) (h whitelist.Head, from uint64, same bool, err error) {
	s, err := l.get()
	if err != nil {
		return h, 0, false, err
	}
	return s.Examine(ctx, head, at)
}

func (l *listSwitch) Apply(ctx context.Context, head []byte, at time.Time, files whitelist.Files, progress func(uint64)) (whitelist.Manifest, error) {
	s, err := l.get()
	if err != nil {
		return whitelist.Manifest{}, err
	}
	return s.Apply(ctx, head, at, files, progress)
}

func (l *listSwitch) Merge(ctx context.Context, force bool) (bool, error) {
	s, err := l.get()
	if err != nil {
		return false, err
	}
	return s.Merge(ctx, force)
}
