package publish

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/whitelist"
)

const scope = "arena"

var start = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)

// A hub is a registry, a publisher and the key of its lists.
type hub struct {
	*Publisher
	t     *testing.T
	files string
	list  ed25519.PrivateKey
	at    time.Time // of the next thing that happens
}

// newHub makes a hub. Two with one seed have the same keys.
func newHub(t *testing.T, db string, seed byte) *hub {
	t.Helper()
	dir := t.TempDir()
	if db == "" {
		db = "sqlite:" + filepath.Join(dir, "registry.db")
	}
	reg, err := registry.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cardid.NewScopeKey(bytes.Repeat([]byte{seed}, cardid.ScopeKeySize))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := OpenFolder(dir, scope)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(folder.Close(), reg.Close()); err != nil {
			t.Error(err)
		}
	})
	list := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	h := &hub{&Publisher{Registry: reg, Scope: scope, Key: key, Folder: folder, Keep: time.Hour}, t, folder.Path(), list, start}
	h.Signers.Pinned = append(h.Signers.Pinned, list.Public())
	h.do(reg.AddScope(t.Context(), h.by(), registry.Scope{
		Name: scope, Hierarchy: whitelist.Test, Lifetime: 24 * time.Hour, LeaseDays: 7,
		Policy: whitelist.Policy{Expired: whitelist.Attend},
	}))
	return h
}

func (h *hub) do(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) by() registry.By { return registry.By{Actor: "test", Reason: "a test", At: h.at} }

// order adds or changes a ticket that is found by an order's number.
func (h *hub) order(n int, message string) {
	h.t.Helper()
	e := whitelist.Entitlement{ID: fmt.Sprintf("T-%06d", n), Uses: 1 + uint32(len(message))}
	h.do(h.Registry.PutTicket(h.t.Context(), h.by(), scope, registry.Ticket{Entitlement: e, Order: fmt.Sprintf("A%06d", n)}))
}

// gone takes an order's number from a ticket, and so its row from the list.
func (h *hub) gone(n int) {
	h.t.Helper()
	e := whitelist.Entitlement{ID: fmt.Sprintf("T-%06d", n)}
	h.do(h.Registry.PutTicket(h.t.Context(), h.by(), scope, registry.Ticket{Entitlement: e}))
}

func (h *hub) publish() Draft {
	h.t.Helper()
	h.at = h.at.Add(time.Minute)
	d, err := h.Publish(h.t.Context(), h.list, h.at, false)
	h.do(err)
	return d
}

func (h *hub) trust() roles.Trust {
	h.t.Helper()
	keys, err := sign1.NewKeys(sign1.Key{Public: h.list.Public(), Role: sign1.RoleList, Scope: scope})
	h.do(err)
	return roles.Trust{Pinned: keys}
}

// A terminal is what follows a hub: the rows it has, and the set they are.
type terminal struct {
	rows map[cardid.CardID]string
	seq  uint64
}

// fetch does what a terminal does, and tells which deltas it took; -1 for the
// snapshot and those behind it.
func (h *hub) fetch(x *terminal, trust roles.Trust) (deltas int) {
	h.t.Helper()
	head, err := os.ReadFile(filepath.Join(h.files, "manifest"))
	h.do(err)
	read, err := whitelist.ReadHead(head, trust)
	h.do(err)
	m := read.Manifest
	path, ok := m.Path(x.seq)
	if ok && x.seq > 0 {
		deltas = len(path)
	} else {
		deltas = -1
		x.rows = make(map[cardid.CardID]string)
		h.read(snapshotFile(m.Snapshot), x, func(r io.Reader) *whitelist.RowsReader { return m.Snapshot.Reader(r) })
		path, _ = m.Path(m.Snapshot.Seq)
	}
	for _, d := range path {
		h.read(deltaFile(d), x, func(r io.Reader) *whitelist.RowsReader { return d.Reader(r) })
	}
	x.seq = m.Set.Seq
	var set whitelist.Set
	for id, sealed := range x.rows {
		set.Add(whitelist.SealedRow{ID: id, Sealed: []byte(sealed)})
	}
	if set.Digest() != m.Set.Digest || uint64(len(x.rows)) != m.Rows {
		h.t.Fatalf("list %d: %d rows that are not its set, of %d", m.Seq, len(x.rows), m.Rows)
	}
	return deltas
}

