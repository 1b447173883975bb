package listdb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/whitelist"
)

// With list.floor damaged there is no list. The source has no newer one, and still the
// next look at it heals that; an older list does not come in by it.
func TestDamagedFloorIsHealedByTheListThatIsThere(t *testing.T) {
	h := newHub(scopeKey(t))
	h.change(map[int]int{1: 1})
	older := h.head(t)
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := h.follow(t, s, older); err != nil {
		t.Fatal(err)
	}
	h.change(map[int]int{2: 1})
	h.snapshot = h.set
	newest := h.head(t)
	if _, err := h.follow(t, s, newest); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(dir, floorFile), func(b []byte) []byte { b[3] ^= 1; return b })
	agent := open(t, dir)
	if _, err := agent.Current(); !errors.Is(err, ErrFloor) {
		t.Fatalf("%v", err)
	}
	if _, err := h.follow(t, agent, older); !errors.Is(err, ErrOlder) {
		t.Errorf("an older list meanwhile: %v", err)
	}
	if by, err := h.follow(t, agent, newest); err != nil || by != "0 deltas" {
		t.Errorf("came by %q, %v", by, err)
	}
	h.stands(t, agent, h.sets[h.set], 4)
	if _, _, same, err := agent.Examine(t.Context(), newest, now); err != nil || !same {
		t.Errorf("and then: same %t, %v", same, err)
	}
}

// A list that would fill the disk is refused while there is room for what a gate has to
// write down.
func TestListLeavesRoomForTheJournal(t *testing.T) {
	dir, inside := smalldisk.Mount(t)
	if !inside {
		return
	}
	s := open(t, dir)
	load(t, s, list(t, manifest(5), 10))
	h := newHub(scopeKey(t))
	h.seq = 5
	h.change(map[int]int{1: 1})
	smalldisk.Fill(t, dir, smalldisk.Size/16-(4<<10))
	if _, err := h.follow(t, s, h.head(t)); err == nil {
		t.Error("it came")
	}
	if err := os.WriteFile(filepath.Join(dir, "journal"), make([]byte, 32<<10), 0o600); err != nil {
		t.Errorf("no room for the journal: %v", err)
	}
	inForce(t, s, 5)
}

// A stolen list key, or a hub whose clock is wrong, could put every later list out of
// reach: no older one comes after it, and the terminal's time would not go back.
func TestListThatWouldPutLaterOnesOutOfReachIsRefused(t *testing.T) {
	for name, change := range map[string]func(*whitelist.Manifest){
		"epoch": func(m *whitelist.Manifest) { m.Epoch = 1<<64 - 1 },
		"seq":   func(m *whitelist.Manifest) { m.Seq = 1<<64 - 1 },
		"seq of a new epoch": func(m *whitelist.Manifest) {
			m.Epoch++
			m.Seq = 1 << 63
		},
		"issued in 9998": func(m *whitelist.Manifest) {
			m.IssuedAt, m.NotAfter = time.Date(9998, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		},
	} {
		for _, fresh := range []bool{true, false} {
			if fresh && name == "issued in 9998" {
				continue // a board without a clock could have no first list
			}
			s := open(t, t.TempDir())
			if !fresh {
				load(t, s, list(t, manifest(5), 10))
			}
			m := manifest(6)
			change(&m)
			_, err := s.Import(t.Context(), bytes.NewReader(list(t, m, 10)), now, nil)
			if _, refused := errors.AsType[*whitelist.RefusedError](err); !refused || !errors.Is(err, ErrFar) {
				t.Errorf("%s, fresh %t: %v", name, fresh, err)
			}
			load(t, s, list(t, manifest(7), 10))
			inForce(t, s, 7)
		}
	}
}

// A board without a clock takes the next list of those that it has.
func TestBoardThatBootsIn1970TakesTheNextList(t *testing.T) {
	s := open(t, t.TempDir())
	load(t, s, list(t, manifest(5), 10))
	if _, err := s.Import(t.Context(), bytes.NewReader(list(t, manifest(6), 10)), time.Unix(1000, 0), nil); err != nil {
		t.Error(err)
	}
	inForce(t, s, 6)
}
