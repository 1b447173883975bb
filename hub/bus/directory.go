package bus

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/sync/link"
)

// refreshPause is between two looks at the registry for somebody who is not known.
const refreshPause = time.Second

// A directory is who is in force, by the name in certificates and inboxes.
type directory struct {
	terminals Terminals

	mu    sync.Mutex
	known map[string]Terminal
	asked time.Time
}

func newDirectory(t Terminals) *directory { return &directory{terminals: t} }

func (d *directory) refresh(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refreshLocked(ctx)
}

func (d *directory) refreshLocked(ctx context.Context) error {
	d.asked = time.Now()
	all, err := d.terminals.InForce(ctx)
	if err != nil {
		return err
	}
	d.known = make(map[string]Terminal, len(all))
	for _, t := range all {
		d.known[link.ID(t.Identity)] = t
	}
	return nil
}

// byID looks again for one that was added since the last look.
func (d *directory) byID(ctx context.Context, id string) (Terminal, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[id]; !ok && time.Since(d.asked) > refreshPause {
		if err := d.refreshLocked(ctx); err != nil {
			return Terminal{}, err
		}
	}
	t, ok := d.known[id]
	if !ok {
		return Terminal{}, ErrUnknown
	}
	return t, nil
}

// add notes one that the registry has just named.
func (d *directory) add(t Terminal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[link.ID(t.Identity)] = t
}

func (d *directory) has(t Terminal) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[link.ID(t.Identity)]
	return ok && same(known, t)
}

func same(a, b Terminal) bool {
	return a.Scope == b.Scope && a.Name == b.Name && bytes.Equal(a.Identity, b.Identity)
}