func (h *hub) read(x file, to *terminal, reader func(io.Reader) *whitelist.RowsReader) {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.files, x.name))
	h.do(err)
	for rows := reader(bytes.NewReader(b)); ; {
		r, err := rows.Next()
		if err == io.EOF {
			return
		}
		h.do(err)
		if len(r.Sealed) == 0 {
			delete(to.rows, r.ID)
		} else {
			to.rows[r.ID] = string(r.Sealed)
		}
	}
}

// tree is every file of the folder, by name.
func (h *hub) tree() map[string]string {
	h.t.Helper()
	all := make(map[string]string)
	h.do(fs.WalkDir(os.DirFS(h.files), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(h.files, name))
		all[name] = string(b)
		return err
	}))
	return all
}

func TestWhatTheRegistryKnowsReachesATerminal(t *testing.T) {
	h := newHub(t, "", 1)
	for n := range 5 {
		h.order(n, "")
	}
	d := h.publish()
	if d.Manifest.Seq != 1 || d.Manifest.Set.Seq != 1 || d.Manifest.Rows != 5 || d.Added != 5 || len(d.Manifest.Deltas) != 0 {
		t.Errorf("%+v", d)
	}
	var x terminal
	if got := h.fetch(&x, h.trust()); got != -1 {
		t.Errorf("the first list by %d deltas", got)
	}
	head, err := whitelist.OrderHead("A000003")
	h.do(err)
	if _, err := h.Key.Open(scope, head, []byte(x.rows[h.Key.ID(head)])); err != nil {
		t.Error(err)
	}

	h.order(3, "new")
	h.gone(4)
	h.order(7, "")
	if d = h.publish(); d.changes() != 3 || d.Gone != 1 || d.Manifest.Rows != 5 || d.Manifest.Set.Seq != 2 {
		t.Errorf("%+v", d)
	}
	if got := h.fetch(&x, h.trust()); got != 1 {
		t.Errorf("the second list by %d deltas", got)
	}
	// Manifest ‖ rows is a whole list in one file.
	var late terminal
	h.fetch(&late, h.trust())
	if !maps.Equal(x.rows, late.rows) {
		t.Error("by deltas another list than by snapshot")
	}
}

func TestPublicationWithoutChangesIsAManifestAndNothingElse(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	first := h.publish().Manifest
	files := h.tree()
	s, err := h.Registry.Scope(t.Context(), scope)
	h.do(err)
	s.Policy.Expired = whitelist.Deny
	h.do(h.Registry.SetScope(t.Context(), h.by(), s))
	d := h.publish()
	m := d.Manifest
	if m.Seq != 2 || m.Set != first.Set || m.Snapshot != first.Snapshot || d.changes() != 0 || d.Written != 0 || m.Policy.Expired != whitelist.Deny ||
		!m.IssuedAt.After(first.IssuedAt) || m.NotAfter.Sub(m.IssuedAt) != 24*time.Hour {
		t.Errorf("%+v", m)
	}
	now := h.tree()
	delete(files, "manifest")
	delete(now, "manifest")
	if !maps.Equal(files, now) {
		t.Errorf("files %v", slices.Collect(maps.Keys(now)))
	}
}

// The list of nobody is a list too: a gate that opens tomorrow.
func TestEmptyListIsPublished(t *testing.T) {
	h := newHub(t, "", 1)
	if m := h.publish().Manifest; m.Rows != 0 || m.Set.Seq != 1 {
		t.Errorf("%+v", m)
	}
	var x terminal
	h.fetch(&x, h.trust())
	h.order(1, "")
	h.publish()
	if got := h.fetch(&x, h.trust()); got != 1 {
		t.Errorf("by %d deltas", got)
	}
}

