package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/rescue"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// A wipe goes in steps, in this order. Each can be interrupted, and said again: what
// was done by then is found done.
//
//	journal saved to the rescue file ─▶ keys ─▶ everything else in the state folder ─▶ remembered as done
//
// Nothing is destroyed before the rescue file is whole and durable. What stays is that
// file, the memory of commands, and the configuration.

// wipeAgainAfter is how long a wipe that failed waits, on a full disk for instance.
const wipeAgainAfter = 5 * time.Second

// runWiped runs a terminal that is to be wiped, or was: the gates are shut and show so.
func runWiped(ctx context.Context, c *config, log *slog.Logger, keys io.Reader) (err error) {
	doors, shut, err := openGates(c.lanes(), log, keys)
	if err != nil {
		log.Error("gate not opened to shut it", "error", err) // the wipe waits for no gate
	} else {
		defer func() { err = errors.Join(err, shut()) }()
	}
	for _, d := range doors {
		d.Show(terminal.ShowOutOfOrder)
	}
	for said := ""; ; {
		err := c.wipe(ctx)
		if err == nil {
			break
		}
		if err.Error() != said {
			said = err.Error()
			log.Error("wipe not complete", "error", err)
		}
		if !pause(ctx, wipeAgainAfter) {
			return nil
		}
	}
	log.Warn("this terminal is wiped / この端末は消去されました", "command", c.memory.State().Wiped.Number,
		"rescue_file", c.rescuePath(), "left", c.memory.State().Wiped.Left, "next", "set it up anew, then gate-agent command revive")
	for pause(ctx, watchEvery) {
		now, err := command.OpenMemory(c.path(c.State))
		if err == nil && now.State().Wiped.Number == 0 {
			return errRestart
		}
	}
	return nil
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wipe goes all the steps, unless they were gone before.
func (c *config) wipe(ctx context.Context) error {
	if c.memory.State().Wiped.Done {
		return nil
	}
	steps, err := c.wipeSteps()
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

type wipeStep struct {
	name string
	do   func(context.Context) error
}

// wipeSteps are the steps that are left.
func (c *config) wipeSteps() ([]wipeStep, error) {
	steps := []wipeStep{{"saving the journal", c.saveJournal}}
	places, err := c.usedKeys()
	if err != nil {
		places = c.keyPlaces() // a rotation that cannot be read names no key that opens
	}
	var left []string
	for _, p := range places {
		steps = append(steps, wipeStep{"destroying " + p.name, func(ctx context.Context) error {
			if err := c.keys.store.Erase(ctx, p.uri, p.purpose); err != nil {
				left = append(left, strings.ToValidUTF8(p.name+": "+err.Error(), "?")) // for people, who can break a card
			}
			return nil
		}})
	}
	if !c.ScopeKey.Lease {
		steps = append(steps, wipeStep{"destroying scope_key.file", func(context.Context) error { return keystore.Shred(c.path(c.ScopeKey.File)) }})
	}
	all, err := c.wiped()
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		steps = append(steps, wipeStep{"destroying " + path, func(context.Context) error { return shred(path) }})
	}
	return append(steps, wipeStep{"remembering it", func(context.Context) error {
		return c.memory.Update(func(s *command.State) { s.Wiped.Done, s.Wiped.Left = true, left })
	}}), nil
}

// rescuePath is where the journal is saved. A file of an earlier wipe is another one, also
// where somebody has begun to count commands anew: it says nothing of this journal.
func (c *config) rescuePath() string {
	w := c.memory.State().Wiped
	return filepath.Join(c.path(c.State), fmt.Sprintf("%s%s-%d-%s.age", rescuePrefix, filename.Of(w.Scope), w.Number, w.Since.UTC().Format("20060102T150405Z")))
}

const rescuePrefix = "rescue-"

// saveJournal writes the rescue file, unless it is there: it appears whole.
func (c *config) saveJournal(context.Context) (err error) {
	path := c.rescuePath()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.foldJournal(); err != nil {
		return err
	}
	w := c.memory.State().Wiped
	draft, err := wholefile.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	about := rescue.About{Terminal: c.Terminal, Scope: w.Scope, Command: w.Number, At: w.Since}
	if err := rescue.Write(draft, w.RescueKey, about, c.path(c.State)); err != nil {
		return err
	}
	return draft.Keep(nil)
}

// foldJournal leaves the journal in one file, where it can. One that is damaged is saved
// as it is, with what lies beside it.
func (c *config) foldJournal() error {
	if _, err := os.Lstat(c.journalPath()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	j, err := journal.Open(c.journalPath(), nil)
	switch {
	case errors.Is(err, journal.ErrInUse):
		return err // somebody still writes
	case err != nil:
		return nil
	}
	return j.Close()
}

// wiped are the files of the state folder that a wipe destroys, folders behind what is
// in them.
func (c *config) wiped() (all []string, err error) {
	root := c.path(c.State)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		inRoot := filepath.Dir(path) == root
		if inRoot && (d.Name() == command.MemoryFile || strings.HasPrefix(d.Name(), rescuePrefix)) {
			return nil
		}
		all = append([]string{path}, all...)
		return nil
	})
	return all, err
}

// shred destroys a file, or a folder that is empty. What is gone was destroyed before.
func shred(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		return keystore.Shred(path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	return err
}
