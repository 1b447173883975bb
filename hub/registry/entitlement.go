package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Ticket is an entitlement and whose it is.
type Ticket struct {
	whitelist.Entitlement        // Status Active (or zero), Blocked or Revoked
	Holder                int64  // 0: nobody's yet
	Order                 string // number as whitelist.OrderHead takes it, in capitals; "": none
}

// PutTicket adds a ticket, or changes what an existing one entitles to, its
// holder and its order. Status is that of an added one; SetTicketStatus changes it.
func (r *Registry) PutTicket(ctx context.Context, by By, scope string, ticket Ticket) error {
	return r.do(ctx, by, "putting ticket", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		if ticket.Order, err = normalOrder(ticket.Order); err != nil {
			return err
		}
		if err := checkTicket(s.Venue, ticket.Entitlement); err != nil {
			return err
		}
		if ticket.Holder != 0 {
			if err := t.checkHolder(ctx, s.id, ticket.Holder); err != nil {
				return err
			}
		}
		old, err := t.ticket(ctx, s.id, ticket.ID)
		switch {
		case errors.Is(err, ErrNotFound):
			text, err := encodeContent(ticket.Entitlement)
			if err != nil {
				return err
			}
			if _, err := t.exec(ctx, `INSERT INTO entitlements VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL, NULL)`,
				s.id, ticket.ID, null(ticket.Holder), null(ticket.Order), int(max(ticket.Status, whitelist.Active)), text); err != nil {
				return err
			}
			return t.ticketChanged(ctx, by, s.id, []string{"add"}, stored{}, ticket)
		case err != nil:
			return err
		}
		ticket.Status = old.Status
		_, err = t.change(ctx, by, s.id, old, ticket)
		return err
	})
}

// change makes old what ticket says, and returns the verbs of the history that
// this was, none when they are the same.
func (t *tx) change(ctx context.Context, by By, scope int64, old stored, ticket Ticket) (verbs []string, err error) {
	text, err := encodeContent(ticket.Entitlement)
	if err != nil {
		return nil, err
	}
	if text != old.content {
		verbs = append(verbs, "update")
	}
	if ticket.Status != old.Status {
		verb, err := statusVerb(old.Status, ticket.Status)
		if err != nil {
			return nil, err
		}
		verbs = append(verbs, verb)
	}
	if ticket.Order != old.order {
		verbs = append(verbs, "order")
	}
	switch {
	case ticket.Holder == old.holder:
	case old.holder == 0:
		verbs = append(verbs, "assign")
	default:
		verbs = append(verbs, "transfer")
	}
	if len(verbs) == 0 {
		return nil, nil
	}
	if _, err := t.exec(ctx, `UPDATE entitlements SET holder = ?3, order_number = ?4, status = ?5, content = ?6 WHERE scope = ?1 AND id = ?2`,
		scope, ticket.ID, null(ticket.Holder), null(ticket.Order), int(ticket.Status), text); err != nil {
		return nil, err
	}
	return verbs, t.ticketChanged(ctx, by, scope, verbs, old, ticket)
}

// ticketChanged marks what shows a ticket, before and now, and checks that its
// rows can be sealed.
func (t *tx) ticketChanged(ctx context.Context, by By, scope int64, verbs []string, old stored, now Ticket) error {
	var holders []int64
	var orders []string
	for _, h := range []int64{old.holder, now.Holder} {
		if h != 0 && !slices.Contains(holders, h) {
			holders = append(holders, h)
		}
	}
	for _, o := range []string{old.order, now.Order} {
		if err := t.touchOrder(ctx, scope, o); err != nil {
			return err
		}
		orders = append(orders, o)
	}
	if err := t.touchHolders(ctx, holders...); err != nil {
		return err
	}
	if err := t.fits(ctx, scope, holders, orders); err != nil {
		return err
	}
	for _, verb := range verbs {
		e := event{verb: verb, scope: scope, holder: now.Holder, entitlement: now.ID}
		if verb == "transfer" {
			e.other = old.holder
		}
		if err := t.record(ctx, by, e); err != nil {
			return err
		}
	}
	return nil
}

// SetTicketStatus blocks, revokes or reinstates a ticket, for a reason. The
// status that it has already changes nothing. One that is revoked is not blocked:
// unblocked, it would be worth its refunded money again.
func (r *Registry) SetTicketStatus(ctx context.Context, by By, scope, id string, status whitelist.Status) error {
	return r.changeTicket(ctx, by, "changing a ticket's status", scope, id, func(_ *tx, _ Scope, old stored, ticket *Ticket) (string, error) {
		ticket.Status = status
		switch {
		case status == old.Status:
			return "", nil
		case old.Status == whitelist.Revoked && status == whitelist.Blocked:
			return "", fmt.Errorf("%w: the ticket is revoked, which blocks it already", ErrInvalid)
		}
		return statusVerb(old.Status, status)
	})
}