// Whatever happens in whatever order, every terminal has the list of the hub,
// however long it was away, and the folder does not grow for ever.
func TestEveryChainOfDeltasIsTheSnapshot(t *testing.T) {
	h := newHub(t, "", 1)
	h.Keep = 10 * time.Minute
	rng := rand.New(rand.NewPCG(1, 2))
	const people, lists = 400, 300
	present := make(map[int]bool)
	for n := range people {
		h.order(n, "")
		present[n] = true
	}
	h.publish()
	type away struct {
		terminal
		every int
	}
	fleet := []*away{{every: 1}, {every: 3}, {every: 15}, {every: 40}, {every: 150}, {every: 299}}
	for _, x := range fleet {
		h.fetch(&x.terminal, h.trust())
	}
	snapshots, most := make(map[uint64]bool), 0
	took := make(map[int]int)
	for i := 1; i <= lists; i++ {
		for range rng.IntN(4) {
			n := rng.IntN(people + 100)
			if present[n] && rng.IntN(3) == 0 {
				h.gone(n)
				present[n] = false
			} else {
				h.order(n, strings.Repeat("x", rng.IntN(20)))
				present[n] = true
			}
		}
		m := h.publish().Manifest
		snapshots[m.Snapshot.Seq] = true
		most = max(most, len(m.Deltas))
		for _, x := range fleet {
			if i%x.every == 0 {
				if n := h.fetch(&x.terminal, h.trust()); n > took[x.every] || n < 0 {
					took[x.every] = n
				}
			}
		}
	}
	t.Logf("%d snapshots, at most %d deltas; deltas taken by how long away: %v", len(snapshots), most, took)
	if most > whitelist.MaxDeltas || len(snapshots) < 2 || len(snapshots) > lists/4 {
		t.Errorf("%d deltas, %d snapshots", most, len(snapshots))
	}
	if took[1] != 1 || took[15] < 1 || took[40] < 1 || took[150] < 1 || took[150] > 16+16 {
		t.Errorf("deltas taken: %v", took)
	}
	if n := len(h.tree()); n > 1+2+most+20 {
		t.Errorf("%d files after %d lists", n, lists)
	}
	// And the next full publication finds nothing to change.
	h.at = h.at.Add(time.Minute)
	d, err := h.Publish(t.Context(), h.list, h.at, true)
	h.do(err)
	if d.changes() != 0 {
		t.Errorf("%d rows are not what a full build makes", d.changes())
	}
}

// play does the same things to every hub.
func (h *hub) play() {
	for n := range 40 {
		h.order(n, "")
	}
	h.publish()
	for i := range 20 {
		h.order(i, "changed")
		h.gone(39 - i)
		h.publish()
	}
	h.publish()
}

func TestSameRegistryGivesTheSameBytes(t *testing.T) {
	a, b := newHub(t, "", 1), newHub(t, "", 1)
	a.play()
	b.play()
	same(t, a, b)
}

func same(t *testing.T, a, b *hub) {
	t.Helper()
	left, right := a.tree(), b.tree()
	for name := range left {
		if left[name] != right[name] {
			t.Errorf("%s differs", name)
		}
	}
	if len(left) != len(right) || len(left) < 5 {
		t.Errorf("%d files and %d", len(left), len(right))
	}
}

func TestNewEpochSealsEveryRowAnew(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	h.order(2, "")
	h.publish()
	var x terminal
	h.fetch(&x, h.trust())
	before := maps.Clone(x.rows)
	h.do(h.Registry.NewEpoch(t.Context(), h.by(), scope))
	m := h.publish().Manifest
	if m.Epoch != 2 || m.Seq != 1 || m.Set.Seq != 1 || m.Rows != 2 || len(m.Deltas) != 0 {
		t.Errorf("%+v", m)
	}
	x = terminal{}
	h.fetch(&x, h.trust())
	for id, sealed := range x.rows {
		if before[id] == sealed {
			t.Error("a row is as in the epoch before")
		}
	}
}

