package publish

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"reflect"
	"time"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Why a publication is due.
const (
	DueFirst      = "no list of this epoch was published"
	DueRows       = "rows changed"
	DueSettings   = "settings of the scope changed"
	DueRevocation = "revocations are known up to a later instant"
	DueHalf       = "half of the list's lifetime is over"
	DueUnplaced   = "the newest list is not in place"
	DueDelegation = "the delegation changed"
)

// Due says why a publication is due at an instant, "" when none is.
func (p *Publisher) Due(ctx context.Context, at time.Time) (string, error) {
	m, err := p.Newest(ctx)
	if errors.Is(err, ErrUnpublished) {
		return DueFirst, nil
	}
	if err != nil {
		return "", err
	}
	heads, all, err := p.Registry.Pending(ctx, p.Scope)
	if err != nil {
		return "", err
	}
	if heads > 0 || all {
		return DueRows, nil
	}
	s, err := p.Registry.Scope(ctx, p.Scope)
	if err != nil {
		return "", err
	}
	if !reflect.DeepEqual(m.Policy, s.Policy) || m.NotAfter.Sub(m.IssuedAt) != s.Lifetime || !sameVenue(m, s) {
		return DueSettings, nil
	}
	// What was known of a time to come is not said before it has.
	if asOf := s.RevocationAsOf; asOf.After(m.RevocationAsOf) && m.RevocationAsOf.Before(m.IssuedAt) {
		return DueRevocation, nil
	}
	if at.After(m.IssuedAt.Add(s.Lifetime / 2)) {
		return DueHalf, nil
	}
	payload, err := p.payload(ctx)
	if err != nil {
		return "", err
	}
	_, delegation, placed, err := p.Folder.Placed()
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case !bytes.Equal(placed, payload):
		return DueUnplaced, nil
	case !bytes.Equal(delegation, p.Signers.Delegation):
		return DueDelegation, nil
	}
	return "", nil
}

// sameVenue compares by what a list can say of a venue.
func sameVenue(m whitelist.Manifest, s registry.Scope) bool {
	then, now := m, m
	now.Venue = s.Venue
	a, err := then.Encode()
	if err != nil {
		return false
	}
	b, err := now.Encode()
	return err == nil && bytes.Equal(a, b)
}

// A Difference is what the next list would change.
type Difference struct {
	From, To             whitelist.Manifest // From is zero before the first list
	Added, Changed, Gone uint64             // rows
}

// Compare builds the next list without writing anything.
func (p *Publisher) Compare(ctx context.Context, at time.Time, full bool) (d Difference, err error) {
	if d.From, err = p.Newest(ctx); err != nil && !errors.Is(err, ErrUnpublished) {
		return Difference{}, err
	}
	// Without Finish nothing is kept.
	err = p.Registry.Publish(ctx, p.Scope, full, func(tx *registry.Publication) error {
		b := builder{Publisher: p, tx: tx, at: at.UTC().Truncate(time.Second)}
		if err := b.begin(); err != nil {
			return err
		}
		if err := b.rows(ctx, tx.Scope().SetSeq == 0); err != nil {
			return err
		}
		b.set()
		d.To, d.Added, d.Changed, d.Gone = b.draft.Manifest, b.draft.Added, b.draft.Changed, b.draft.Gone
		return nil
	})
	return d, err
}
