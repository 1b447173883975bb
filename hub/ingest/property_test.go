package ingest

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// Whatever is sent again, late, cut or in other pieces, and whenever the hub is
// started anew: each event is there once, an acknowledgement never says more than
// is held, and nothing but what follows is taken.
func TestEveryEventArrivesOnceInAnyOrder(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		run := byte(0)
		rapid.Check(t, func(rt *rapid.T) {
			run++
			var all []*chain
			for i := range rapid.IntRange(1, 3).Draw(rt, "terminals") {
				c := newChain([]string{"gate-1", "gate-2", "gate-3"}[i], run)
				for range rapid.IntRange(1, 40).Draw(rt, "events") {
					if rapid.IntRange(0, 9).Draw(rt, "poison") == 0 {
						c.put(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "bytes"))
					} else if len(c.events)%2 == 0 {
						c.fill(1)
					} else {
						c.enter(noon, "north", "main", "t1", 1)
					}
				}
				all = append(all, c)
			}
			through := make(map[*chain]uint64)
			for range rapid.IntRange(1, 30).Draw(rt, "sendings") {
				if rapid.IntRange(0, 19).Draw(rt, "restart") == 0 {
					h.restart(t)
				}
				c := rapid.SampledFrom(all).Draw(rt, "of")
				n := uint64(len(c.events))
				first := rapid.Uint64Range(1, n+1).Draw(rt, "first")
				last := rapid.Uint64Range(first-1, n).Draw(rt, "last")
				data, err := c.batch(first, last).Encode()
				must(t, err)
				whole := len(data)
				if rapid.IntRange(0, 9).Draw(rt, "cut") == 0 {
					data = data[:rapid.IntRange(0, whole).Draw(rt, "to")]
				}
				a, r := h.raw(t, c.terminal, data)
				switch {
				case r != nil && (r.Code != upload.Malformed || len(data) == whole):
					rt.Fatalf("refused: %v", r)
				case r != nil:
					continue
				}
				if first <= through[c]+1 {
					through[c] = max(through[c], last)
				}
				if a.Through != through[c] || a.Hash != c.hashes[through[c]] {
					rt.Fatalf("%d to %d: acknowledged through %d, want %d", first, last, a.Through, through[c])
				}
			}
			h.restart(t)
			for _, c := range all {
				h.keep(t, c.terminal, c.batch(uint64(len(c.events))+1, uint64(len(c.events))), through[c])
				h.keep(t, c.terminal, c.batch(through[c]+1, uint64(len(c.events))), uint64(len(c.events)))
				h.holds(t, c)
			}
		})
	})
}

// A batch is what it was before it was sent, and bytes that are none are refused
// without harm.
func FuzzParseBatch(f *testing.F) {
	c := newChain("gate-1", 1)
	c.fill(3)
	c.put([]byte("a\nb"))
	for _, b := range []*upload.Batch{c.batch(1, 4), c.batch(5, 4), c.batch(2, 3)} {
		data, err := b.Encode()
		must(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := upload.ParseBatch(data)
		if err != nil {
			return
		}
		again, err := b.Encode()
		must(t, err)
		twice, err := upload.ParseBatch(again)
		must(t, err)
		x, err := json.Marshal(b)
		must(t, err)
		y, err := json.Marshal(twice)
		must(t, err)
		if !bytes.Equal(x, y) {
			t.Errorf("%s\nbecame %s", x, y)
		}
		for i, e := range b.Events {
			_, _ = readEvent(b.First+uint64(i), e) // it returns
		}
	})
}
