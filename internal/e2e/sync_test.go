package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A lister publishes the town's lists: in a folder, and on a web server.
type lister struct {
	town
	*world.Published
	server *httptest.Server
	away   atomic.Bool // the server answers nothing of use
}

func newLister(t *testing.T) *lister {
	t.Helper()
	own := *theTown(t).World
	l := &lister{town: theTown(t), Published: own.Publish(t.TempDir())}
	l.World = &own
	folder := http.FileServerFS(os.DirFS(l.Dir))
	l.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.away.Load() {
			http.Error(w, "back soon", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		folder.ServeHTTP(w, r)
	}))
	t.Cleanup(l.server.Close)
	return l
}

// publish publishes list n, on which the named entitlements' holders are revoked.
func (l *lister) publish(t *testing.T, n uint64, revoked ...string) {
	t.Helper()
	rows := slices.Clone(l.rows)
	for i := range rows {
		if slices.Contains(revoked, rows[i].Row.Entitlements[0].ID) {
			rows[i].Row.Status = whitelist.Revoked
		}
	}
	l.World.Manifest.Seq = n
	if _, err := l.Published.List(false, nil, rows...); err != nil {
		t.Fatal(err)
	}
}

// followed is a terminal, with no list yet, whose source is the web server.
func (l *lister) followed(t *testing.T) site {
	t.Helper()
	s := install(t, filepath.Join(shortDir(t), "terminal"))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.server.Certificate().Raw})
	s.write(t, "hub-ca.pem", ca)
	s.edit(t, "[anchors]", fmt.Sprintf("source = %q\nca     = \"hub-ca.pem\"\nevery  = \"1s\"\n\n[anchors]", l.server.URL))
	return s
}

// says runs a command that prints one JSON object, and returns it.
func (s site) says(t *testing.T, args ...string) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.must(t, append(args, "--json")...)), &object); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return object
}

func TestSyncByHand(t *testing.T) {
	t.Parallel()
	l := newLister(t)
	s := l.followed(t)
	if out := s.must(t, "sync", "status"); !strings.Contains(out, "nothing is known of rounds") || !strings.Contains(out, l.server.URL) {
		t.Errorf("before the first round: %s", out)
	}
	if out := s.must(t, "check-config"); !strings.Contains(out, "source     "+l.server.URL+", every 1s") {
		t.Errorf("check-config: %s", out)
	}
	l.publish(t, 1)
	if got := s.says(t, "sync", "now"); got["came"] != "snapshot" || got["list"].(map[string]any)["seq"] != 1.0 {
		t.Errorf("first round: %v", got)
	}
	if out := s.must(t, "sync", "now"); !strings.Contains(out, "nothing newer") {
		t.Errorf("nothing newer: %s", out)
	}
	if got := s.says(t, "list", "diff", "--source"); got["same"] != true {
		t.Errorf("no difference: %v", got)
	}

	l.World.Manifest.Policy.Expired = whitelist.Warn
	l.World.Manifest.Venue.Gates = []whitelist.Gate{{ID: 1, Name: world.Gate}}
	l.publish(t, 2, "ticket-alice")
	before := s.says(t, "sync", "status")
	got := s.says(t, "list", "diff", "--source")
	rows, said := got["rows"].(map[string]any), fmt.Sprint(got["manifest"])
	if got["same"] != false || rows["changed"] != 1.0 || rows["added"] != 0.0 || rows["gone"] != 0.0 ||
		!strings.Contains(said, "field:policy.expired is:warn was:deny") || !strings.Contains(said, "field:gate is:id 1, into \"\" name:"+world.Gate) {
		t.Errorf("difference to the source: %v", got)
	}
	if out := s.must(t, "list", "diff", "--source"); !strings.Contains(out, "0 added, 1 changed, 0 gone") || !strings.Contains(out, "deny → warn") {
		t.Errorf("difference in words: %s", out)
	}
	if after := s.says(t, "sync", "status"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("looking changed something: %v, %v", before, after)
	}
	if got := s.says(t, "sync", "now"); got["came"] != "deltas" || got["deltas"] != 1.0 {
		t.Errorf("a delta: %v", got)
	}
	// A file is compared with as well, also an older one.
	got = s.says(t, "list", "diff", s.path("list.cose"))
	if got["rows"].(map[string]any)["changed"] != 1.0 || got["other"].(map[string]any)["seq"] != 1.0 {
		t.Errorf("difference to a file: %v", got)
	}

	// Refused is 4, out of reach 1; the list in force stays.
	for _, c := range []struct {
		name, says string
		code       int
		do         func()
	}{
		{"an older list", "older than the list in force", 4, func() {
			if err := l.Sign(l.older(t)); err != nil {
				t.Fatal(err)
			}
		}},
		{"server in trouble", "503", 1, func() { l.away.Store(true) }},
		{"no server", "is the server running", 1, l.server.Close},
	} {
		c.do()
		for _, command := range []string{"sync now", "list diff --source"} {
			stdout, stderr, code := s.run(t, strings.Fields(command)...)
			if code != c.code || stdout != "" || !strings.Contains(stderr, c.says) {
				t.Errorf("%s, %s: exit code %d, %q %q", c.name, command, code, stdout, stderr)
			}
		}
	}
	status := s.says(t, "sync", "status")
	rounds := status["rounds"].(map[string]any)
	if status["list"].(map[string]any)["seq"] != 2.0 || rounds["failure"].(map[string]any)["times"] != 3.0 ||
		rounds["counts"].(map[string]any)["lists"] != 2.0 {
		t.Errorf("status %v", status)
	}
	if out := s.must(t, "sync", "status"); !strings.Contains(out, "FAILS") || !strings.Contains(out, "last contact") {
		t.Errorf("status in words: %s", out)
	}

	s.edit(t, "source =", "# source =")
	s.edit(t, "ca     = \"hub", "# ca     = \"hub")
	for command, want := range map[string]int{"sync now": 3, "list diff --source": 3, "list diff": 2, "list diff --source list.cose": 2} {
		if _, stderr, code := s.run(t, strings.Fields(command)...); code != want {
			t.Errorf("%s: exit code %d, want %d: %s", command, code, want, stderr)
		}
	}
}

