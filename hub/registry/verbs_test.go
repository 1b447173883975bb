package registry

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

func verbsOf(t testing.TB, events []Event, err error) string {
	t.Helper()
	must(t, err)
	var verbs []string
	for _, e := range events {
		verbs = append(verbs, e.Verb)
	}
	return strings.Join(verbs, " ")
}

func TestCardKeyUnderTwoCertificatesIsRefused(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		_, head := person(t, r, 1)
		renewed := credential(2, 1)
		_, err := r.AddCredential(t.Context(), by(""), hall, 0, renewed)
		refused(t, "a second certificate", err, ErrCardKeyInUse)
		if !strings.Contains(err.Error(), "retire") {
			t.Errorf("%v: names no next step", err)
		}
		// Revoked is not retired: a card that was thrown out does not come back under
		// another certificate.
		must(t, r.SetCredentialStatus(t.Context(), by("lost"), hall, head, whitelist.Revoked))
		_, err = r.AddCredential(t.Context(), by(""), hall, 0, renewed)
		refused(t, "after the first was revoked", err, ErrCardKeyInUse)
		_, err = r.RenewCredential(t.Context(), by(""), hall, head, renewed)
		refused(t, "renewing what is revoked", err, ErrInvalid)

		// Another scope has cards of its own.
		addScope(t, r, "other-hall", venue)
		_, err = r.AddCredential(t.Context(), by(""), "other-hall", 0, renewed)
		must(t, err)

		must(t, r.RetireCredential(t.Context(), by("given back"), hall, head))
		_, err = r.AddCredential(t.Context(), by(""), hall, 0, renewed)
		must(t, err)
	})
}

func TestRenewedCertificateTakesOverTheHolder(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		holder, head := person(t, r, 1)
		old, err := r.Credential(t.Context(), hall, head)
		must(t, err)
		c, err := r.RenewCredential(t.Context(), by("five years"), hall, head, credential(2, 1))
		must(t, err)
		if c.Holder != holder || c.Replaces != old.ID {
			t.Errorf("%+v", c)
		}
		got := set{}
		publish(t, r, hall, false, got)
		if s := got[string(head)].Status; s != whitelist.Revoked {
			t.Errorf("the old certificate is %v", s)
		}
		now := got[string(c.Head)]
		if now.Status != whitelist.Active || now.Entitlements[0].ID != "T-1" {
			t.Errorf("the new one: %+v", now)
		}
		_, err = r.RenewCredential(t.Context(), by(""), hall, head, credential(3, 3))
		refused(t, "a retired one by another card", err, ErrInvalid)
		events, err := r.CredentialHistory(t.Context(), old.ID)
		if got := verbsOf(t, events, err); got != "add_credential retire" {
			t.Errorf("history: %s", got)
		}
	})
}

func TestTheSameCredentialAgainChangesNothing(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		holder, head := person(t, r, 1)
		publish(t, r, hall, false, set{})
		c, err := r.AddCredential(t.Context(), by(""), hall, holder, credential(1, 1))
		must(t, err)
		if heads, _, err := r.Pending(t.Context(), hall); err != nil || heads != 0 || !bytes.Equal(c.Head, head) {
			t.Errorf("%d heads marked, %v", heads, err)
		}
		_, err = r.AddCredential(t.Context(), by(""), hall, holder, credential(1, 2))
		refused(t, "with another card key", err, ErrExists)
	})
}

func TestLinkedHoldersShareTheirTickets(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		card, cardHead := person(t, r, 1)
		sim, simHead := person(t, r, 2)
		refused(t, "without a reason", r.Link(t.Context(), by(""), hall, card, sim), ErrInvalid)
		refused(t, "with oneself", r.Link(t.Context(), by("x"), hall, card, card), ErrInvalid)
		must(t, r.Link(t.Context(), by("showed both"), hall, card, sim))
		refused(t, "twice", r.Link(t.Context(), by("x"), hall, card, sim), ErrNotFound)
		got := set{}
		publish(t, r, hall, false, got)
		for _, head := range [][]byte{cardHead, simHead} {
			if n := len(got[string(head)].Entitlements); n != 2 {
				t.Errorf("%d tickets", n)
			}
		}
		if id, err := r.Holder(t.Context(), hall, "member-2"); err != nil || id != card {
			t.Errorf("the reference of the second leads to %d, %v", id, err)
		}
		events, err := r.HolderHistory(t.Context(), card)
		must(t, err)
		if e := events[len(events)-1]; e.Verb != "link" || e.Other != sim || e.Reason != "showed both" {
			t.Errorf("%+v", e)
		}
	})
}

