package ingest

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/sync/upload"
)

func TestEventsAreKeptOnceHoweverTheyAreSent(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		c.fill(10)
		h.keep(t, "gate-1", c.batch(1, 0), 0) // a question about nothing
		h.keep(t, "gate-1", c.batch(1, 4), 4)
		h.keep(t, "gate-1", c.batch(1, 4), 4)
		h.keep(t, "gate-1", c.batch(2, 3), 4)
		h.keep(t, "gate-1", c.batch(3, 7), 7)
		h.keep(t, "gate-1", c.batch(9, 10), 7) // 8 is missing: nothing of it is kept
		h.restart(t)
		h.keep(t, "gate-1", c.batch(11, 10), 7)
		h.keep(t, "gate-1", c.batch(8, 10), 10)
		h.keep(t, "gate-1", c.batch(1, 10), 10)
		h.holds(t, c)
		if a := h.keep(t, "gate-1", c.batch(11, 10), 10); a.Hash != c.hashes[10] || !a.At.Equal(noon) {
			t.Errorf("%+v", a)
		}
	})
}

func TestJournalsOfManyTerminalsDoNotMix(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		var wg sync.WaitGroup
		var all []*chain
		for i := range 20 {
			c := newChain("gate-"+string(rune('a'+i)), 1) // all of one incarnation: the terminal keeps them apart
			c.fill(2*upload.MaxEvents + i)
			all = append(all, c)
			wg.Go(func() { c.all(t, h) })
		}
		wg.Wait()
		for _, c := range all {
			h.holds(t, c)
		}
	})
}

// A terminal that was copied, or set back to an older copy, goes on with other
// events under the same numbers.
func TestCloneIsToldAndOverwritesNothing(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c, clone := newChain("gate-1", 1), newChain("gate-1", 1)
		c.fill(5)
		clone.fill(5)
		for i := range 3 {
			c.add(`"kind":"incident","at":"2026-07-01T12:00:00.000Z","note":"original %d"`, i)
		}
		for i := range 6 {
			clone.add(`"kind":"incident","at":"2026-07-01T12:00:00.000Z","note":"clone %d"`, i)
		}
		c.all(t, h)
		for _, b := range []*upload.Batch{clone.batch(6, 8), clone.batch(3, 11), clone.batch(9, 11), clone.batch(8, 7)} {
			if a, r := h.send(t, "gate-1", b); r == nil || r.Code != upload.Clone || r.Retry || r.Seq < 6 {
				t.Errorf("events %d…: acknowledged %+v, refused %+v", b.First, a, r)
			}
		}
		h.holds(t, c)
		if n := h.count(t, "forks"); n != 6 {
			t.Errorf("%d events of the clone are kept for people, want 6", n)
		}
		c.fill(1)
		h.keep(t, "gate-1", c.batch(9, 9), 9) // the original goes on
		for what, short := range map[string]*upload.Batch{"asks": c.batch(6, 5), "sends": c.batch(4, 5)} {
			short.Last = 5
			if _, r := h.send(t, "gate-1", short); r == nil || r.Code != upload.Clone {
				t.Errorf("a restored journal that %s: %v", what, r)
			}
		}
		h.holds(t, c)
	})
}

func TestWhatCannotBeReadIsKeptListedAndBlocksNothing(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		at := `"at":"2026-07-01T12:00:00.000Z"`
		c.fill(1)
		c.put([]byte("not\njson\x00\xff"))
		c.put(nil)
		c.put([]byte(`{"seq":99,"kind":"decision",` + at + `}`))
		c.put([]byte(`[1]`))
		c.add(`"kind":"teleport",%s`, at)
		c.add(`"kind":"decision","at":"noon"`)
		c.add(`"kind":"reserve",%s,"gate":"a\u0000b"`, at)
		c.add(`"kind":"reserve",%s,"entitlement":%q`, at, strings.Repeat("x", 4000))
		c.add(`"kind":"reserve",%s,"people":-1`, at)
		c.add(`"kind":"commit",%s,"reservation":18446744073709551615`, at)
		c.add(`"kind":"commit",%s,"reservation":1`, at)
		c.put([]byte(`{"seq":1` + strings.Repeat(`,"a":[[[[`, 1000)))
		bad := len(c.events) - 1
		c.enter(noon, "north", "main", "t1", 1)
		c.all(t, h)
		h.holds(t, c)
		if n := h.count(t, "refused"); n != bad {
			t.Errorf("%d events are listed, want %d", n, bad)
		}
		if n := h.count(t, "passages"); n != 1 {
			t.Errorf("%d passages", n)
		}
	})
}

func TestEventThatIsTooLongIsKnownByItsHash(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		c.fill(1)
		c.put(bytes.Repeat([]byte("x"), upload.MaxEvent+1))
		c.fill(1)
		h.keep(t, "gate-1", c.batch(1, 1), 1)
		b := c.batch(2, 1)
		b.Omitted = &c.hashes[2]
		h.keep(t, "gate-1", b, 2)
		h.keep(t, "gate-1", b, 2)
		h.keep(t, "gate-1", c.batch(3, 3), 3)
		if n := h.count(t, "refused"); n != 1 {
			t.Errorf("%d events are listed", n)
		}
	})
}