// For web servers whose ETag is size and time, in seconds.
func TestEveryManifestHasASecondOfItsOwn(t *testing.T) {
	h := newHub(t, "", 1)
	times := make(map[int64]bool)
	for range 3 {
		_, err := h.Publish(t.Context(), h.list, h.at, false)
		h.do(err)
		info, err := os.Stat(filepath.Join(h.files, "manifest"))
		h.do(err)
		times[info.ModTime().Unix()] = true
	}
	if len(times) != 3 {
		t.Errorf("3 manifests of %d seconds", len(times))
	}
}

func TestFolderThatWasLostIsWrittenAgain(t *testing.T) {
	h := newHub(t, "", 1)
	for n := range 100 {
		h.order(n, "")
	}
	h.publish()
	var x terminal
	h.fetch(&x, h.trust())
	h.order(1, "more")
	h.publish()
	for _, dir := range []string{"snapshot", "delta"} {
		h.do(os.RemoveAll(filepath.Join(h.files, dir)))
	}
	if m := h.publish().Manifest; len(m.Deltas) != 0 || m.Snapshot.Seq != 2 {
		t.Errorf("%+v", m)
	}
	h.fetch(&x, h.trust())
	h.order(2, "more")
	h.publish()
	if got := h.fetch(&x, h.trust()); got != 1 {
		t.Errorf("by %d deltas", got)
	}
}

func TestOldFilesStayForAWhile(t *testing.T) {
	h := newHub(t, "", 1)
	h.order(1, "")
	first := h.publish().Manifest
	h.do(h.Registry.NewEpoch(t.Context(), h.by(), scope)) // no file of before is named any more
	h.order(2, "")
	h.at = h.at.Add(3 * time.Hour) // however long it was named
	h.publish()
	h.at = h.at.Add(50 * time.Minute)
	h.publish()
	if !h.Folder.has(snapshotFile(first.Snapshot)) {
		t.Error("gone under the hands of a terminal")
	}
	h.at = h.at.Add(10 * time.Minute)
	h.publish()
	if h.Folder.has(snapshotFile(first.Snapshot)) {
		t.Error("still there")
	}
}

func (h *hub) scope() registry.Scope {
	h.t.Helper()
	s, err := h.Registry.Scope(h.t.Context(), scope)
	h.do(err)
	return s
}

func TestDueSaysWhy(t *testing.T) {
	h := newHub(t, "", 1)
	due := func(want string) {
		t.Helper()
		if got, err := h.Due(t.Context(), h.at); err != nil || got != want {
			t.Errorf("due because %q, %v, want %q", got, err, want)
		}
	}
	due(DueFirst)
	h.order(1, "")
	h.publish()
	due("")
	h.order(1, "")
	due("") // it says the same
	h.order(1, "more")
	due(DueRows)
	d, err := h.Compare(t.Context(), h.at, false)
	h.do(err)
	if d.Changed != 1 || d.Added+d.Gone != 0 || d.From.Seq != 1 || d.To.Seq != 2 || d.To.Set.Digest == d.From.Set.Digest {
		t.Errorf("%+v", d)
	}
	due(DueRows) // looking changed nothing
	h.publish()
	due("")
	s := h.scope()
	s.Venue.TimeZone = "Asia/Tokyo"
	h.do(h.Registry.SetScope(t.Context(), h.by(), s))
	due(DueRows) // a list with a venue may say more in each row
	h.publish()
	s.Venue.Zones = []whitelist.Zone{{Name: "stand"}}
	h.do(h.Registry.SetScope(t.Context(), h.by(), s))
	due(DueSettings)
	h.publish()
	due("")
	s.Policy.UntrustedClock = whitelist.Warn
	h.do(h.Registry.SetScope(t.Context(), h.by(), s))
	due(DueSettings)
	h.publish()
	h.at = h.at.Add(12*time.Hour + time.Second)
	due(DueHalf)
	h.publish()
	if _, err := h.Draft(t.Context(), h.at, false); err != nil {
		t.Fatal(err)
	}
	due(DueUnplaced)
	h.publish()
	due("")
	h.do(os.Remove(filepath.Join(h.files, "manifest")))
	due(DueUnplaced)
}
