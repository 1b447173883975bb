package claimer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// A Copy reads what a Claimer has heard, also while it runs in another program.
type Copy struct{ store *store }

// OpenCopy opens the copy at path for reading, that of the terminal of a journal. The
// error is fs.ErrNotExist where there is none.
func OpenCopy(ctx context.Context, path, scope, name string, j *journal.Reader) (_ *Copy, err error) {
	fail := func(err error) (*Copy, error) {
		return nil, fmt.Errorf("opening the copy of the venue's log: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return fail(err)
	}
	if _, err := os.Stat(path); err != nil { // clearer than what SQLite says
		return fail(err)
	}
	incarnation, err := j.Incarnation(ctx)
	if err != nil {
		return fail(err)
	}
	s := &store{scope: scope, me: claims.Writer{Terminal: name, Incarnation: hex.EncodeToString(incarnation[:])}}
	if s.r, err = openDB(path, "mode=ro"); err != nil {
		return fail(err)
	}
	if err := belongs(ctx, s.r, s.owner()); err != nil {
		return fail(errors.Join(err, s.close()))
	}
	return &Copy{s}, nil
}

// Log is what was heard of an entitlement's log. Nobody says whether there is more.
func (c *Copy) Log(ctx context.Context, entitlement string) (terminal.Log, error) {
	return c.store.read(ctx, entitlement)
}

// Close closes the copy.
func (c *Copy) Close() error { return c.store.close() }
