package lists_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// Whatever a hub or somebody in its place does, it is refused with its reason, the
// list in force stays, people go on tapping, and the next honest list comes.
func TestHostileHub(t *testing.T) {
	signed := func(change func(*whitelist.Manifest)) func(*testing.T, *site) {
		return func(t *testing.T, s *site) { s.publish(t, 3, s.revoking(9), change) }
	}
	head := func(change func([]byte) []byte) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			s.publish(t, 3, s.revoking(9), nil)
			s.edit(t, whitelist.HeadName, change)
		}
	}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html><title>Wi-Fi login</title>")
	}
	// snapshot publishes a list of another epoch, so that only its snapshot leads to it.
	snapshot := func(change func([]byte) []byte) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			s.world.Manifest.Epoch = 2
			m := s.publish(t, 3, s.revoking(9), nil)
			if change != nil {
				s.edit(t, m.Snapshot.Name(), change)
			}
		}
	}
	for _, c := range []struct {
		name    string
		attack  func(*testing.T, *site)
		want    error  // or
		says    string // this
		refused bool
		contact bool // the head is good
		alarm   bool
	}{
		{"manifest replayed", func(t *testing.T, s *site) {
			s.edit(t, whitelist.HeadName, func([]byte) []byte { return s.first })
		}, listdb.ErrOlder, "", true, false, false},
		{"another list of the same number", func(t *testing.T, s *site) {
			s.publish(t, 2, s.revoking(8), func(m *whitelist.Manifest) { m.Policy.Expired = whitelist.Warn })
		}, listdb.ErrConflict, "", true, false, false},
		{"list of another scope", signed(func(m *whitelist.Manifest) { m.Scope = "stadium" }), whitelist.ErrScope, "", true, false, false},
		{"production list", signed(func(m *whitelist.Manifest) { m.Hierarchy = whitelist.Production }), listdb.ErrHierarchy, "", true, false, false},
		{"another scope key", signed(func(m *whitelist.Manifest) { m.ScopeKeyCheck[0] ^= 1 }), whitelist.ErrScopeKey, "", true, false, false},
		{"expired list", signed(func(m *whitelist.Manifest) { m.NotAfter = time.Now().Add(-time.Second) }), listdb.ErrExpired, "", true, false, false},
		{"signed by a stranger", func(t *testing.T, s *site) {
			_, s.hub.Key, _ = ed25519.GenerateKey(rand.Reader)
			s.publish(t, 3, s.revoking(9), nil)
			s.hub.Key = nil
		}, sign1.ErrUnknownKey, "", true, false, false},
		{"manifest tampered with", head(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), sign1.ErrSignature, "", true, false, false},
		{"manifest truncated", head(func(b []byte) []byte { return b[:len(b)/2] }), whitelist.ErrTruncated, "", true, false, false},
		{"manifest empty", head(func([]byte) []byte { return nil }), whitelist.ErrTruncated, "", true, false, false},
		{"manifest with more behind it", head(func(b []byte) []byte { return append(b, 0) }), whitelist.ErrMalformed, "", true, false, false},
		{"manifest of noise", head(func([]byte) []byte { return []byte{0xff, 0xff, 0xff} }), whitelist.ErrMalformed, "", true, false, false},
		{"manifest gigantic", func(t *testing.T, s *site) {
			s.answer(func(w http.ResponseWriter, r *http.Request) {
				for block := make([]byte, 32<<10); ; {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			})
		}, nil, fmt.Sprintf("more than %d bytes", whitelist.MaxHead), false, false, false},
		{"manifest of a whole list", func(t *testing.T, s *site) {
			s.world.Manifest.Seq = 3
			list, err := s.world.List(s.rows...)
			if err != nil {
				t.Fatal(err)
			}
			keys, _ := s.world.ListKeys()
			r, err := whitelist.NewReader(strings.NewReader(string(list)), roles.Trust{Pinned: keys})
			if err != nil {
				t.Fatal(err)
			}
			s.edit(t, whitelist.HeadName, func([]byte) []byte { return r.Head().Bytes })
		}, whitelist.ErrMalformed, "", true, false, false},
		{"login page in the place of the manifest", func(t *testing.T, s *site) { s.answer(page) }, nil, "a web page in the place of the file", false, false, false},
		{"nothing there", func(t *testing.T, s *site) { s.answer(http.NotFound) }, fs.ErrNotExist, "", false, false, false},
		{"out of order", func(t *testing.T, s *site) {
			s.answer(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		}, nil, "500 Internal Server Error", false, false, false},

		{"snapshot of other bytes", snapshot(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), fetch.ErrDigest, "", false, true, false},
		{"snapshot truncated", snapshot(func(b []byte) []byte { return b[:len(b)-10] }), fetch.ErrSize, "", false, true, false},
		{"snapshot gigantic", snapshot(func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) }), fetch.ErrSize, "", false, true, false},
		{"login page in the place of the snapshot", func(t *testing.T, s *site) {
			snapshot(nil)(t, s)
			s.answer(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/"+whitelist.HeadName {
					page(w, r)
					return
				}
				http.ServeFile(w, r, s.file(whitelist.HeadName))
			})
		}, nil, "a web page in the place of the file", false, true, false},
		{"snapshot of another epoch under this one's digest", func(t *testing.T, s *site) {
			old := s.publish(t, 2, s.revoking(8), nil)
			s.world.Manifest.Epoch = 2
			s.publish(t, 3, s.revoking(9), func(m *whitelist.Manifest) {
				m.Snapshot.SHA256, m.Snapshot.Size = old.Snapshot.SHA256, old.Snapshot.Size
			})
		}, whitelist.ErrTampered, "", true, true, true},
		{"deltas of another epoch", func(t *testing.T, s *site) {
			// The chain goes on over the beginning of an epoch, as if rows were
			// sealed as before; the snapshot is of the old one as well.
			old := s.publish(t, 3, s.revoking(7), nil)
			s.world.Manifest.Epoch = 2
			s.publish(t, 4, s.revoking(9), func(m *whitelist.Manifest) {
				m.Snapshot, m.Deltas = old.Snapshot, append(old.Deltas, whitelist.Delta{From: 3, To: 4, SHA256: old.Deltas[0].SHA256, Size: old.Deltas[0].Size})
			})
		}, whitelist.ErrTampered, "", true, true, true},
		{"snapshot and deltas lead elsewhere", func(t *testing.T, s *site) {
			m := s.publish(t, 3, s.revoking(9), nil)
			other := s.world.Publish(s.hub.Dir)
			for id := range s.hub.Rows() {
				if err := errors.Join(other.Delta(1, 3, map[cardid.CardID][]byte{id: nil}), other.Named(m)); err != nil {
					t.Fatal(err)
				}
				return
			}
		}, whitelist.ErrTampered, "", true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.publish(t, 1, s.rows, nil)
			s.brings(t, 1, lists.BySnapshot)
			s.first, _ = os.ReadFile(s.file(whitelist.HeadName))
			s.publish(t, 2, s.revoking(8), nil)
			s.brings(t, 2, lists.ByDeltas)
			s.taps(t)

			c.attack(t, s)
			for range 2 { // the second round is not fooled by what the first one remembers
				r := s.Round(t.Context())
				if r.Err == nil || !errors.Is(r.Err, c.want) && c.want != nil || !strings.Contains(r.Err.Error(), c.says) {
					t.Errorf("%s, want %v%s", said(r), c.want, c.says)
				}
				if r.Refused() != c.refused || r.Contact != c.contact || r.Came != "" {
					t.Errorf("refused %v: %s", r.Refused(), said(r))
				}
				s.inForce(t, 2)
			}
			status, err := lists.ReadStatus(s.state)
			if err != nil || status.Failure == nil || status.Failure.Times != 2 || status.Failure.Refused != c.refused ||
				status.Alarm != nil != c.alarm || status.InForce.Seq != 2 {
				t.Errorf("%+v %v", status, err)
			}
			if s.status(t, 8) != whitelist.Revoked || s.status(t, 9) != whitelist.Active {
				t.Error("rows are not those of list 2")
			}

			s.answer(nil)
			s.world.Manifest.Epoch = 3
			s.publish(t, 1, s.revoking(8, 9), nil)
			s.brings(t, 1, lists.BySnapshot)
			if s.status(t, 9) != whitelist.Revoked {
				t.Error("the honest list has other rows")
			}
		})
	}
}