func TestTransferTakesTheTicketAndItsOrderNumberAway(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		from, fromHead := person(t, r, 1)
		to, toHead := person(t, r, 2)
		ordered := ticket("T-9", from)
		ordered.Order = " ab-12 "
		must(t, r.PutTicket(t.Context(), by(""), hall, ordered))
		got := set{}
		publish(t, r, hall, false, got)
		order := string(orderHead("AB-12"))
		if row := got[order]; len(row.Entitlements) != 1 || !row.AuthKey.IsZero() || row.BirthDate != "" {
			t.Errorf("order: %+v", row)
		}
		must(t, r.Transfer(t.Context(), by("sold"), hall, "T-9", to))
		publish(t, r, hall, false, got)
		if _, there := got[order]; there || len(got[string(fromHead)].Entitlements) != 1 || len(got[string(toHead)].Entitlements) != 2 {
			t.Errorf("%+v", got)
		}
		must(t, r.Transfer(t.Context(), by("sold"), hall, "T-1", to))
		publish(t, r, hall, false, got)
		if _, there := got[string(fromHead)]; there {
			t.Error("somebody without a ticket is listed")
		}
		must(t, r.Refund(t.Context(), by("ill"), hall, "T-9"))
		refused(t, "a refunded one", r.Transfer(t.Context(), by("sold"), hall, "T-9", from), ErrInvalid)
		refused(t, "nobody's", r.Transfer(t.Context(), by("sold"), hall, "T-2", 12345), ErrNotFound)
		events, err := r.EntitlementHistory(t.Context(), hall, "T-9")
		if got := verbsOf(t, events, err); got != "add transfer refund" {
			t.Errorf("history: %s", got)
		}
		if e := events[1]; e.Other != from || e.Holder != to {
			t.Errorf("%+v", e)
		}
	})
}

// A list without a venue has no status of a ticket.
func TestTicketsThatAreNotActiveWithoutAVenue(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, whitelist.Venue{})
		holder, head := person(t, r, 1)
		must(t, r.PutTicket(t.Context(), by(""), hall, ticket("T-0", holder)))
		status := func(id string, s whitelist.Status) whitelist.Row {
			must(t, r.SetTicketStatus(t.Context(), by("x"), hall, id, s))
			got := set{}
			publish(t, r, hall, false, got)
			return got[string(head)]
		}
		for _, c := range []struct {
			id   string
			to   whitelist.Status
			row  whitelist.Status
			left string
		}{
			{"T-0", whitelist.Revoked, whitelist.Active, "T-1"},
			{"T-1", whitelist.Blocked, whitelist.Blocked, "T-1"},
			{"T-1", whitelist.Revoked, whitelist.Revoked, "T-0"},
			{"T-1", whitelist.Active, whitelist.Active, "T-1"},
		} {
			row := status(c.id, c.to)
			if row.Status != c.row || row.Entitlements[0].ID != c.left {
				t.Errorf("%s %v: %+v", c.id, c.to, row)
			}
		}
		// The venue comes, and with it the status of each.
		s, err := r.Scope(t.Context(), hall)
		must(t, err)
		s.Venue = venue
		must(t, r.SetScope(t.Context(), by(""), s))
		got := set{}
		publish(t, r, hall, false, got)
		if row := got[string(head)]; len(row.Entitlements) != 2 || row.Entitlements[0].Status != whitelist.Revoked {
			t.Errorf("%+v", row)
		}
	})
}

func TestVenueThatTicketsDoNotFitIsRefused(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		vip := ticket("T-1", 0)
		vip.Zones = []string{"vip"}
		must(t, r.PutTicket(t.Context(), by(""), hall, vip))
		s, err := r.Scope(t.Context(), hall)
		must(t, err)
		s.Venue = whitelist.Venue{TimeZone: "Asia/Tokyo", Zones: venue.Zones[:1]}
		refused(t, "a venue without the zone", r.SetScope(t.Context(), by(""), s), ErrInvalid)
		after, err := r.Scope(t.Context(), hall)
		must(t, err)
		if !reflect.DeepEqual(after.Venue, venue) {
			t.Error("it was changed")
		}
		vip.Zones = []string{"pit"}
		refused(t, "a ticket for another zone", r.PutTicket(t.Context(), by(""), hall, vip), ErrInvalid)
	})
}

