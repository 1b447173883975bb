package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/rescue"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// wiping is a terminal with a journal, whose wipe was commanded.
func wiping(t *testing.T) (c *config, identity string) {
	t.Helper()
	w, err := world.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	file, err := w.Install(t.TempDir(), `["tap-use", "external-auth"]`, list)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = loadConfig(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.keys.close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.makeState(); err != nil {
		t.Fatal(err)
	}
	j, err := c.openJournal(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(j.Started(t.Context(), time.Now(), c.Terminal, c.Scope, "v1"), j.Close())
	for _, name := range []string{"list.db", "lease", "delivery.key", "scopes/hall/lease", "scopes/hall/list.db", "sync.json", "fetch/part"} {
		path := filepath.Join(c.path(c.State), name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("secret"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	identity, recipient, err := rescue.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	err = c.memory.Update(func(s *command.State) {
		s.See(command.Scope{Name: c.Scope, Number: 7})
		s.Wiped = command.Wiping{Number: 7, Scope: c.Scope, RescueKey: recipient, Since: time.Unix(1_800_000_000, 0)}
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, identity
}

// remains are what a wipe destroys, as far as it is still there.
func remains(t *testing.T, c *config) (left []string) {
	t.Helper()
	err := filepath.WalkDir(c.path(c.State), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != command.MemoryFile && !strings.HasPrefix(d.Name(), rescuePrefix) {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wrap.key", "identity.key", "external-auth.key", "checkpoint.key", "scope.key"} {
		if _, err := os.Stat(c.path(name)); err == nil {
			left = append(left, name)
		}
	}
	return left
}

// saved opens the rescue file, and counts the events that are in it.
func saved(t *testing.T, c *config, identity string) uint64 {
	t.Helper()
	f, err := os.Open(c.rescuePath())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := rescue.Open(f, strings.NewReader(identity), root); err != nil {
		t.Fatal(err)
	}
	r, err := journal.OpenReader(filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	last, err := r.CheckTail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// Whichever step is the last before the power goes, the next start ends the wipe, and
// the journal is saved first.
func TestWipeThatEndsAtAnyStepIsCompleted(t *testing.T) {
	c, _ := wiping(t)
	steps, err := c.wipeSteps()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(steps) {
		c, identity := wiping(t)
		before := remains(t, c)
		steps, err := c.wipeSteps()
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range steps[:n] {
			if err := s.do(t.Context()); err != nil {
				t.Fatalf("step %d, %s: %v", i+1, s.name, err)
			}
		}
		if n == 0 && len(remains(t, c)) != len(before) {
			t.Error("something is destroyed before the first step")
		}
		again, err := loadConfig(c.file) // as the next start does
		if err != nil {
			t.Fatalf("after %d steps: %v", n, err)
		}
		if err := again.wipe(t.Context()); err != nil {
			t.Fatalf("after %d steps: %v", n, err)
		}
		if left := remains(t, again); len(left) != 0 {
			t.Errorf("after %d steps there is left %q", n, left)
		}
		if events := saved(t, again, identity); events != 1 {
			t.Errorf("after %d steps %d events are saved", n, events)
		}
		if s := again.memory.State(); !s.Wiped.Done || len(s.Wiped.Left) != 0 || s.Of(c.Scope).Number != 7 {
			t.Errorf("after %d steps it remembers %+v", n, s)
		}
	}
}

// A disk that is full, or a journal that another program holds, ends no wipe: nothing is
// destroyed until the journal is saved.
func TestNothingIsDestroyedBeforeTheJournalIsSaved(t *testing.T) {
	c, identity := wiping(t)
	before := remains(t, c)
	j, err := c.openJournal(time.Now) // as an agent that hangs
	if err != nil {
		t.Fatal(err)
	}
	if err := c.wipe(t.Context()); !errors.Is(err, journal.ErrInUse) {
		t.Errorf("%v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	now := remains(t, c)
	for _, f := range before {
		if !slices.Contains(now, f) && !strings.HasSuffix(f, "-wal") && !strings.HasSuffix(f, "-shm") {
			t.Errorf("%s is gone", f)
		}
	}
	if err := c.wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := remains(t, c); len(left) != 0 || saved(t, c, identity) != 1 {
		t.Errorf("left: %q", left)
	}
}

// A journal that is damaged is saved as it is.
func TestDamagedJournalIsSavedAsItIs(t *testing.T) {
	c, identity := wiping(t)
	damaged := []byte("not a database")
	if err := os.WriteFile(c.journalPath(), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(c.rescuePath())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := rescue.Open(f, strings.NewReader(identity), root); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "journal.db")); err != nil || string(b) != string(damaged) {
		t.Errorf("%q, %v", b, err)
	}
}

// Somebody has begun to count commands anew, and a wipe has the number of an earlier one:
// the journal of then is not that of now.
func TestRescueFileOfAnEarlierWipeIsNotTakenForThisOne(t *testing.T) {
	c, identity := wiping(t)
	before := c.memory.State().Wiped
	if err := c.memory.Update(func(s *command.State) { s.Wiped.Since = before.Since.Add(-time.Hour) }); err != nil {
		t.Fatal(err)
	}
	old := c.rescuePath()
	if err := os.WriteFile(old, []byte("the journal of then"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.memory.Update(func(s *command.State) { s.Wiped = before }); err != nil {
		t.Fatal(err)
	}
	if err := c.wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := saved(t, c, identity); n != 1 {
		t.Errorf("%d events are saved", n)
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "the journal of then" {
		t.Errorf("the earlier file: %q, %v", b, err)
	}
}
