package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// seq gives a list its number.
func seq(n uint64) func(*whitelist.Manifest, []whitelist.Listed) {
	return func(m *whitelist.Manifest, _ []whitelist.Listed) { m.Seq = n }
}

// revoking is list n, on which the named entitlement's holder is revoked.
func revoking(n uint64, entitlement string) func(*whitelist.Manifest, []whitelist.Listed) {
	return func(m *whitelist.Manifest, rows []whitelist.Listed) {
		m.Seq = n
		for i := range rows {
			if rows[i].Row.Entitlements[0].ID == entitlement {
				rows[i].Row.Status = whitelist.Revoked
			}
		}
	}
}

// Whatever is wrong with a list, it is refused by name and with its reason,
// and the one in force stays.
func TestRefusedListLeavesTheOneInForce(t *testing.T) {
	t.Parallel()
	w := theTown(t)
	r, s := newReaders(t), install(t, filepath.Join(t.TempDir(), "terminal"))
	five := w.signed(t, seq(5))
	s.must(t, "list", "import", s.write(t, "five.cose", five))
	a := start(t, s, r)

	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign := *w.World
	foreign.ListKey, foreign.Manifest.Seq = stranger, 6
	wronglySigned, err := foreign.List(w.rows...)
	if err != nil {
		t.Fatal(err)
	}
	production := *w.World
	production.Manifest.Hierarchy, production.Manifest.Seq = whitelist.Production, 6
	otherHierarchy, err := production.List(w.rows...)
	if err != nil {
		t.Fatal(err)
	}
	six := w.signed(t, seq(6))
	tampered := bytes.Clone(six)
	tampered[len(tampered)-1] ^= 1

	for _, c := range []struct {
		name, reason string
		content      []byte
	}{
		{"older", "older than the list in force", w.signed(t, seq(4))},
		{"equal-but-different", "differs from the list of the same number", w.signed(t, revoking(5, "ticket-alice"))},
		{"expired", "list has expired", w.signed(t, func(m *whitelist.Manifest, _ []whitelist.Listed) {
			m.Seq, m.NotAfter = 6, time.Now().Add(-time.Minute)
		})},
		{"wrongly-signed", "signed by an unknown key", wronglySigned},
		{"other-hierarchy", "list of another hierarchy", otherHierarchy},
		{"truncated", "truncated", six[:len(six)-100]},
		{"cut-in-the-manifest", "truncated list", six[:50]},
		{"tampered", "rows differ from the signed digest", tampered},
		{"longer", "bytes behind the last row", append(bytes.Clone(six), 0)},
		{"empty", "the file is empty", nil},
		{"no-list-at-all", "malformed", []byte("scope = \"demo-hall\"\n")},
	} {
		path := s.write(t, c.name+".cose", c.content)
		stdout, stderr, code := s.run(t, "list", "import", path)
		if code != 4 || stdout != "" {
			t.Errorf("%s: exit code %d, standard output %q; want 4 and nothing", c.name, code, stdout)
		}
		if !strings.Contains(stderr, path) || !strings.Contains(stderr, c.reason) {
			t.Errorf("%s: it says %q, want the file and %q", c.name, stderr, c.reason)
		}
	}
	for name, path := range map[string]string{"missing": s.path("missing.cose"), "folder": s.dir} {
		if _, stderr, code := s.run(t, "list", "import", path); code != 1 || !strings.Contains(stderr, path) {
			t.Errorf("%s: exit code %d, want 1 and the file: %s", name, code, stderr)
		}
	}

	e := r.tap(a, w.alice(t))
	want(t, e, terminal.Admit, terminal.OK)
	if e.ListSeq != 5 {
		t.Errorf("list %d decided, want 5", e.ListSeq)
	}
	// The same list again is no error, and a newer one is in force at once.
	s.must(t, "list", "import", s.path("five.cose"))
	s.must(t, "list", "import", s.write(t, "six.cose", w.signed(t, revoking(6, "ticket-alice"))))
	e = r.tap(a, w.alice(t))
	want(t, e, terminal.Deny, terminal.Revoked)
	a.says(`"seq":6`)
	if e.ListSeq != 6 {
		t.Errorf("list %d decided, want 6", e.ListSeq)
	}
	a.stop()
	agree(t, s, a.all)
}

