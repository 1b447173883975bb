package main

import (
	"context"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
)

// A slotReader gives a card of one slot, again and again.
type slotReader struct {
	nfc.Card
	slot     string
	released *int
}

func (r slotReader) Next(context.Context) (nfc.Card, error) { return r, nil }
func (r slotReader) Slot() string                           { return r.slot }
func (r slotReader) Release() error                         { *r.released++; return nil }

func TestSlotIsOfOneLane(t *testing.T) {
	var owners slotOwners
	var released int
	next := func(label, slot string) error {
		_, err := owners.reader(label, slotReader{slot: slot, released: &released}).Next(t.Context())
		return err
	}
	for _, c := range [][2]string{{"gate-1/entry", "A"}, {"gate-1/exit", "B"}, {"gate-1/entry", "A"}} {
		if err := next(c[0], c[1]); err != nil {
			t.Error(err)
		}
	}
	if err := next("gate-1/exit", "A"); err == nil || released != 1 {
		t.Errorf("%v, %d cards were released", err, released)
	}
}