func TestWhatRetentionDeletedBeforeIsAGap(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		c.fill(30)
		h.keep(t, "gate-1", c.batch(1, 5), 5)
		h.keep(t, "gate-1", c.batch(21, 25), 5) // not without the word of the terminal
		b := c.batch(21, 25)
		b.Pruned = 20
		h.keep(t, "gate-1", b, 25)
		h.keep(t, "gate-1", b, 25)
		h.keep(t, "gate-1", c.batch(26, 30), 30)
		other := newChain("gate-1", 1)
		other.fill(19)
		other.put([]byte("x"))
		other.fill(10)
		if _, r := h.send(t, "gate-1", other.batch(21, 30)); r == nil || r.Code != upload.Clone {
			t.Errorf("another journal behind the gap: %v", r)
		}
		if n := h.count(t, "gaps"); n != 1 {
			t.Errorf("%d gaps", n)
		}
	})
}

func TestWhatIsNoBatchOfTheSenderIsRefused(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		c.fill(3)
		good, err := c.batch(1, 3).Encode()
		must(t, err)
		told := 0
		h.Refused = func(_, _ string, r *upload.Refusal, _ error) { told++ }
		for what, tc := range map[string]struct {
			terminal string
			data     []byte
			want     upload.Code
		}{
			"another terminal's":  {"gate-2", good, upload.Foreign},
			"another scope's":     {"gate-1", bytes.Replace(good, []byte(`"scope":"hall"`), []byte(`"scope":"park"`), 1), upload.Foreign},
			"a later version":     {"gate-1", bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1), upload.Unknown},
			"oversized":           {"gate-1", append(bytes.Clone(good), make([]byte, upload.MaxBatch)...), upload.TooLarge},
			"nothing":             {"gate-1", nil, upload.Malformed},
			"no header":           {"gate-1", []byte("\n"), upload.Malformed},
			"cut":                 {"gate-1", good[:len(good)-1], upload.Malformed},
			"longer":              {"gate-1", append(bytes.Clone(good), 'x'), upload.Malformed},
			"event zero":          {"gate-1", bytes.Replace(good, []byte(`"first":1`), []byte(`"first":0`), 1), upload.Malformed},
			"more than there are": {"gate-1", bytes.Replace(good, []byte(`"last":3`), []byte(`"last":2`), 1), upload.Malformed},
			"numbers that wrap":   {"gate-1", bytes.Replace(good, []byte(`"first":1`), []byte(`"first":18446744073709551615`), 1), upload.Malformed},
			"a number too great":  {"gate-1", bytes.Replace(good, []byte(`"last":3`), []byte(`"last":9223372036854775807`), 1), upload.Malformed},
			"a wrong beginning":   {"gate-1", bytes.Replace(good, []byte(`"prev":"`), []byte(`"prev":"0`), 1), upload.Malformed},
			"a negative size":     {"gate-1", bytes.Replace(good, []byte(`"sizes":[`), []byte(`"sizes":[-1,`), 1), upload.Malformed},
		} {
			if a, r := h.raw(t, tc.terminal, tc.data); r == nil || r.Code != tc.want || r.Retry {
				t.Errorf("%s: acknowledged %+v, refused %v", what, a, r)
			}
		}
		if told != 14 {
			t.Errorf("told of %d", told)
		}
		if n := h.count(t, "events") + h.count(t, "heard"); n != 0 {
			t.Errorf("%d rows were kept", n)
		}
	})
}

func TestClockThatIsADayOffIsMeasuredAndChangesNothing(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		c.enter(noon.Add(24*time.Hour), "north", "main", "t1", 1)
		b := c.batch(1, 2)
		b.Sent = noon.Add(24 * time.Hour)
		h.keep(t, "gate-1", b, 2)
		h.holds(t, c)
		all, err := h.Store.Terminals(t.Context(), hall)
		must(t, err)
		if len(all) != 1 || all[0].Offset != 24*time.Hour {
			t.Errorf("%+v", all)
		}
	})
}

// What is held is told one by one, of every journal of a scope and of no other.
func TestEveryHeldEventIsToldOnce(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		var want []Held
		for i, name := range []string{"gate-1", "gate-2"} {
			c := newChain(name, byte(i+1))
			c.fill(3 + i)
			c.all(t, h)
			for n := range c.events {
				want = append(want, Held{name, c.id, uint64(n + 1), c.hashes[n+1]})
			}
		}
		var got []Held
		must(t, h.Store.Held(t.Context(), hall, func(e Held) error { got = append(got, e); return nil }))
		if !slices.Equal(got, want) {
			t.Errorf("held %v, want %v", got, want)
		}
		must(t, h.Store.Held(t.Context(), "elsewhere", func(e Held) error { t.Errorf("another scope has %v", e); return nil }))
	})
}
