package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/internal/nginx"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A mirror is a web server whose folder somebody else fills, in the place of the hub.
type mirror struct {
	*hub
	*nginx.Server
	root string
}

func mirrored(h *hub) mirror {
	h.t.Helper()
	m := mirror{hub: h, root: h.beside("mirror")}
	if err := os.Mkdir(m.root, 0o755); err != nil {
		h.t.Fatal(err)
	}
	m.Server = nginx.New(h.t, m.root)
	return m
}

func (m mirror) source() (url, ca string) { return m.URL + "/" + world.Scope, m.CA }
func (m mirror) away()                    { m.Stop(m.t) }
func (m mirror) back()                    { m.Start(m.t) }

// publish copies what the hub has published: the manifest last.
func (m mirror) publish() {
	m.t.Helper()
	m.publishes()
	m.copyFiles()
	m.put(m.manifest(world.Scope))
}

// copyFiles copies all but the manifest.
func (m mirror) copyFiles() {
	m.t.Helper()
	from := filepath.Join(m.files(), world.Scope)
	for _, pattern := range []string{"snapshot/*", "delta/*/*", "lease/*"} {
		found, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, path := range found {
			b, err := os.ReadFile(path)
			if err != nil {
				m.t.Fatal(err)
			}
			m.file(strings.TrimPrefix(path, from), b)
		}
	}
}

// manifest is what the hub has in place for a scope.
func (m mirror) manifest(scope string) []byte {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.files(), scope, whitelist.HeadName))
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m mirror) put(manifest []byte) { m.file(whitelist.HeadName, manifest) }

// file puts a file of the terminal's scope in place, whole or not at all.
func (m mirror) file(name string, content []byte) {
	m.t.Helper()
	path := filepath.Join(m.root, world.Scope, name)
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path+".new", content, 0o644), os.Rename(path+".new", path))
	if err != nil {
		m.t.Fatal(err)
	}
}

// Whatever somebody puts in the place of a list is refused with its reason, to those
// who look and in the log of a running agent, and the list in force goes on.
func TestHostileSourceLeavesTheListInForce(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.roots()
	m := mirrored(h)
	v := &venue{hub: h, carrier: m, r: newReaders(t), site: install(t, shortDir(t))}
	v.add(v.site)
	v.must("ticket", "import", v.write(v.beside("tickets.csv"), crowd(200)))
	v.begins()
	bob := v.registers(v.site, v.r, "T-bob")
	m.publish()
	old := m.manifest(world.Scope)
	v.a = start(t, v.site, v.r)
	v.until("got a list", func(s syncs) bool { return s.List != nil })
	v.change("ticket", "block", "C-1")
	v.must("scope", "add", "elsewhere", "--hierarchy", "test")
	v.delegate("elsewhere", 1, time.Now().Add(time.Hour), "a", "b")
	v.must("list", "publish", "--scope", "elsewhere")

	inForce := v.site.syncs(t).List.Seq
	newer := func() []byte { // of the same rows
		v.must("list", "publish", "--scope", world.Scope)
		return m.manifest(world.Scope)
	}
	for _, attack := range []struct {
		name, reason string
		code         int
		do           func()
	}{
		{"replayed", "older than the list in force", 4, func() { m.put(old) }},
		{"of another scope", "list of another scope", 4, func() { m.put(m.manifest("elsewhere")) }},
		{"cut short", "truncated list", 4, func() { b := newer(); m.put(b[:len(b)-1]) }},
		{"without its delegation", "no delegation by the root", 4, func() {
			_, b, err := roles.Cut(newer())
			if err != nil {
				t.Fatal(err)
			}
			m.put(b)
		}},
		{"one bit", "signature", 4, func() { b := bytes.Clone(newer()); b[len(b)-1] ^= 1; m.put(b) }},
		{"a web page with status 200", "web page", 1, func() { m.put([]byte("<!DOCTYPE html><title>Log in</title>")) }},
		{"snapshot cut short", "snapshot/", 1, func() {
			v.must("scope", "new-epoch", "--scope", world.Scope, "--reason", "a test") // now it takes the snapshot
			b := newer()
			m.copyFiles()
			found, err := filepath.Glob(filepath.Join(m.root, world.Scope, "snapshot", "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				if err := os.Truncate(path, 1000); err != nil {
					t.Fatal(err)
				}
			}
			m.put(b)
		}},
		{"by a role that has ended", "role not valid now", 4, func() {
			_, list, err := roles.Cut(newer())
			if err != nil {
				t.Fatal(err)
			}
			ended := v.delegation(world.Scope, 2, time.Now().Add(-24*time.Hour), time.Now().Add(-time.Hour), "b", "c")
			delegation, err := os.ReadFile(ended)
			if err != nil {
				t.Fatal(err)
			}
			m.put(slices.Concat(delegation, list))
		}},
	} {
		attack.do()
		stdout, stderr, code := v.site.run(t, "sync", "now")
		if code != attack.code || stdout != "" || !strings.Contains(stderr, attack.reason) {
			t.Errorf("%s: exit code %d, want %d and %q: %s%s", attack.name, code, attack.code, attack.reason, stdout, stderr)
		}
		v.a.says(attack.reason)
		if e := v.tap(bob, terminal.Admit, terminal.OK); e.ListEpoch != 1 || e.ListSeq != inForce {
			t.Errorf("%s: list %d of epoch %d decided, want %d of 1", attack.name, e.ListSeq, e.ListEpoch, inForce)
		}
	}
	s := v.site.syncs(t)
	if f := s.Rounds.Failure; f == nil || !f.Refused || f.Times == 0 || !f.Until.IsZero() {
		t.Errorf("failure %+v, want one that goes on, of a list that was refused", f)
	}

	// An honest list is taken at once, whatever there was before.
	v.delegate(world.Scope, 3, time.Now().Add(time.Hour), "a", "b")
	v.must("list", "publish", "--scope", world.Scope)
	m.copyFiles()
	m.put(m.manifest(world.Scope))
	v.until("found an honest list", func(s syncs) bool { return s.List.Epoch == 2 && !s.Rounds.Failure.Until.IsZero() })
	v.tap(bob, terminal.Admit, terminal.OK)
	v.a.stop()
}

