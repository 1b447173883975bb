package lists_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

func TestRoundBringsSnapshotThenDeltasThenHeadsAlone(t *testing.T) {
	for _, medium := range []string{"https", "file"} {
		t.Run(medium, func(t *testing.T) {
			s := newSite(t, nil)
			if medium == "file" {
				s.Updater = s.from(t, "file:"+s.hub.Dir, nil)
			}
			first := s.publish(t, 1, s.rows, nil)
			if r := s.brings(t, 1, lists.BySnapshot); r.Received < first.Snapshot.Size {
				t.Errorf("%d bytes were received, the snapshot alone has %d", r.Received, first.Snapshot.Size)
			}
			if r := s.Round(t.Context()); r.Err != nil || r.Came != "" || !r.Contact {
				t.Errorf("nothing new: %s", said(r))
			}
			s.publish(t, 2, s.revoking(7), nil)
			r := s.brings(t, 2, lists.ByDeltas)
			if r.Deltas != 1 || s.status(t, 7) != whitelist.Revoked || s.status(t, 8) != whitelist.Active {
				t.Errorf("after a delta: %s", said(r))
			}
			s.publish(t, 3, s.revoking(7), func(m *whitelist.Manifest) { m.NotAfter = m.NotAfter.Add(time.Hour) })
			s.fetched()
			s.brings(t, 3, lists.ByHead)
			if got := s.fetched(); medium == "https" && !slices.Equal(got, []string{"/manifest"}) {
				t.Errorf("for a manifest alone it asks for %q", got)
			}
			// Two sets later, both deltas.
			s.publish(t, 4, s.revoking(8), nil)
			s.publish(t, 5, s.revoking(9)[:40], nil)
			if r := s.brings(t, 5, lists.ByDeltas); r.Deltas != 2 {
				t.Errorf("over two sets: %s", said(r))
			}
			if s.status(t, 8) != whitelist.Active || s.status(t, 9) != whitelist.Revoked {
				t.Error("rows are not those of list 5")
			}
			if _, err := s.lookup(t.Context(), 45); !errors.Is(err, whitelist.ErrNotListed) {
				t.Errorf("somebody who is gone: %v", err)
			}
			// A new epoch has rows of its own.
			s.world.Manifest.Epoch = 2
			s.publish(t, 1, s.rows, nil)
			s.brings(t, 1, lists.BySnapshot)
			entries, err := os.ReadDir(filepath.Join(s.state, "fetch"))
			if err != nil || len(entries) > 0 {
				t.Errorf("downloads are left: %v %v", entries, err)
			}
		})
	}
}

// Whatever is wrong with deltas, the snapshot does; that they lead elsewhere is told.
func TestDeltasThatAreOfNoUseAreGoneAround(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, *site, whitelist.Manifest)
		want  error
		alarm bool
	}{
		{"missing", func(t *testing.T, s *site, m whitelist.Manifest) {
			if err := os.Remove(s.file(m.Deltas[0].Name())); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist, false},
		{"damaged", func(t *testing.T, s *site, m whitelist.Manifest) {
			s.edit(t, m.Deltas[0].Name(), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}, fetch.ErrDigest, false},
		{"truncated", func(t *testing.T, s *site, m whitelist.Manifest) {
			s.edit(t, m.Deltas[0].Name(), func(b []byte) []byte { return b[:len(b)-1] })
		}, fetch.ErrSize, false},
		{"gigantic", func(t *testing.T, s *site, m whitelist.Manifest) {
			s.edit(t, m.Deltas[0].Name(), func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) })
		}, fetch.ErrSize, false},
		{"leading elsewhere", func(t *testing.T, s *site, m whitelist.Manifest) {
			// Well-formed, signed for, and not what the set is.
			var id cardid.CardID
			for id = range s.hub.Rows() {
				break
			}
			other := s.world.Publish(s.hub.Dir)
			if err := other.Delta(1, 2, map[cardid.CardID][]byte{id: nil}); err != nil {
				t.Fatal(err)
			}
			if err := other.Named(m); err != nil {
				t.Fatal(err)
			}
		}, whitelist.ErrSet, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.publish(t, 1, s.rows, nil)
			s.brings(t, 1, lists.BySnapshot)
			s.taps(t)
			s.world.Manifest.Seq = 2
			m, err := s.hub.List(true, nil, s.revoking(7)...)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, s, m)
			r := s.brings(t, 2, lists.BySnapshot)
			if !errors.Is(r.Detour, c.want) || c.alarm != (r.Alarm != nil) {
				t.Errorf("%s, want a detour because of %v", said(r), c.want)
			}
			if s.status(t, 7) != whitelist.Revoked {
				t.Error("the revocation did not come")
			}
			status, err := lists.ReadStatus(s.state)
			if err != nil || (status.Alarm != nil) != c.alarm || status.Counts.Snapshots != 2 {
				t.Errorf("%+v %v", status, err)
			}
		})
	}
}

