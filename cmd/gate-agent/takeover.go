package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// A takeover is the journal of a broken terminal on its way to this one, with what it
// remembered of commands and had heard of other gates:
//
//	copied into a folder of its own ─▶ chain verified ─▶ (enrolled) ─▶ given its name
//
// What was on the other disk is not changed, and the journal appears whole or not at all.
type takeover struct {
	c      *config
	folder string // where it lies until then
	report journal.Report
}

const (
	takeoverFolder = "takeover"
	journalFile    = "journal.db"
)

// takenOver are the files, the journal last: while it is missing, all can be done again.
// A write-ahead log has what was written last. The claims are an index that is made anew
// where it does not fit the journal.
func takenOver() []string {
	return []string{command.MemoryFile, "claims.db-wal", "claims.db", journalFile + "-wal", journalFile}
}

// takeOverFrom copies and verifies what lies in the state folder of a broken terminal; nil
// where none is named.
func (c *config) takeOverFrom(ctx context.Context, from string) (_ *takeover, err error) {
	if from == "" {
		return nil, nil
	}
	refuse := func(err error) (*takeover, error) {
		return nil, cli.RefusedError{Err: fmt.Errorf("taking over %s: %w", from, err)}
	}
	if _, err := os.Lstat(c.journalPath()); err == nil {
		return refuse(errors.New("this terminal has a journal of its own, and a spare has none: keep it elsewhere, and empty the state folder"))
	}
	memory, err := command.OpenMemory(from)
	if err != nil {
		return refuse(err)
	}
	if memory.State().Wiped.Number > 0 {
		return refuse(errors.New("that terminal is wiped: its journal is in the rescue file (docs/terminal-commands.md)"))
	}
	t := &takeover{c: c, folder: filepath.Join(c.path(c.State), takeoverFolder)}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.discard())
		}
	}()
	if err := errors.Join(t.discard(), os.MkdirAll(t.folder, 0o700)); err != nil {
		return nil, err
	}
	// Nothing is opened there: that disk may be read-only, or dying.
	for _, name := range takenOver() {
		err := copyFile(filepath.Join(from, name), filepath.Join(t.folder, name))
		if errors.Is(err, fs.ErrNotExist) && name != journalFile {
			continue
		}
		if err != nil {
			return refuse(err)
		}
	}
	if err := t.verify(ctx); err != nil {
		return refuse(err)
	}
	return t, nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	if info, err := in.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", from)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

// verify opens the journal, which brings in its WAL and puts open passages in doubt, and
// checks every event.
func (t *takeover) verify(ctx context.Context) (err error) {
	j, err := journal.Open(filepath.Join(t.folder, journalFile), nil)
	if err != nil {
		return err
	}
	t.report, err = j.Verify(ctx)
	return errors.Join(err, j.Close())
}

// keep gives the files their names. A nil takeover keeps nothing.
func (t *takeover) keep() error {
	if t == nil {
		return nil
	}
	state := t.c.path(t.c.State)
	for _, name := range takenOver() {
		err := os.Rename(filepath.Join(t.folder, name), filepath.Join(state, name))
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || name == journalFile) {
			return fmt.Errorf("taking over: %w", err)
		}
	}
	return wholefile.SyncFolder(state)
}

// discard removes what was not kept.
func (t *takeover) discard() error {
	if t == nil {
		return nil
	}
	return os.RemoveAll(t.folder)
}

func (t *takeover) text() string {
	return fmt.Sprintf("%d events of journal %x, verified", t.report.Events, t.report.Incarnation[:4])
}
