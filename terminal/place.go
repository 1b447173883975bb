package terminal

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/rules"
)

// A Place is where a lane stands in the venue of a list: what a decision needs
// of the venue, made ready once for each list.
type Place struct {
	venue    whitelist.Venue
	gate     whitelist.Gate // its ID is 0 where the list names no gates
	zone     whitelist.Zone // the zone that the gate leads into
	products map[uint32]whitelist.Product
	rules    rules.Rules
	location *time.Location
}

// ErrUnknownGate says that the list has no such gate.
var ErrUnknownGate = errors.New("the list has no such gate")

// NewPlace finds a gate in the venue of a list. The error is ErrUnknownGate when
// it is not there.
func NewPlace(v whitelist.Venue, gate string) (*Place, error) {
	p := &Place{venue: v, gate: whitelist.Gate{Name: gate}, products: make(map[uint32]whitelist.Product, len(v.Products))}
	var err error
	if p.location, err = time.LoadLocation(v.TimeZone); err != nil {
		return nil, fmt.Errorf("time zone of the venue: %w", err)
	}
	if p.rules, err = rules.Compile(v.Rules); err != nil {
		return nil, fmt.Errorf("rules of the venue: %w", err)
	}
	for _, product := range v.Products {
		p.products[product.ID] = product
	}
	if len(v.Gates) == 0 {
		return p, nil
	}
	var names []string
	for _, g := range v.Gates {
		if g.Name == gate {
			p.gate = g
			for _, z := range v.Zones {
				if z.Name == g.Zone {
					p.zone = z
				}
			}
			return p, nil
		}
		names = append(names, g.Name)
	}
	return nil, fmt.Errorf("%w: %q, its gates are %s", ErrUnknownGate, gate, strings.Join(names, ", "))
}

// day numbers the days of the venue, as its rules do.
func (p *Place) day(t time.Time) int64 {
	f := rules.Facts{Location: p.location, DayStarts: p.venue.DayStarts}
	return f.Day(t).Unix() / (24 * 60 * 60)
}

// places keeps the place of a lane in the venue of the list in force.
type places struct {
	mu    sync.Mutex
	of    [32]byte // Digest of the list, with its number
	epoch uint64
	seq   uint64
	place *Place
	err   error
}

// place is where the lane stands in the venue of a list.
func (l *Lane) place(m whitelist.Manifest) (*Place, error) {
	p := &l.places
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.place == nil && p.err == nil || p.of != m.Digest() || p.epoch != m.Epoch || p.seq != m.Seq {
		p.of, p.epoch, p.seq = m.Digest(), m.Epoch, m.Seq
		p.place, p.err = NewPlace(m.Venue, l.GateName)
	}
	return p.place, p.err
}