func TestWholeListInOneFileIsImported(t *testing.T) {
	s := newSite(t, nil)
	list := func(seq uint64) []byte {
		s.world.Manifest.Seq = seq
		b, err := s.world.List(s.rows...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	path := filepath.Join(t.TempDir(), "list.cose")
	put := func(b []byte, after time.Duration) {
		if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chtimes(path, time.Time{}, time.Now().Add(after))); err != nil {
			t.Fatal(err)
		}
	}
	s.Updater = s.from(t, "file:"+path, nil)
	if r := s.Round(t.Context()); !errors.Is(r.Err, fs.ErrNotExist) || r.Contact {
		t.Errorf("no stick: %s", said(r))
	}
	two := list(2)
	put(two, 0)
	if r := s.brings(t, 2, lists.ByFile); r.Received != int64(len(two)) {
		t.Errorf("%d bytes, want %d", r.Received, len(two))
	}
	if r := s.Round(t.Context()); r.Err != nil || r.Came != "" || !r.Contact {
		t.Errorf("the same file: %s", said(r))
	}
	three := list(3)
	put(three[:len(three)-1], time.Second)
	for range 2 {
		if r := s.Round(t.Context()); !errors.Is(r.Err, whitelist.ErrTruncated) || !r.Refused() || r.Contact {
			t.Errorf("half a list: %s", said(r))
		}
	}
	put(three, 2*time.Second)
	s.brings(t, 3, lists.ByFile)
	put(two, 3*time.Second)
	if r := s.Round(t.Context()); !errors.Is(r.Err, listdb.ErrOlder) || !r.Refused() {
		t.Errorf("an older list: %s", said(r))
	}
	s.inForce(t, 3)
}

// A long list whose rows are refused is not read in each interval; one that the clock
// refuses is tried again.
func TestWhatBecomesNoBetterIsNotReadAgain(t *testing.T) {
	s := newSite(t, nil)
	for i := range 600 { // more than the longest head
		row, err := s.world.Order(fmt.Sprintf("MORE-%04d", i), fmt.Sprint("more-", i))
		if err != nil {
			t.Fatal(err)
		}
		s.rows = append(s.rows, row)
	}
	list, err := s.world.List(s.rows...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "list.cose")
	write := func(b []byte, after time.Duration) {
		if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chtimes(path, time.Time{}, time.Now().Add(after))); err != nil {
			t.Fatal(err)
		}
	}
	now := s.world.Manifest.NotAfter.Add(time.Hour) // a clock that is wrong
	s.Updater = s.from(t, "file:"+path, func(c *lists.Config, _ *fetch.Options) { c.Now = func() time.Time { return now } })
	half := list[:len(list)-1]
	write(list, 0)
	if r := s.Round(t.Context()); !errors.Is(r.Err, listdb.ErrExpired) {
		t.Error(said(r))
	}
	now = time.Now()
	write(half, time.Second)
	for i, read := range []bool{true, false} {
		if r := s.Round(t.Context()); !errors.Is(r.Err, whitelist.ErrTruncated) || !r.Refused() || (r.Received > 0) != read {
			t.Errorf("half a list, round %d: %s", i+1, said(r))
		}
	}
	now = s.world.Manifest.NotAfter.Add(time.Hour)
	write(list, 2*time.Second)
	if r := s.Round(t.Context()); !errors.Is(r.Err, listdb.ErrExpired) {
		t.Error(said(r))
	}
	now = time.Now() // and nobody touches the file
	s.brings(t, 1, lists.ByFile)
}

// A delta that leads elsewhere is no harm to the list whose overlay it was to go into.
func TestListInForceSurvivesDeltasThatLeadElsewhere(t *testing.T) {
	s := newSite(t, nil)
	s.publish(t, 1, s.rows, nil)
	s.brings(t, 1, lists.BySnapshot)
	s.publish(t, 2, s.revoking(8), nil)
	s.brings(t, 2, lists.ByDeltas)
	s.taps(t)
	m := s.publish(t, 3, s.revoking(9), nil)
	other := s.world.Publish(s.hub.Dir)
	if err := errors.Join(other.Delta(1, 3, map[cardid.CardID][]byte{s.cardID(t, 0): nil}), other.Named(m)); err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(s.file(whitelist.HeadName))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h, from, same, err := s.store.Examine(t.Context(), head, time.Now())
		if err != nil || from != 2 || same {
			t.Fatalf("from %d, same %v, %v", from, same, err)
		}
		delta, err := os.Open(s.file(h.Manifest.Deltas[0].Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.store.Apply(t.Context(), head, time.Now(), whitelist.Files{Deltas: []io.Reader{delta}}, nil)
		delta.Close()
		if !errors.Is(err, whitelist.ErrSet) {
			t.Error(err)
		}
		s.inForce(t, 2)
		if s.status(t, 8) != whitelist.Revoked {
			t.Error("a row of the overlay is lost")
		}
	}
}

// Blocked, let in again and blocked again: two deltas are one file.
func TestOneFileIsTwoDeltas(t *testing.T) {
	s := newSite(t, nil)
	s.publish(t, 1, s.rows, nil)
	s.brings(t, 1, lists.BySnapshot)
	s.publish(t, 2, s.revoking(8), nil)
	s.publish(t, 3, s.rows, nil)
	m := s.publish(t, 4, s.revoking(8), nil)
	if len(m.Deltas) != 3 || m.Deltas[0].SHA256 != m.Deltas[2].SHA256 {
		t.Fatalf("%+v", m.Deltas)
	}
	s.brings(t, 4, lists.ByDeltas)
	if s.status(t, 8) != whitelist.Revoked {
		t.Error("not blocked")
	}
}

func TestDownloadOfAListThatFailsGoesOnInTheNextRound(t *testing.T) {
	s := newSite(t, nil)
	m := s.publish(t, 1, s.rows, nil)
	// The disk of the store is no place for a list at first.
	blocked := filepath.Join(s.state, "list.lock")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if r := s.Round(t.Context()); r.Err == nil || r.Refused() {
		t.Fatalf("without a lock: %s", said(r))
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	s.fetched()
	s.brings(t, 1, lists.BySnapshot)
	if got := s.fetched(); slices.Contains(got, "/"+m.Snapshot.Name()) {
		t.Errorf("asked for %q: the snapshot was there", got)
	}
}