// A file of tickets is taken as a whole or not at all, and who wrote it is told the
// lines to mend.
func TestTicketFileWithAMistakeIsRefusedByLine(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	file := h.beside("tickets.csv")
	for _, c := range []struct {
		name, content string
		says          []string
	}{
		{"wrong columns", "id,seat\nX-1,A\n", []string{"line 1", `unknown column "seat"`, "uses"}},
		{"no id", "order,uses\nA,1\n", []string{"line 1", "id: this column is missing"}},
		{"a ticket twice", "id\nX-1\nX-2\nX-1\n", []string{"line 4, id", "line 2"}},
		{"a formula", "id,message\nX-1,\nX-2,=cmd|' /C calc'!A0\n", []string{"line 3, message", "formula"}},
		{"a line of 10 MB", "id,order\nX-1,A\nX-2," + strings.Repeat("A", 10<<20) + "\nX-3,C\n", []string{"line 3", "more than 65536 bytes"}},
		{"two mistakes", "id,uses,re_entry\nX-1,1,\nX-2,many,\nX-3,1,perhaps\n", []string{"line 3, uses", "line 4, re_entry", "2 problems"}},
		{"Shift_JIS", "id,message\nX-1,\x93\xfa\x96\x7b\n", []string{"line 2", "Shift_JIS"}},
		{"UTF-16", "\xff\xfei\x00d\x00\n\x00", []string{"line 1", "UTF-16"}},
		{"empty", "", []string{"the file is empty"}},
	} {
		stdout, stderr, code := h.run("ticket", "import", h.write(file, []byte(c.content)))
		if code != 4 || stdout != "" {
			t.Errorf("%s: exit code %d, standard output %q, want 4 and nothing", c.name, code, stdout)
		}
		for _, what := range append(c.says, file, "nothing was imported") {
			if !strings.Contains(stderr, what) {
				t.Errorf("%s: nobody is told %q: %.400s", c.name, what, stderr)
			}
		}
		if len(stderr) > 2000 {
			t.Errorf("%s: it says %d bytes", c.name, len(stderr))
		}
	}
	for _, id := range []string{"X-1", "X-2", "X-3"} {
		if _, _, code := h.run("ticket", "show", id); code != 4 {
			t.Errorf("ticket %s was imported from a file with a mistake", id)
		}
	}
	if out := h.must("ticket", "import", h.write(file, []byte("\uFEFFid,uses\r\nX-1,1\r\n")), "--json"); !strings.Contains(out, `"added":1`) {
		t.Errorf("as Excel writes it: %s", out)
	}
}