// What cannot become better is not fetched again and again.
func TestFilesOfNoUseAreNotFetchedInEachRound(t *testing.T) {
	s := newSite(t, nil)
	m := s.publish(t, 1, s.rows, nil)
	s.edit(t, m.Snapshot.Name(), func(b []byte) []byte { b[10] ^= 1; return b })
	if r := s.Round(t.Context()); !errors.Is(r.Err, fetch.ErrDigest) {
		t.Fatal(said(r))
	}
	s.fetched()
	if r := s.Round(t.Context()); !errors.Is(r.Err, fetch.ErrDigest) {
		t.Error(said(r))
	}
	if got := s.fetched(); !slices.Equal(got, []string{"/manifest"}) {
		t.Errorf("asked for %q", got)
	}
}

func TestListByAnExpiredRoleIsRefusedAndTheOldOneStays(t *testing.T) {
	_, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := roles.NewRoot(1, root.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, &roles.Trust{Root: trusted})
	delegate := func(version uint64, until time.Time) {
		d := roles.Delegation{
			Scope: world.Scope, Hierarchy: whitelist.Test, Version: version,
			IssuedAt: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			Grants: []roles.Grant{{Key: s.world.ListKey.Public(), Role: sign1.RoleList, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}},
		}
		if s.hub.Delegation, err = d.Sign(nil, root); err != nil {
			t.Fatal(err)
		}
	}
	delegate(1, time.Now().Add(time.Hour))
	s.publish(t, 1, s.rows, nil)
	if r := s.brings(t, 1, lists.BySnapshot); time.Until(r.RoleEnds) > time.Hour || time.Until(r.RoleEnds) < 58*time.Minute {
		t.Errorf("the role ends on %v", r.RoleEnds)
	}
	s.taps(t)
	delegate(2, time.Now().Add(-time.Minute))
	s.publish(t, 2, s.revoking(8), nil)
	r := s.Round(t.Context())
	if !errors.Is(r.Err, roles.ErrExpired) || !r.Refused() || r.Contact {
		t.Error(said(r))
	}
	s.hub.Delegation = nil
	s.publish(t, 2, s.revoking(8), nil)
	if r := s.Round(t.Context()); !errors.Is(r.Err, roles.ErrMissing) || !r.Refused() {
		t.Error(said(r))
	}
	s.inForce(t, 1)
	delegate(3, time.Now().Add(time.Hour))
	s.publish(t, 2, s.revoking(8), nil)
	s.brings(t, 2, lists.ByDeltas)
}

func TestStatusIsReplacedWhereItCannotBeRead(t *testing.T) {
	s := newSite(t, nil)
	path := filepath.Join(s.state, "sync.json")
	if _, err := lists.ReadStatus(s.state); !errors.Is(err, lists.ErrNoStatus) {
		t.Errorf("none yet: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"counts":{"rounds":7`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := lists.ReadStatus(s.state); !errors.Is(err, lists.ErrNoStatus) {
		t.Errorf("half of it: %v", err)
	}
	if r := s.Round(t.Context()); !errors.Is(r.Err, fs.ErrNotExist) {
		t.Error(said(r))
	}
	s.publish(t, 1, s.rows, nil)
	s.brings(t, 1, lists.BySnapshot)
	got, err := lists.ReadStatus(s.state)
	if err != nil || got.Counts.Rounds != 2 || got.Counts.Failures != 1 || got.Failure.Until.IsZero() || got.LastContact.IsZero() ||
		got.Counts.Snapshots != 1 || got.Counts.Lists != 1 || got.InForce.Rows != 50 || got.InForce.SetSeq != 1 || got.Source != s.server.URL {
		t.Errorf("%+v %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
