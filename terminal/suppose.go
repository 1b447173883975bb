package terminal

import (
	"errors"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Suppose returns what a lane with this configuration would decide on if the
// card of a row came to it, for Explain: all but the histories. Clock and floor
// are as in Facts. The method is that by which the card would have to prove
// itself. The error is ErrNoKey, beside the facts, when no card of the row can.
func (c Config) Suppose(row whitelist.Row, list whitelist.Manifest, clock, floor time.Time) (Facts, jpki.Method, error) {
	l := Lane{Config: c}
	way := (&Prover{Methods: c.Methods, FirstUse: c.FirstUse, Anchors: c.Anchors}).choose(row)
	f := Facts{
		Instant: instantOf(clock, floor, list), Clock: clock, Direction: c.Direction, Row: row,
		List: list, Floor: floor, HolderCheck: l.holderCheck(way.method),
	}
	place, err := l.place(list)
	if errors.Is(err, ErrUnknownGate) {
		err = nil // Decide says so
	}
	f.Place = place
	if err == nil && way.key.IsZero() && !way.chain {
		err = ErrNoKey
	}
	return f, way.method, err
}
