package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/terminal"
)

// A slotOwners remembers which lane a slot is of: whoever first had a card from it.
// Patterns of two lanes may take the same name, which nobody can tell before a reader
// is plugged in; then one tap would be an entry and an exit.
type slotOwners struct {
	mu sync.Mutex
	of map[string]string // slot, and the label of its lane
}

// reader is r for the lane of that label. A card from a slot of another lane is a
// final error.
func (o *slotOwners) reader(label string, r terminal.Reader) terminal.Reader {
	return ownReader{r, label, o}
}

func (o *slotOwners) take(slot, label string) (owner string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = make(map[string]string)
	}
	if o.of[slot] == "" {
		o.of[slot] = label
	}
	return o.of[slot]
}

type ownReader struct {
	terminal.Reader
	label  string
	owners *slotOwners
}

func (r ownReader) Next(ctx context.Context) (nfc.Card, error) {
	card, err := r.Reader.Next(ctx)
	if err != nil {
		return nil, err
	}
	if owner := r.owners.take(card.Slot(), r.label); owner != r.label {
		err := fmt.Errorf("slot %q is of lane %s: name the slots of each lane in reader.slots so that no pattern takes that of another", card.Slot(), owner)
		return nil, errors.Join(err, card.Release())
	}
	return card, nil
}
