package registry

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// keyRoom is what both keys and a birth date add to a row at most, in bytes: two
// of RSA-2048 have 294 each, and CBOR needs a few around them.
const keyRoom = 620

// rowOf is the row of a credential, or false when it has no ticket: a list
// cannot say anything of somebody who is entitled to nothing.
func rowOf(s Scope, c Credential, tickets []stored) (whitelist.Row, bool) {
	row, ok := entitled(s.Venue, tickets)
	row.AuthKey, row.CardKey = c.AuthKey, c.CardKey
	if s.FirstUse {
		row.BirthDate = c.BirthDate
	}
	// What is final comes first; the operator's word before the issuer's.
	switch {
	case c.Retired || c.Status == whitelist.Revoked:
		row.Status = whitelist.Revoked
	case c.Issued != NotRevoked:
		row.Status = whitelist.CertificateRevoked
	case c.Status == whitelist.Blocked:
		row.Status = whitelist.Blocked
	}
	return row, ok
}

// entitled is the row of somebody who holds these tickets, which ascend by ID.
// A list has room for whitelist.MaxEntitlements: those that are revoked give way.
//
// A list without a venue has no status of a ticket. There, those that are not
// active are left out; when none is left the row itself has their status, and
// names them, since no row is without.
func entitled(v whitelist.Venue, tickets []stored) (row whitelist.Row, ok bool) {
	row.Status = whitelist.Active
	if len(tickets) == 0 {
		return row, false
	}
	tickets = slices.Clone(tickets)
	less := func(a, b stored) int { return int(a.Status) - int(b.Status) }
	slices.SortStableFunc(tickets, less)
	if v.IsZero() {
		best := tickets[0].Status
		row.Status = best
		tickets = slices.DeleteFunc(tickets, func(t stored) bool { return t.Status != best })
	}
	tickets = tickets[:min(len(tickets), whitelist.MaxEntitlements)]
	for size := rowSize(tickets); size > roomy && tickets[len(tickets)-1].Status == whitelist.Revoked && len(tickets) > 1; size = rowSize(tickets) {
		tickets = tickets[:len(tickets)-1]
	}
	slices.SortFunc(tickets, func(a, b stored) int { return strings.Compare(a.ID, b.ID) })
	for _, t := range tickets {
		e := t.Entitlement
		if v.IsZero() {
			e.Status = whitelist.Active
		}
		row.Entitlements = append(row.Entitlements, e)
	}
	return row, true
}

// roomy is a length of text that fits into a row for certain: what is written
// as JSON has fewer bytes as CBOR.
const roomy = cardid.MaxPlaintext - keyRoom

func rowSize(tickets []stored) (n int) {
	for _, t := range tickets {
		n += len(t.content) + len(t.ID) + 16
	}
	return n
}

// fits checks that what holders and orders have now can be sealed in one row.
func (t *tx) fits(ctx context.Context, scope int64, holders []int64, orders []string) error {
	for _, h := range holders {
		held, err := t.entitlements(ctx, `holder = ?1`, h)
		if err != nil {
			return err
		}
		if err := fit(held); err != nil {
			return fmt.Errorf("holder %d: %w", h, err)
		}
	}
	for _, o := range orders {
		if o == "" {
			continue
		}
		ordered, err := t.entitlements(ctx, `scope = ?1 AND order_number = ?2`, scope, o)
		if err != nil {
			return err
		}
		if err := fit(ordered); err != nil {
			return fmt.Errorf("order %s: %w", o, err)
		}
	}
	return nil
}

func fit(tickets []stored) error {
	live := slices.DeleteFunc(tickets, func(t stored) bool { return t.Status == whitelist.Revoked })
	if len(live) > whitelist.MaxEntitlements {
		return fmt.Errorf("%w: %d tickets, at most %d fit on one card or order", ErrInvalid, len(live), whitelist.MaxEntitlements)
	}
	if rowSize(live) <= roomy {
		return nil
	}
	row := whitelist.Row{Status: whitelist.Active}
	for _, e := range live {
		row.Entitlements = append(row.Entitlements, e.Entitlement)
	}
	size, err := row.Size()
	if err == nil && size > cardid.MaxPlaintext-keyRoom {
		err = fmt.Errorf("the tickets do not fit on one card or order together: they need fewer gates or zones, or shorter messages")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// normalOrder is an order number as whitelist.OrderHead makes it the same.
func normalOrder(order string) (string, error) {
	if order == "" {
		return "", nil
	}
	if _, err := whitelist.OrderHead(order); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return strings.ToUpper(strings.TrimSpace(order)), nil
}

// orderHead is the head of a number that normalOrder let pass.
func orderHead(order string) []byte {
	head, err := whitelist.OrderHead(order)
	if err != nil {
		panic("registry: " + err.Error())
	}
	return head
}

// orderNumber is the number of an order head, "" of any other.
func orderNumber(head []byte) string {
	prefix := orderHead("0")
	number, ok := bytes.CutPrefix(head, prefix[:len(prefix)-1])
	if !ok {
		return ""
	}
	return string(number)
}

func (t *tx) touchOrder(ctx context.Context, scope int64, order string) error {
	if order == "" {
		return nil
	}
	return t.touched.add(ctx, t, scope, orderHead(order))
}
