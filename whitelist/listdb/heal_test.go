package listdb

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
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
