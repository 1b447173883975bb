// Package lists keeps a terminal's list as new as its source has it. What it
// fetches goes into the list store, which verifies it; a refused list leaves
// the one in force where it is.
package lists

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Fetcher brings list files.
type Fetcher interface {
	// Fetch opens the newest list file, or returns fetch.ErrUnchanged.
	Fetch(ctx context.Context) (io.ReadCloser, error)
	// Keep says that what was fetched last need not be fetched again.
	Keep()
}

// A Store verifies list files and keeps the newest.
type Store interface {
	// Import puts a list in force. The error is a *whitelist.RefusedError
	// when the list is at fault.
	Import(ctx context.Context, r io.Reader, at time.Time, progress func(rows uint64)) (whitelist.Manifest, error)
}

// Follow fetches now and then every interval until ctx ends. It reports every
// list that came into force, and every failure; an unchanged source is
// neither.
func Follow(ctx context.Context, every time.Duration, f Fetcher, s Store, report func(whitelist.Manifest, error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if m, err := once(ctx, f, s); ctx.Err() == nil && !errors.Is(err, fetch.ErrUnchanged) {
			report(m, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// once fetches and imports. A refused file is fetched again only when it has
// changed: it will not become better. What failed for another reason, such as
// a medium pulled out or a full disk, is fetched again: it may have been the
// newest list there is.
func once(ctx context.Context, f Fetcher, s Store) (whitelist.Manifest, error) {
	r, err := f.Fetch(ctx)
	if err != nil {
		return whitelist.Manifest{}, err
	}
	m, err := s.Import(ctx, r, time.Now(), nil)
	if _, refused := errors.AsType[*whitelist.RefusedError](err); err == nil || refused {
		f.Keep()
	}
	return m, errors.Join(err, r.Close())
}
