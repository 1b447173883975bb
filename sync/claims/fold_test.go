package claims

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	noon  = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	north = Writer{"north", "000102030405060708090a0b0c0d0e0f"}
	south = Writer{"south", "101112131415161718191a1b1c1d1e1f"}
)

func entry(w Writer, id string, people uint32) Record {
	return Record{Version: Version, Kind: Entry, Entitlement: "t", Writer: w, ID: id, Gate: w.Terminal, Zone: "hall", At: noon, People: people}
}

func exit(w Writer, id string, people uint32) Record {
	r := entry(w, id, people)
	r.Kind, r.Late = Exit, true
	return r
}

func settle(w Writer, id string, of uint64, people uint32) Record {
	return Record{Version: Version, Kind: Settle, Entitlement: "t", Writer: w, ID: id, At: noon, Of: of, People: people, Reservation: 7}
}

func numbered(records ...Record) (log []Numbered) {
	for i, r := range records {
		log = append(log, Numbered{N: uint64(i + 1), Record: r})
	}
	return log
}

// people is what stands of a history, in short.
func people(h History) (s []string) {
	for _, p := range h.Passages {
		way := "+"
		if p.Exit {
			way = "-"
		}
		s = append(s, fmt.Sprintf("%s %s%d", p.Terminal, way, p.People))
	}
	return s
}

func TestALogComesTo(t *testing.T) {
	doubt := func(r Record) Record { r.Doubt = true; return r }
	for name, c := range map[string]struct {
		log    []Numbered
		want   []string
		next   uint64
		unsure []uint64
	}{
		"nothing":                    {nil, nil, 1, nil},
		"an entry counts unsettled":  {numbered(entry(north, "a", 4)), []string{"north +4"}, 2, nil},
		"fewer came":                 {numbered(entry(north, "a", 4), settle(north, "a", 1, 3)), []string{"north +3"}, 3, nil},
		"more than were admitted":    {numbered(entry(north, "a", 1), settle(north, "a", 1, 9)), []string{"north +1"}, 3, nil},
		"nobody came":                {numbered(entry(north, "a", 1), settle(north, "a", 1, 0), entry(south, "b", 1)), []string{"south +1"}, 4, nil},
		"annulled after it counted":  {numbered(entry(north, "a", 1), settle(north, "a", 1, 1), settle(north, "a", 1, 0)), nil, 4, nil},
		"another's settle":           {numbered(entry(north, "a", 1), settle(south, "a", 1, 0)), []string{"north +1"}, 3, nil},
		"a settle of another claim":  {numbered(entry(north, "a", 1), settle(north, "b", 1, 0)), []string{"north +1"}, 3, nil},
		"a settle of what comes":     {numbered(settle(north, "a", 2, 0), entry(north, "a", 1)), []string{"north +1"}, 3, nil},
		"a settle of a settle":       {numbered(entry(north, "a", 1), settle(north, "a", 1, 1), settle(north, "a", 2, 0)), []string{"north +1"}, 4, nil},
		"an entry in doubt":          {numbered(entry(north, "a", 4), doubt(settle(north, "a", 1, 0))), []string{"north +4"}, 3, nil},
		"an exit in doubt":           {numbered(exit(north, "a", 4), doubt(settle(north, "a", 1, 4))), []string{"north -0"}, 3, nil},
		"out by another gate":        {numbered(entry(north, "a", 1), exit(south, "r9", 1), entry(north, "b", 1)), []string{"north +1", "south -1", "north +1"}, 4, nil},
		"a number that is missing":   {slices.Delete(numbered(entry(north, "a", 1), entry(south, "b", 1), entry(south, "c", 1)), 1, 2), []string{"north +1", "south +1"}, 2, []uint64{2}},
		"one that cannot be read":    {append(numbered(entry(north, "a", 1)), Numbered{N: 2, Err: ErrUnreadable}), []string{"north +1"}, 3, []uint64{2}},
		"one that was written twice": {[]Numbered{{1, entry(north, "a", 1), errors.New("twice")}}, []string{"north +1"}, 2, []uint64{1}},
	} {
		h := Fold(c.log)
		if got := people(h); !slices.Equal(got, c.want) || h.Next != c.next || !slices.Equal(h.Unsure, c.unsure) {
			t.Errorf("%s: %q, next %d, unsure %d; want %q, %d, %d", name, got, h.Next, h.Unsure, c.want, c.next, c.unsure)
		}
	}
}

