package bus

import (
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/sync/link"
)

// A Beat is the last heartbeat of a terminal.
type Beat struct {
	Scope    string      `json:"scope"`
	Terminal string      `json:"terminal"`
	Received time.Time   `json:"received"`  // by the hub's clock
	OffsetMS int64       `json:"offset_ms"` // how far the terminal's clock is ahead, with the time that the heartbeat took
	Health   link.Health `json:"health"`
}

// beats are the last ones, by terminal.
type beats struct {
	mu   sync.Mutex
	last map[string]kept
}

type kept struct {
	from Terminal
	beat Beat
}

func newBeats() *beats { return &beats{last: make(map[string]kept)} }

func (b *beats) add(t Terminal, message []byte, at time.Time) error {
	h, err := link.ParseHealth(message)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last[t.subjects().Health] = kept{t, Beat{t.Scope, t.Name, at.UTC(), h.At.Sub(at).Milliseconds(), h}}
	return nil
}

func (b *beats) all() []Beat {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Beat, 0, len(b.last))
	for _, k := range b.last {
		all = append(all, k.beat)
	}
	return all
}

// forget leaves those of terminals in force.
func (b *beats) forget(inForce func(Terminal) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, k := range b.last {
		if !inForce(k.from) {
			delete(b.last, name)
		}
	}
}
