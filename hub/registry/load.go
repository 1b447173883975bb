package registry

import (
	"context"
	"fmt"
	"iter"

	"github.com/gate-agent/gate-agent/whitelist"
)

// A Loaded is a card with tickets of its own.
type Loaded struct {
	Reference  string // of a holder who is not in the registry; "": none
	Credential Credential
	Tickets    []Ticket // Holder is the card's
}

// Load adds many cards with their tickets, all or none: for a scope that comes
// from elsewhere. What is in the registry already, in whichever way, is refused.
// Memory: some hundred cards at a time.
func (r *Registry) Load(ctx context.Context, by By, scope string, cards iter.Seq2[Loaded, error]) (n int, err error) {
	err = r.do(ctx, by, "loading", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		l := loader{
			t: t, by: by, scope: s, issuers: map[Issuer]int64{},
			holders:     newBatch(`INSERT INTO holders (id, scope, reference) VALUES `, 3, ""),
			credentials: newBatch(`INSERT INTO credentials VALUES `, credentialColumns, ""),
			tickets:     newBatch(`INSERT INTO entitlements (scope, id, holder, order_number, status, content) VALUES `, 6, ""),
		}
		for card, err := range cards {
			if err == nil {
				err = l.add(ctx, card)
			}
			if err != nil {
				return fmt.Errorf("card %d: %w", n+1, err)
			}
			n++
		}
		return l.flush(ctx)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

type loader struct {
	t       *tx
	by      By
	scope   Scope
	issuers map[Issuer]int64

	holders, credentials, tickets batch

	pending int
}

func (l *loader) add(ctx context.Context, card Loaded) error {
	c := card.Credential
	if err := c.check(); err != nil {
		return err
	}
	if err := checkText("a holder's reference", card.Reference, 0, MaxReference); err != nil {
		return err
	}
	if !l.scope.FirstUse {
		c.BirthDate = ""
	}
	holder, err := l.t.next(ctx, "thing")
	if err != nil {
		return err
	}
	if c.ID, err = l.t.next(ctx, "thing"); err != nil {
		return err
	}
	issuer, known := l.issuers[c.Issuer]
	if !known {
		if issuer, err = l.t.issuer(ctx, c.Issuer); err != nil {
			return err
		}
		l.issuers[c.Issuer] = issuer
	}
	if err := l.holders.add(ctx, l.t, holder, l.scope.id, null(card.Reference)); err != nil {
		return err
	}
	if err := l.credentials.add(ctx, l.t, c.row(l.scope.id, holder, issuer, 0)...); err != nil {
		return err
	}
	if err := l.t.touched.add(ctx, l.t, l.scope.id, c.Head); err != nil {
		return err
	}
	if err := l.t.record(ctx, l.by, event{verb: "add_credential", scope: l.scope.id, holder: holder, card: c.ID}); err != nil {
		return err
	}
	if err := l.addTickets(ctx, holder, card.Tickets); err != nil {
		return err
	}
	// A row refers to those in front of it: batches go out together, in order.
	if l.pending += 1 + len(card.Tickets); l.pending < batchRows-whitelist.MaxEntitlements {
		return nil
	}
	return l.flush(ctx)
}

func (l *loader) addTickets(ctx context.Context, holder int64, tickets []Ticket) error {
	var held []stored
	for _, ticket := range tickets {
		if err := checkTicket(l.scope.Venue, ticket.Entitlement); err != nil {
			return err
		}
		text, err := encodeContent(ticket.Entitlement)
		if err != nil {
			return err
		}
		if ticket.Order, err = normalOrder(ticket.Order); err != nil {
			return err
		}
		status := max(ticket.Status, whitelist.Active)
		ticket.Status = status
		held = append(held, stored{Entitlement: ticket.Entitlement, content: text})
		if err := l.tickets.add(ctx, l.t, l.scope.id, ticket.ID, holder, null(ticket.Order), int(status), text); err != nil {
			return err
		}
		if err := l.t.touchOrder(ctx, l.scope.id, ticket.Order); err != nil {
			return err
		}
		if err := l.t.record(ctx, l.by, event{verb: "add", scope: l.scope.id, holder: holder, entitlement: ticket.ID}); err != nil {
			return err
		}
	}
	return fit(held)
}

func (l *loader) flush(ctx context.Context) error {
	l.pending = 0
	for _, b := range []*batch{&l.holders, &l.credentials, &l.tickets} {
		if err := b.flush(ctx, l.t); err != nil {
			return err
		}
	}
	return nil
}