func TestMoreTicketsThanARowHoldsAreRefused(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		holder, head := person(t, r, 1)
		for n := range whitelist.MaxEntitlements - 1 {
			must(t, r.PutTicket(t.Context(), by(""), hall, ticket("U-"+string(rune('a'+n)), holder)))
		}
		refused(t, "the seventeenth", r.PutTicket(t.Context(), by(""), hall, ticket("U-z", holder)), ErrInvalid)
		// What is refunded gives way, and is shown while there is room.
		must(t, r.Refund(t.Context(), by("x"), hall, "U-a"))
		must(t, r.PutTicket(t.Context(), by(""), hall, ticket("U-z", holder)))
		got := set{}
		publish(t, r, hall, false, got)
		row := got[string(head)]
		if len(row.Entitlements) != whitelist.MaxEntitlements {
			t.Errorf("%d tickets", len(row.Entitlements))
		}
		for _, e := range row.Entitlements {
			if e.ID == "U-a" {
				t.Error("the refunded one is there")
			}
		}
		big := ticket("T-1", holder)
		big.Attention, big.Message = true, strings.Repeat("m", 200)
		for n := range 64 {
			big.Gates = append(big.Gates, strings.Repeat(string(rune('a'+n%26)), 30)+string(rune('A'+n/26)))
		}
		s, err := r.Scope(t.Context(), hall)
		must(t, err)
		s.Venue.Gates, s.Venue.Rules = nil, ""
		must(t, r.SetScope(t.Context(), by(""), s))
		must(t, r.PutTicket(t.Context(), by(""), hall, big))
		big.ID = "U-b"
		refused(t, "two that do not fit together", r.PutTicket(t.Context(), by(""), hall, big), ErrInvalid)
	})
}

func TestBirthDateIsKeptForFirstUseOnly(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		s := settings(hall, venue)
		s.FirstUse = false
		must(t, r.AddScope(t.Context(), by(""), s))
		_, head := person(t, r, 1)
		c, err := r.Credential(t.Context(), hall, head)
		must(t, err)
		if c.BirthDate != "" {
			t.Error("kept")
		}
		s.FirstUse = true
		must(t, r.SetScope(t.Context(), by(""), s))
		_, head = person(t, r, 2)
		got := set{}
		publish(t, r, hall, false, got)
		if got[string(head)].BirthDate == "" {
			t.Error("missing where first use is on")
		}
		s.FirstUse = false
		must(t, r.SetScope(t.Context(), by(""), s))
		publish(t, r, hall, false, got)
		if got[string(head)].BirthDate != "" {
			t.Error("listed after first use ended")
		}
		var kept int
		must(t, r.queryRow(t.Context(), `SELECT count(*) FROM credentials WHERE birth_date IS NOT NULL`).Scan(&kept))
		if kept != 0 {
			t.Errorf("%d birth dates kept", kept)
		}
	})
}

func TestErasedHolderLeavesNumbersOnly(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		holder, head := person(t, r, 1)
		c, err := r.Credential(t.Context(), hall, head)
		must(t, err)
		personal := ticket("T-1", holder)
		personal.Order, personal.Attention, personal.Message = "SECRET-1", true, "message"
		must(t, r.PutTicket(t.Context(), by(""), hall, personal))
		got := set{}
		publish(t, r, hall, false, got)
		must(t, r.EraseHolder(t.Context(), by("asked for it"), hall, holder))
		publish(t, r, hall, false, got)
		if len(got) != 0 {
			t.Errorf("still listed: %+v", got)
		}
		after, err := r.Ticket(t.Context(), hall, "T-1")
		must(t, err)
		if after.Holder != 0 || after.Order != "" || after.Message != "" || after.Status != whitelist.Revoked {
			t.Errorf("%+v", after)
		}
		_, err = r.Holder(t.Context(), hall, "member-1")
		refused(t, "the reference", err, ErrNotFound)
		events, err := r.CredentialHistory(t.Context(), c.ID)
		if got := verbsOf(t, events, err); got != "add_credential erase" {
			t.Errorf("history: %s", got)
		}
		// Numbers are not given again.
		next, err := r.AddHolder(t.Context(), by(""), hall, "member-1")
		must(t, err)
		if next <= c.ID {
			t.Errorf("holder %d after credential %d", next, c.ID)
		}
		for _, table := range []string{"holders", "credentials", "entitlements", "touched", "history", "records"} {
			rows, err := r.query(t.Context(), `SELECT * FROM `+table)
			must(t, err)
			columns, err := rows.Columns()
			must(t, err)
			must(t, each(rows, nil, func() error {
				values := make([]any, len(columns))
				for i := range values {
					values[i] = &[]byte{}
				}
				err := rows.Scan(values...)
				for i, v := range values {
					if b := *v.(*[]byte); bytes.Contains(b, head) || bytes.Contains(b, []byte("SECRET")) || columns[i] == "birth_date" && len(b) > 0 {
						t.Errorf("%s.%s still has it", table, columns[i])
					}
				}
				return err
			}))
		}
	})
}

