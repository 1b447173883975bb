package ingest

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A sheet is what tickets are worth.
type sheet map[string]whitelist.Entitlement

func (s sheet) Terms(_ context.Context, id string) (whitelist.Entitlement, bool, error) {
	e, ok := s[id]
	return e, ok, nil
}

func (sheet) Day(at time.Time) int64 { return at.Unix() / 86400 }

func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

func TestTicketThatEnteredAtTwoGatesIsAConflict(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		one, two := newChain("gate-1", 1), newChain("gate-2", 2)
		one.enter(minute(0), "north", "main", "once", 1)
		two.enter(minute(1), "south", "main", "once", 1)

		one.enter(minute(2), "north", "main", "comes back", 1)
		two.leave(minute(3), "south", "main", "comes back", 1)
		one.enter(minute(4), "north", "main", "comes back", 1)
		two.enter(minute(5), "south", "main", "comes back", 1) // and once more, without an exit

		one.enter(minute(6), "north", "main", "family", 3)
		two.enter(minute(7), "south", "main", "family", 2) // one of them is a fifth

		n := one.add(`"kind":"reserve","at":%q,"gate":"north","entitlement":"annulled","zone":"main"`, minute(8).Format(instantFormat))
		one.settle("annul", n, 0)
		two.enter(minute(9), "south", "main", "annulled", 1)

		one.enter(minute(10), "north", "main", "two zones", 1)
		two.enter(minute(11), "stage", "stage", "two zones", 1)

		one.enter(minute(12), "north", "main", "a day", 1)
		two.enter(minute(13), "south", "main", "a day", 1)
		two.enter(minute(13).Add(24*time.Hour), "south", "main", "a day", 1)

		one.enter(minute(14), "north", "main", "any", 1)
		two.enter(minute(15), "south", "main", "any", 1)
		one.enter(minute(16), "north", "main", "on no list", 1)
		two.enter(minute(17), "south", "main", "on no list", 1)
		one.enter(minute(18), "north", "main", "token/1", 1)
		two.enter(minute(19), "south", "main", "token/1", 1)

		n = two.add(`"kind":"reserve","at":%q,"gate":"south","entitlement":"doubt","zone":"main"`, minute(21).Format(instantFormat))
		one.enter(minute(20), "north", "main", "doubt", 1)
		two.settle("doubt", n, 0)

		tickets := sheet{
			"once": {Uses: 1}, "comes back": {Uses: 1, ReEntry: whitelist.ReEntryAfterExit}, "family": {Uses: 1, Party: 4}, "annulled": {Uses: 1},
			"two zones": {Uses: 1}, "a day": {UsesPerDay: 1}, "any": {}, "doubt": {Uses: 1},
		}
		// Whichever half comes first.
		for _, c := range [][]*chain{{two, one}, {one, two}}[rand.IntN(2)] {
			c.all(t, h)
		}
		got, unjudged, err := h.Store.Conflicts(t.Context(), hall, noon, tickets)
		must(t, err)
		if unjudged != 1 {
			t.Errorf("%d tickets could not be judged", unjudged)
		}
		type short struct {
			entitlement   string
			people        uint32
			doubt         bool
			earlier, late int
			gates         string
		}
		var seen []short
		for _, c := range got {
			seen = append(seen, short{c.Entitlement, c.People, c.InDoubt, int(c.Earlier.At.Sub(noon).Minutes()), int(c.Entry.At.Sub(noon).Minutes()), c.Earlier.Gate + " " + c.Entry.Gate})
			if c.Kind != DoubleEntry || c.Zone != "main" {
				t.Errorf("%+v", c)
			}
		}
		want := []short{
			{"a day", 1, false, 12, 13, "north south"},
			{"comes back", 1, false, 2, 5, "north south"},
			{"doubt", 1, true, 20, 21, "north south"},
			{"family", 1, false, 6, 7, "north south"},
			{"once", 1, false, 0, 1, "north south"},
		}
		if !reflect.DeepEqual(seen, want) {
			t.Errorf("got  %v\nwant %v", seen, want)
		}
		later, _, err := h.Store.Conflicts(t.Context(), hall, minute(6), tickets)
		if err != nil || len(later) != 3 {
			t.Errorf("since 12:06: %d, %v", len(later), err)
		}
	})
}

func TestPeopleAreCountedByGateAndMinute(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		one, two := newChain("gate-1", 1), newChain("gate-2", 2)
		one.enter(minute(0), "north", "main", "a", 2)
		one.enter(minute(0).Add(59*time.Second), "north", "main", "b", 1)
		one.enter(minute(1), "north", "main", "c", 1)
		one.leave(minute(1), "north", "main", "a", 1)
		one.add(`"kind":"reserve","at":%q,"gate":"north","entitlement":"d","zone":"main"`, minute(1).Format(instantFormat))
		two.enter(minute(1), "south", "main", "e", 1)
		two.enter(minute(5), "south", "main", "f", 1)
		one.all(t, h)
		two.all(t, h)
		got, err := h.Store.Entries(t.Context(), hall, noon, minute(5), time.Minute)
		want := []Minute{{"north", noon, 3, 0, 0}, {"north", minute(1), 1, 1, 1}, {"south", minute(1), 1, 0, 0}}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v, %v\nwant %v", got, err, want)
		}
		if other, err := h.Store.Entries(t.Context(), "park", noon, minute(5), time.Minute); err != nil || len(other) != 0 {
			t.Errorf("of another scope: %v, %v", other, err)
		}
		if _, err := h.Store.Entries(t.Context(), hall, noon, minute(5), 0); err == nil {
			t.Error("in no steps")
		}
	})
}

func TestHeartbeatIsKept(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		ctx := t.Context()
		must(t, h.Store.Heartbeat(ctx, hall, "gate-1", []byte(`{"version":1,"at":"2026-07-01T12:00:03Z","list":{"epoch":1,"seq":7},"clock_trusted":true,"keys_lost":[],"lanes":[{"lane":"a","reader":true}]}`), noon))
		for _, bad := range []string{"", "{}", `{"version":2,"at":"2026-07-01T12:00:00Z"}`, `{"version":1}`} {
			if err := h.Store.Heartbeat(ctx, hall, "gate-1", []byte(bad), noon.Add(time.Hour)); err == nil {
				t.Errorf("%s is kept", bad)
			}
		}
		c := newChain("gate-1", 1)
		c.fill(1)
		c.all(t, h) // leaves the heartbeat
		all, err := h.Store.Terminals(ctx, hall)
		must(t, err)
		if len(all) != 1 || !all[0].HealthAt.Equal(noon) || all[0].Health.List == nil || all[0].Health.List.Seq != 7 || all[0].Agent != "v1" || all[0].Events != 1 {
			t.Errorf("%+v", all)
		}
	})
}