// older is a manifest of list 1 with other content.
func (l *lister) older(t *testing.T) whitelist.Manifest {
	t.Helper()
	own := *l.town.World
	own.Manifest.Seq = 1
	m, err := own.Publish(t.TempDir()).List(false, nil, l.rows...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What an organiser publishes is what the gate decides by, with nobody at the
// terminal; and while the hub is away people go on coming in.
func TestAgentFollowsAHub(t *testing.T) {
	t.Parallel()
	l := newLister(t)
	r, s := newReaders(t), l.followed(t)
	l.publish(t, 1)
	a := start(t, s, r)
	want(t, r.tap(a, l.alice(t)), terminal.Admit, terminal.OK)
	l.publish(t, 2, "ticket-alice")
	a.says(`"by":"deltas","epoch":1,"seq":2`)
	a.says(`"list in force","epoch":1,"seq":2`)
	want(t, r.tap(a, l.alice(t)), terminal.Deny, terminal.Revoked)
	want(t, r.tap(a, l.bob(t)), terminal.Admit, terminal.OK)

	l.away.Store(true)
	a.says("list not taken over")
	want(t, r.tap(a, l.alice(t)), terminal.Deny, terminal.Revoked)
	want(t, r.tap(a, l.bob(t)), terminal.Admit, terminal.OK)
	l.publish(t, 3)
	l.away.Store(false)
	// By hand, beside the agent: who knows how long its backoff is.
	s.must(t, "sync", "now")
	a.says(`"list in force","epoch":1,"seq":3`)
	want(t, r.tap(a, l.alice(t)), terminal.Admit, terminal.OK)
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

// A stick with a copy of the published folder, and a root in the place of pinned keys.
func TestStickAndRoot(t *testing.T) {
	t.Parallel()
	l := newLister(t)
	s := install(t, filepath.Join(t.TempDir(), "terminal"))
	var roots []ed25519.PrivateKey
	for i := range 3 {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		text, err := sign1.MarshalPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, fmt.Sprintf("root-%d.pem", i), text)
		roots = append(roots, private)
	}
	s.edit(t, `keys = ["list.pub.pem"]`, fmt.Sprintf("source = %q\n\n[root]\nkeys = [\"root-0.pem\", \"root-1.pem\", \"root-2.pem\"]\nthreshold = 2", "file:"+l.Dir))
	delegate := func(version uint64, until time.Time, by ...ed25519.PrivateKey) {
		t.Helper()
		d := roles.Delegation{
			Scope: world.Scope, Hierarchy: whitelist.Test, Version: version, IssuedAt: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			Grants: []roles.Grant{{Key: l.World.ListKey.Public(), Role: sign1.RoleList, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}},
		}
		var signed [][]byte
		for _, root := range by {
			b, err := d.Sign(nil, root)
			if err != nil {
				t.Fatal(err)
			}
			signed = append(signed, b)
		}
		var err error
		if l.Delegation, err = roles.Join(signed); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, says string
		code       int
		delegate   func()
	}{
		{"no delegation", "no delegation by the root", 4, func() {}},
		{"one root key", "signed by too few root keys", 4, func() { delegate(1, time.Now().Add(time.Hour), roots[0]) }},
		{"role ended", "role not valid now", 4, func() { delegate(1, time.Now().Add(-time.Minute), roots[0], roots[2]) }},
		{"two root keys", "", 0, func() { delegate(2, time.Now().Add(time.Hour), roots[0], roots[2]) }},
	} {
		c.delegate()
		l.publish(t, 1)
		if _, stderr, code := s.run(t, "sync", "now"); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit code %d, %s", c.name, code, stderr)
		}
	}
	if got := s.says(t, "sync", "status")["rounds"].(map[string]any); got["role_ends"] == nil {
		t.Errorf("when the role ends is not told: %v", got)
	}
	stdout, _, _ := s.run(t, "doctor")
	if !strings.Contains(stdout, "may sign for 59m0s more") && !strings.Contains(stdout, "may sign for 1h0m0s more") {
		t.Errorf("doctor says %s", stdout)
	}
}