// What a gate does by one entitlement: what it writes, in its order. A settle names what
// it settles by its place in here.
type step struct {
	record Record
	of     int // of a settle
}

func steps(w Writer) *rapid.Generator[[]step] {
	return rapid.Custom(func(t *rapid.T) (all []step) {
		var open []int
		for range rapid.IntRange(0, 6).Draw(t, "steps") {
			if len(open) > 0 && rapid.Bool().Draw(t, "settle") {
				of := rapid.SampledFrom(open).Draw(t, "of")
				r := settle(w, all[of].record.ID, 0, rapid.Uint32Range(0, all[of].record.People).Draw(t, "passed"))
				r.Doubt = rapid.Bool().Draw(t, "doubt")
				all = append(all, step{r, of})
				continue
			}
			r := entry(w, fmt.Sprint("c", len(all)), rapid.Uint32Range(1, 4).Draw(t, "people"))
			if rapid.Bool().Draw(t, "exit") {
				r.Kind = Exit
			}
			open = append(open, len(all))
			all = append(all, step{r, 0})
		}
		return all
	})
}

// Gates write in any order, each its own records in its own: what stands in the end is
// the same, and every reader sees it alike, in whatever order records reach it and
// however often.
func TestAnyInterleavingGivesTheSameHistory(t *testing.T) {
	gates := []Writer{north, south, {"north", "202122232425262728292a2b2c2d2e2f"}}
	rapid.Check(t, func(t *rapid.T) {
		scripts := make([][]step, len(gates))
		for i, w := range gates {
			scripts[i] = steps(w).Draw(t, "script")
		}
		interleave := func(seed uint64) (log []Numbered) {
			rng := rand.New(rand.NewPCG(seed, 0))
			at := make([][]uint64, len(gates)) // numbers of what each wrote
			for {
				var left []int
				for i, s := range scripts {
					if len(at[i]) < len(s) {
						left = append(left, i)
					}
				}
				if len(left) == 0 {
					return log
				}
				i := left[rng.IntN(len(left))]
				s := scripts[i][len(at[i])]
				r, n := s.record, uint64(len(log)+1)
				if r.Kind == Settle {
					r.Of = at[i][s.of]
				}
				at[i] = append(at[i], n)
				log = append(log, Numbered{N: n, Record: r})
			}
		}
		one, other := interleave(rapid.Uint64().Draw(t, "one")), interleave(rapid.Uint64().Draw(t, "other"))
		a, b := standing(Fold(one)), standing(Fold(other))
		if !slices.Equal(a, b) {
			t.Fatalf("one order gives\n%q\nanother\n%q", a, b)
		}

		heard := append(slices.Clone(one), one...)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "delivery"), 0))
		rng.Shuffle(len(heard), func(i, j int) { heard[i], heard[j] = heard[j], heard[i] })
		if got, want := Fold(heard), Fold(one); !reflect.DeepEqual(got, want) {
			t.Fatalf("heard in another order it is\n%+v\nnot\n%+v", got, want)
		}
	})
}

// standing is what stands, whatever its numbers are.
func standing(h History) (s []string) {
	for _, p := range h.Passages {
		p.N = 0
		s = append(s, fmt.Sprintf("%+v", p))
	}
	slices.Sort(s)
	return s
}

// A gate that has heard of part of a log has its beginning, and no number before the
// first free one is another's to write.
func TestPartOfALogIsItsBeginning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log []Numbered
		for _, s := range steps(north).Draw(t, "script") {
			r := s.record
			if r.Of = uint64(s.of + 1); r.Kind != Settle {
				r.Of = 0
			}
			log = append(log, Numbered{N: uint64(len(log) + 1), Record: r})
		}
		part := Fold(log[:rapid.IntRange(0, len(log)).Draw(t, "heard")])
		if part.Next > Fold(log).Next || len(part.Unsure) > 0 {
			t.Fatalf("%+v", part)
		}
	})
}
