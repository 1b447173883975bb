package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/rescue"
	"github.com/gate-agent/gate-agent/terminal"
)

// A wipe saves the journal for the operator, and leaves nothing else. What was commanded
// before it is worth nothing after it.
func TestWipeSavesTheJournalAndIsNotPlayedAgain(t *testing.T) {
	t.Parallel()
	w, r, o := theTown(t), newReaders(t), newOperator(t)
	s := o.leased(time.Hour)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	o.command(world.Scope, o.wipe(), o.anna)
	a.says("command signed by too few keys")
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	before := s.journal(t)
	file := o.command(world.Scope, o.wipe(), o.anna, o.ben)
	a.says("this terminal is wiped")
	o.wiped(s, before)
	if _, stderr, code := s.run(t, "status"); code != 4 || !strings.Contains(stderr, "wiped") {
		t.Errorf("status: exit code %d, %s", code, stderr)
	}
	a.stop()

	// Set up anew, with the same names, it is not wiped a second time.
	_, err := w.Install(s.dir+"-new", `["tap-use", "external-auth"]`, w.list)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wrap.key", "identity.key", "external-auth.key", "checkpoint.key", "key-source"} {
		if err := os.Rename(s.dir+"-new/"+name, s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	o.issue(s, world.Scope, w.ScopeSecret, time.Hour)
	b := launch(t, s, r.daemon.Env())
	b.says("this terminal is wiped") // until somebody says that it is not
	s.must(t, "command", "revive")
	b.says(`"msg":"list in force"`)
	b.says("command played again")
	time.Sleep(settled)
	want(t, r.tap(b, w.alice(t)), terminal.Admit, terminal.OK)
	o.write(world.Scope, command.File(world.Terminal), append(file, 0)) // a spoilt one does nothing either
	b.says("malformed command")
	want(t, r.tap(b, w.alice(t)), terminal.Admit, terminal.OK)
	b.stop()
	if n := strings.Count(b.stderr.String(), "command played again"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// wiped fails the test unless nothing is left but the rescue file, which has these events.
func (o *operator) wiped(s site, before []recorded) {
	o.t.Helper()
	var names []string
	entries, err := os.ReadDir(s.path("state"))
	if err != nil {
		o.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 2 || names[0] != "commands.state" || !strings.HasPrefix(names[1], "rescue-") {
		o.t.Errorf("left in the state folder: %q", names)
	}
	for _, name := range []string{"wrap.key", "identity.key", "external-auth.key", "checkpoint.key"} {
		if _, err := os.Stat(s.path(name)); !errors.Is(err, fs.ErrNotExist) {
			o.t.Errorf("%s: %v", name, err)
		}
	}
	f, err := os.Open(s.path("state/" + names[len(names)-1]))
	if err != nil {
		o.t.Fatal(err)
	}
	defer f.Close()
	saved := site{o.t.TempDir(), s.config}
	if err := os.Mkdir(saved.path("state"), 0o700); err != nil {
		o.t.Fatal(err)
	}
	root, err := os.OpenRoot(saved.path("state"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer root.Close()
	about, err := rescue.Open(f, strings.NewReader(o.identity), root)
	if err != nil || about.Terminal != world.Terminal {
		o.t.Fatalf("%+v, %v", about, err)
	}
	o.same(saved, s, before)
}

// same reads the journal that was saved as one of a terminal.
func (o *operator) same(saved, s site, before []recorded) {
	o.t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		o.t.Fatal(err)
	}
	config := strings.ReplaceAll(string(text), `state    = "state"`, fmt.Sprintf("state = %q", saved.path("state")))
	config, _, _ = strings.Cut(config, "[checkpoint]")
	saved.config = filepath.Join(s.dir, "saved.toml")
	if err := os.WriteFile(saved.config, []byte(config), 0o600); err != nil {
		o.t.Fatal(err)
	}
	after := saved.journal(o.t)
	if len(after) < len(before) || !slices.Equal(after[:len(before)], before) {
		o.t.Errorf("%d events were there, %d are saved", len(before), len(after))
	}
	if last := after[len(after)-1]; !slices.ContainsFunc(after, func(e recorded) bool { return e.Action == "wipe" }) {
		o.t.Errorf("the wipe itself is not recorded; last is %+v", last)
	}
}

// Killed again and again while it wipes, the terminal ends wiped, with the journal saved.
func TestKilledWipeIsCompletedByTheNextStart(t *testing.T) {
	t.Parallel()
	w, r, o := theTown(t), newReaders(t), newOperator(t)
	s := o.leased(time.Hour)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	before := s.journal(t)
	o.command(world.Scope, o.wipe(), o.anna, o.ben)
	a.says(`"action":"wipe"`)
	a.end(syscall.SIGKILL)
	for n := time.Duration(0); ; n++ {
		b := launch(t, s, r.daemon.Env())
		timer := time.NewTimer(20*time.Millisecond + n*3*time.Millisecond)
		for done := false; !done; {
			select {
			case <-timer.C:
				done = true
			default:
				done = strings.Contains(b.stderr.String(), "this terminal is wiped")
				time.Sleep(time.Millisecond)
			}
		}
		b.end(syscall.SIGKILL)
		if strings.Contains(b.stderr.String(), "this terminal is wiped") {
			break
		}
		// Nothing is destroyed before the journal is saved.
		saved, err := filepath.Glob(s.path("state/rescue-*.age"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.path("identity.key")); len(saved) == 0 && err != nil {
			t.Fatal("a key is destroyed, and the journal is not saved")
		}
		if n > 1000 {
			t.Fatal("the wipe does not end")
		}
	}
	o.wiped(s, before)
}