// UnblockTicket lets a ticket that is blocked open gates again, for a reason. One
// that is revoked stays so: a ticket that was refunded is no blocked one.
func (r *Registry) UnblockTicket(ctx context.Context, by By, scope, id string) error {
	return r.changeTicket(ctx, by, "unblocking ticket", scope, id, func(_ *tx, _ Scope, old stored, ticket *Ticket) (string, error) {
		if old.Status == whitelist.Revoked {
			return "", fmt.Errorf("%w: the ticket is revoked, not blocked: reinstate it, when that was a mistake", ErrInvalid)
		}
		ticket.Status = whitelist.Active
		return "unblock", nil
	})
}

// Refund revokes a ticket whose money went back.
func (r *Registry) Refund(ctx context.Context, by By, scope, id string) error {
	return r.changeTicket(ctx, by, "refunding ticket", scope, id, func(_ *tx, _ Scope, _ stored, ticket *Ticket) (string, error) {
		ticket.Status = whitelist.Revoked
		return "refund", nil
	})
}

// Transfer gives a ticket to another holder, 0 for nobody yet. Its order number
// goes: whoever knows it is the holder before.
func (r *Registry) Transfer(ctx context.Context, by By, scope, id string, to int64) error {
	return r.changeTicket(ctx, by, "transferring ticket", scope, id, func(t *tx, s Scope, old stored, ticket *Ticket) (string, error) {
		if old.Status == whitelist.Revoked {
			return "", fmt.Errorf("%w: the ticket is revoked", ErrInvalid)
		}
		if to == old.holder {
			return "", nil
		}
		ticket.Holder, ticket.Order = to, ""
		if to == 0 {
			return "transfer", nil
		}
		return "transfer", t.checkHolder(ctx, s.id, to)
	})
}

// TransferTo is Transfer to the holder whom the organiser knows by reference, who
// is added if there is none.
func (r *Registry) TransferTo(ctx context.Context, by By, scope, id, reference string) error {
	return r.changeTicket(ctx, by, "transferring ticket", scope, id, func(t *tx, s Scope, old stored, ticket *Ticket) (string, error) {
		if reference == "" {
			return "", fmt.Errorf("%w: a holder without a reference", ErrInvalid)
		}
		if old.Status == whitelist.Revoked {
			return "", fmt.Errorf("%w: the ticket is revoked", ErrInvalid)
		}
		to, err := t.holder(ctx, by, s.id, reference)
		if err != nil || to == old.holder {
			return "", err
		}
		ticket.Holder, ticket.Order = to, ""
		return "transfer", nil
	})
}

