package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
)

// earth is one world for all afternoons: keys take time.
var earth = sync.OnceValues(func() (*world.World, error) { return world.New(doors) })

// spend runs a small afternoon, and returns its last line.
func spend(t *testing.T, spoil func(terminal.Journal) terminal.Journal) (last map[string]float64, err error) {
	t.Helper()
	w, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := afternoon{world: w, people: 400, lanes: 3, seed: 1, json: true, spoil: spoil, out: &out, say: io.Discard}
	err = a.run(t.Context())
	if jsonErr := json.Unmarshal(out.Bytes(), &last); jsonErr != nil {
		t.Fatal(jsonErr, err)
	}
	return last, err
}

func TestAfternoonAgreesOnEverybody(t *testing.T) {
	t.Parallel()
	got, err := spend(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got["people"] != 400 || got["admitted"] < 350 || got["denied"] < 20 || got["mismatches"] != 0 ||
		got["admitted"] != got["journal_admitted"] || got["occupancy_journal"] != got["occupancy_simulated"] || got["p50_ms"] <= 0 {
		t.Error(got)
	}
}

// A journal that annuls the hundredth passage, in or out, in place of committing it.
type lossy struct {
	terminal.Journal
	passages *atomic.Int32
}

func (l lossy) Commit(ctx context.Context, r terminal.Reservation, people uint32) error {
	if l.passages.Add(1) == 100 {
		return l.Annul(ctx, r, terminal.Annulled)
	}
	return l.Journal.Commit(ctx, r, people)
}

func TestLostPassageIsAMismatch(t *testing.T) {
	t.Parallel()
	var passages atomic.Int32
	got, err := spend(t, func(j terminal.Journal) terminal.Journal { return lossy{j, &passages} })
	if err == nil || got["mismatches"] == 0 || got["occupancy_journal"] == got["occupancy_simulated"] {
		t.Error(got, err)
	}
}

// A journal that has forgotten who went in.
type forgetful struct{ terminal.Journal }

func (f forgetful) History(ctx context.Context, entitlement string) (terminal.History, error) {
	h, err := f.Journal.History(ctx, entitlement)
	return terminal.History{Last: h.Last}, err
}

func TestPersonWhoIsLetInTwiceIsAMismatch(t *testing.T) {
	t.Parallel()
	got, err := spend(t, func(j terminal.Journal) terminal.Journal { return forgetful{j} })
	if err == nil || got["mismatches"] == 0 || !strings.Contains(err.Error(), "admit ok, should be deny already_used") {
		t.Error(got, err)
	}
}
