package claims

import (
	"cmp"
	"slices"
	"time"
)

// A Numbered is a record with its number. Err says that it could not be read, or that
// something else is under its number too; Record is then zero, or the first there was.
type Numbered struct {
	N      uint64
	Record Record
	Err    error
}

// A Passage is people who went in or out together, as a log has it.
type Passage struct {
	N uint64
	Writer
	ID          string
	Exit        bool
	Gate, Zone  string
	At          time.Time
	People      uint32
	Reentry     uint32
	Reservation uint64 // in the writer's journal, 0 when the log does not have it
	// Settled says that its writer has said what came of it. Until then People are
	// those who may pass.
	Settled bool
	Doubt   bool
}

// A History is what a log comes to.
type History struct {
	// Passages stand in the order of the log: what came to nothing is not among
	// them. Of an entry in doubt all people count, of an exit none, so that nobody
	// gains from it; such an exit stands with no people.
	Passages []Passage
	Next     uint64   // the first number that is free
	Unsure   []uint64 // numbers that cannot be read or were never written, before the last: there may be more passages
}

// Fold makes the history of a log. It is a pure function, and the order in which
// records are given is of no account.
//
// A settle counts where it is by the writer of what it settles, and comes after it; of
// several the last. It makes people fewer and never more.
func Fold(log []Numbered) (h History) {
	log = slices.Clone(log)
	slices.SortStableFunc(log, func(a, b Numbered) int { return cmp.Compare(a.N, b.N) })
	at := make(map[uint64]int) // of a number, in h.Passages
	claimed := make(map[uint64]Record)
	last := uint64(0)
	for _, e := range log {
		if e.N == last { // it was told twice
			continue
		}
		for last++; last < e.N; last++ {
			h.miss(last)
		}
		if e.Err != nil {
			h.Unsure = append(h.Unsure, e.N)
		}
		switch r := e.Record; r.Kind {
		case Entry, Exit:
			at[e.N], claimed[e.N] = len(h.Passages), r
			h.Passages = append(h.Passages, Passage{
				N: e.N, Writer: r.Writer, ID: r.ID, Exit: r.Kind == Exit, Gate: r.Gate, Zone: r.Zone, At: r.At,
				People: r.People, Reentry: r.Reentry, Reservation: r.Reservation,
			})
		case Settle:
			of, there := claimed[r.Of]
			if !there || of.Writer != r.Writer || of.ID != r.ID {
				continue
			}
			p := &h.Passages[at[r.Of]]
			p.People = min(r.People, of.People)
			if p.Doubt = r.Doubt; r.Doubt {
				if p.People = of.People; p.Exit {
					p.People = 0
				}
			}
			p.Settled, p.Reentry = true, min(of.Reentry, p.People) // whoever used nothing up went first
			p.Reservation = max(p.Reservation, r.Reservation)
		}
	}
	if h.Next == 0 {
		h.Next = last + 1
	}
	h.Passages = slices.DeleteFunc(h.Passages, func(p Passage) bool { return p.People == 0 && !p.Doubt })
	return h
}

// miss notes a number that is not there, and later ones are.
func (h *History) miss(n uint64) {
	if h.Next == 0 {
		h.Next = n
	}
	h.Unsure = append(h.Unsure, n)
}