func TestExpiredCertificatesAreCleanedUp(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		old := credential(1, 1)
		old.NotAfter = at.AddDate(0, -1, 0)
		_, err := r.AddCredential(t.Context(), by(""), hall, 0, old)
		must(t, err)
		waiting, err := r.AddHolder(t.Context(), by(""), hall, "member-3")
		must(t, err)
		_, head := person(t, r, 2)
		for before, want := range map[time.Time]int{old.NotAfter: 0, at: 1} {
			if n, err := r.Ended(t.Context(), hall, before); err != nil || n != want {
				t.Errorf("%d credentials ended before %s, want %d: %v", n, before, want, err)
			}
		}
		n, err := r.Clean(t.Context(), by(""), hall, at)
		must(t, err)
		if n != 1 {
			t.Errorf("%d credentials", n)
		}
		if n, err := r.Ended(t.Context(), hall, at); err != nil || n != 0 {
			t.Errorf("%d credentials are left: %v", n, err)
		}
		if _, err := r.Credential(t.Context(), hall, head); err != nil {
			t.Errorf("the one in force: %v", err)
		}
		if id, err := r.Holder(t.Context(), hall, "member-3"); err != nil || id != waiting {
			t.Errorf("a holder without a card yet: %v", err)
		}
	})
}

func TestActorsReasonsAndInstantsAreAsked(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		for name, b := range map[string]By{
			"no actor": {"", "x", at}, "no instant": {Actor: "x"}, "a line break": {"x", "a\nb", at}, "long": {strings.Repeat("x", 65), "", at},
		} {
			refused(t, name, r.AddScope(t.Context(), b, settings(hall, venue)), ErrInvalid)
		}
		addScope(t, r, hall, venue)
		refused(t, "the same scope", r.AddScope(t.Context(), by(""), settings(hall, venue)), ErrExists)
		_, head := person(t, r, 1)
		refused(t, "blocking without a reason", r.SetCredentialStatus(t.Context(), by(""), hall, head, whitelist.Blocked), ErrInvalid)
		refused(t, "refunding without a reason", r.Refund(t.Context(), by(""), hall, "T-1"), ErrInvalid)
		refused(t, "a status that the issuer gives", r.SetCredentialStatus(t.Context(), by("x"), hall, head, whitelist.CertificateRevoked), ErrInvalid)
		refused(t, "another scope", r.Refund(t.Context(), by("x"), "elsewhere", "T-1"), ErrNotFound)
	})
}

func TestTransferThatIsRefusedAddsNobody(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		from, _ := person(t, r, 1)
		refused(t, "an unknown ticket", r.TransferTo(t.Context(), by("sold"), hall, "T-404", "M-new"), ErrNotFound)
		refused(t, "without a reason", r.TransferTo(t.Context(), by(""), hall, "T-1", "M-new"), ErrInvalid)
		refused(t, "to nobody in particular", r.TransferTo(t.Context(), by("sold"), hall, "T-1", ""), ErrInvalid)
		_, err := r.Holder(t.Context(), hall, "M-new")
		refused(t, "the holder", err, ErrNotFound)
		must(t, r.TransferTo(t.Context(), by("sold"), hall, "T-1", "M-new"))
		to, err := r.Holder(t.Context(), hall, "M-new")
		must(t, err)
		if got, err := r.Ticket(t.Context(), hall, "T-1"); err != nil || got.Holder != to || to == from {
			t.Errorf("%+v of %d, %v", got, to, err)
		}
		events, err := r.EntitlementHistory(t.Context(), hall, "T-1")
		if got := verbsOf(t, events, err); got != "add transfer" {
			t.Errorf("history: %s", got)
		}
	})
}

func TestRefundedTicketIsNotUnblocked(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		person(t, r, 1)
		status := func() whitelist.Status {
			got, err := r.Ticket(t.Context(), hall, "T-1")
			must(t, err)
			return got.Status
		}
		must(t, r.SetTicketStatus(t.Context(), by("lost"), hall, "T-1", whitelist.Blocked))
		must(t, r.UnblockTicket(t.Context(), by("found"), hall, "T-1"))
		if s := status(); s != whitelist.Active {
			t.Errorf("%v", s)
		}
		must(t, r.Refund(t.Context(), by("ill"), hall, "T-1"))
		refused(t, "unblocking it", r.UnblockTicket(t.Context(), by("asked"), hall, "T-1"), ErrInvalid)
		refused(t, "blocking it, to unblock it then", r.SetTicketStatus(t.Context(), by("lost"), hall, "T-1", whitelist.Blocked), ErrInvalid)
		if s := status(); s != whitelist.Revoked {
			t.Errorf("%v", s)
		}
		must(t, r.SetTicketStatus(t.Context(), by("not refunded"), hall, "T-1", whitelist.Active))
		events, err := r.EntitlementHistory(t.Context(), hall, "T-1")
		if got := verbsOf(t, events, err); got != "add block unblock refund reinstate" {
			t.Errorf("history: %s", got)
		}
	})
}