// A list that lies in a folder, as a path of the configuration's own folder,
// comes into force without anybody's help; one that is refused is told.
func TestListSourceIsFollowed(t *testing.T) {
	t.Parallel()
	w := theTown(t)
	r, s := newReaders(t), ready(t)
	s.edit(t, "[anchors]", "source = \"file:inbox.cose\"\nevery  = \"1s\"\n\n[anchors]")
	a := start(t, s, r)
	a.says("list not taken over") // there is no file yet
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	put := func(list []byte) {
		t.Helper()
		// As a careful program does: whole or not at all.
		if err := os.Rename(s.write(t, "inbox.new", list), s.path("inbox.cose")); err != nil {
			t.Fatal(err)
		}
	}
	put(w.signed(t, revoking(2, "ticket-alice")))
	a.says(`"list in force","epoch":1,"seq":2`)
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.Revoked)

	put(w.signed(t, seq(1)))
	a.says("older than the list in force")
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.Revoked)

	put(w.signed(t, seq(3)))
	a.says(`"list in force","epoch":1,"seq":3`)
	if n := strings.Count(a.stderr.String(), "inbox.cose: no such file"); n != 1 {
		t.Errorf("the missing file was told %d times, want once", n)
	}
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	a.stop()
	agree(t, s, a.all)

	var applied []uint64
	for _, e := range s.journal(t) {
		if e.Kind == "list" {
			applied = append(applied, e.ListSeq)
		}
	}
	if !slices.Equal(applied, []uint64{1, 2, 3}) {
		t.Errorf("in the journal the lists in force were %d, want 1, 2, 3", applied)
	}
}

func TestUnreadableListShutsTheGateUntilItIsImportedAgain(t *testing.T) {
	t.Parallel()
	w := theTown(t)
	r, s := newReaders(t), ready(t)
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	if err := os.WriteFile(s.path("state/list.db"), bytes.Repeat([]byte{0xA5}, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.DataStale)
	for _, command := range []string{"check-config", "list info"} {
		if stdout, stderr, code := s.run(t, strings.Fields(command)...); code != 4 || stdout != "" || !strings.Contains(stderr, "unreadable") {
			t.Errorf("%s: exit code %d\n%s%s", command, code, stdout, stderr)
		}
	}
	s.must(t, "list", "import", s.path("list.cose"))
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)

	if err := os.Remove(s.path("state/list.db")); err != nil {
		t.Fatal(err)
	}
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.DataStale)
	a.stop()
	agree(t, s, a.all)
	if a.opened() != 2 {
		t.Errorf("the gate opened %d times, want 2", a.opened())
	}
}

// What a list says about its own end holds at a gate that runs.
func TestExpiredListDoesAsItsPolicySays(t *testing.T) {
	t.Parallel()
	w := theTown(t)
	r, s := newReaders(t), install(t, filepath.Join(t.TempDir(), "terminal"))
	ends := time.Now().Add(5 * time.Second).Truncate(time.Second)
	short := func(n uint64, action whitelist.Action, end time.Time) string {
		return s.write(t, "short.cose", w.signed(t, func(m *whitelist.Manifest, _ []whitelist.Listed) {
			m.Seq, m.NotAfter, m.Policy.Expired = n, end, action
		}))
	}
	s.must(t, "list", "import", short(2, whitelist.Deny, ends))
	a := start(t, s, r)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	time.Sleep(time.Until(ends.Add(1100 * time.Millisecond)))
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.DataStale)
	if out := s.must(t, "check-config"); !strings.Contains(out, "EXPIRED, policy deny") {
		t.Errorf("check-config says %s", out)
	}

	ends = time.Now().Add(2 * time.Second).Truncate(time.Second)
	s.must(t, "list", "import", short(3, whitelist.Warn, ends))
	time.Sleep(time.Until(ends.Add(1100 * time.Millisecond)))
	e := r.tap(a, w.alice(t))
	want(t, e, terminal.Admit, terminal.OK)
	if len(e.Warnings) != 1 || e.Warnings[0] != terminal.DataStale {
		t.Errorf("warnings %q, want data_stale", e.Warnings)
	}
	a.stop()
	agree(t, s, a.all)
}