func (r *Registry) changeTicket(ctx context.Context, by By, doing, scope, id string, change func(*tx, Scope, stored, *Ticket) (verb string, err error)) error {
	return r.do(ctx, by, doing, func(t *tx) error {
		if err := by.because(); err != nil {
			return err
		}
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		old, err := t.ticket(ctx, s.id, id)
		if err != nil {
			return err
		}
		ticket := old.ticket()
		verb, err := change(t, s, old, &ticket)
		if err != nil || verb == "" || old.same(ticket) {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE entitlements SET holder = ?3, order_number = ?4, status = ?5 WHERE scope = ?1 AND id = ?2`,
			s.id, id, null(ticket.Holder), null(ticket.Order), int(ticket.Status)); err != nil {
			return err
		}
		return t.ticketChanged(ctx, by, s.id, []string{verb}, old, ticket)
	})
}

// Ticket returns a ticket.
func (r *Registry) Ticket(ctx context.Context, scope, id string) (Ticket, error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		var found stored
		if found, err = ticketOf(ctx, r, s.id, id); err == nil {
			return found.ticket(), nil
		}
	}
	return Ticket{}, fmt.Errorf("reading ticket: %w", err)
}

// Tickets returns those of a holder, ascending by ID.
func (r *Registry) Tickets(ctx context.Context, holder int64) (tickets []Ticket, err error) {
	all, err := entitlements(ctx, r, `holder = ?1`, holder)
	if err != nil {
		return nil, fmt.Errorf("reading tickets: %w", err)
	}
	for _, s := range all {
		tickets = append(tickets, s.ticket())
	}
	return tickets, nil
}

// stored is an entitlement as its table has it.
type stored struct {
	whitelist.Entitlement
	holder  int64
	order   string
	content string

	// What the last file said of it, as digests; not valid: nothing.
	fileHolder, fileOrder sql.NullString
	fileStatus            sql.NullInt64
}

func (s stored) ticket() Ticket { return Ticket{s.Entitlement, s.holder, s.order} }

// same reports whether a verb changes nothing; none of them changes the content.
func (s stored) same(t Ticket) bool {
	return s.Status == t.Status && s.holder == t.Holder && s.order == t.Order
}

func (t *tx) ticket(ctx context.Context, scope int64, id string) (stored, error) {
	return ticketOf(ctx, t, scope, id)
}

func ticketOf(ctx context.Context, q querier, scope int64, id string) (stored, error) {
	all, err := entitlements(ctx, q, `scope = ?1 AND id = ?2`, scope, id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: ticket %q", ErrNotFound, id)
	}
	if err != nil {
		return stored{}, err
	}
	return all[0], nil
}

func (t *tx) entitlements(ctx context.Context, where string, args ...any) ([]stored, error) {
	return entitlements(ctx, t, where, args...)
}

func entitlements(ctx context.Context, q querier, where string, args ...any) (all []stored, err error) {
	rows, err := q.query(ctx, `SELECT id, holder, order_number, status, content, file_holder, file_order, file_status FROM entitlements WHERE `+where+` ORDER BY id`, args...)
	if err := each(rows, err, func() error {
		var s stored
		var id string
		var holder sql.NullInt64
		var order sql.NullString
		var status whitelist.Status
		if err := rows.Scan(&id, &holder, &order, &status, &s.content, &s.fileHolder, &s.fileOrder, &s.fileStatus); err != nil {
			return err
		}
		if s.Entitlement, err = decodeContent(id, []byte(s.content)); err != nil {
			return err
		}
		s.Status, s.holder, s.order = status, holder.Int64, order.String
		all = append(all, s)
		return nil
	}); err != nil {
		return nil, err
	}
	return all, nil
}

// content is what an entitlement is but for ID and status.
type content struct {
	NotBefore  int64    `json:"not_before,omitempty"`
	NotAfter   int64    `json:"not_after,omitempty"`
	Gates      []string `json:"gates,omitempty"`
	Zones      []string `json:"zones,omitempty"`
	Uses       uint32   `json:"uses,omitempty"`
	UsesPerDay uint32   `json:"uses_per_day,omitempty"`
	ReEntry    uint8    `json:"re_entry,omitempty"`
	Party      uint32   `json:"party,omitempty"`
	Alone      bool     `json:"alone,omitempty"`
	Product    uint32   `json:"product,omitempty"`
	Variation  uint32   `json:"variation,omitempty"`
	Attention  bool     `json:"attention,omitempty"`
	Message    string   `json:"message,omitempty"`
}

// encodeContent gives the one text of a content: gates and zones are sorted, a
// party of one is none.
func encodeContent(e whitelist.Entitlement) (string, error) {
	c := content{
		NotBefore: toUnix(e.NotBefore), NotAfter: toUnix(e.NotAfter), Gates: slices.Sorted(slices.Values(e.Gates)), Zones: slices.Sorted(slices.Values(e.Zones)),
		Uses: e.Uses, UsesPerDay: e.UsesPerDay, ReEntry: uint8(e.ReEntry), Party: e.Party, Alone: e.Alone,
		Product: e.Product, Variation: e.Variation, Attention: e.Attention, Message: e.Message,
	}
	if c.Party == 1 {
		c.Party = 0
	}
	b, err := json.Marshal(c)
	return string(b), err
}

func decodeContent(id string, text []byte) (whitelist.Entitlement, error) {
	var c content
	if err := decodeJSON(text, &c); err != nil {
		return whitelist.Entitlement{}, fmt.Errorf("entitlement %q: %w", id, err)
	}
	return whitelist.Entitlement{
		ID: id, NotBefore: fromUnix(c.NotBefore), NotAfter: fromUnix(c.NotAfter), Gates: c.Gates, Zones: c.Zones,
		Uses: c.Uses, UsesPerDay: c.UsesPerDay, ReEntry: whitelist.ReEntry(c.ReEntry), Party: c.Party, Alone: c.Alone,
		Product: c.Product, Variation: c.Variation, Attention: c.Attention, Message: c.Message,
	}, nil
}

// checkTicket holds an entitlement against the venue. Its status is no field of a
// list without a venue, and the registry has one all the same.
func checkTicket(v whitelist.Venue, e whitelist.Entitlement) error {
	if e.Status > whitelist.Revoked {
		return fmt.Errorf("%w: a ticket is active, blocked or revoked", ErrInvalid)
	}
	e.Status = whitelist.Active
	if err := v.CheckEntitlement(e); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	size, err := (whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{e}}).Size()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if size > cardid.MaxPlaintext-keyRoom {
		return fmt.Errorf("%w: the ticket needs fewer gates or zones, or shorter names", ErrInvalid)
	}
	return nil
}
