package registry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/registration"
	"github.com/gate-agent/gate-agent/whitelist"
)

func TestRegistrationIsListed(t *testing.T) {
	p := testPKI(t, "authority.json")
	alice := record(t, p.card(t, 0x40000001, 1), "T-1", 1)
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addDesk(t, r)
		must(t, r.PutTicket(t.Context(), by(""), hall, ticket("T-1", 0)))
		report, err := r.ImportRecord(t.Context(), by(""), p.trust(t, r), alice, RecordOptions{})
		must(t, err)
		if report.Ticket != "T-1" || report.Unchanged || report.Renewed {
			t.Errorf("%+v", report)
		}
		got := set{}
		publish(t, r, hall, false, got)
		row := got[string(report.Credential.Head)]
		if row.Status != whitelist.Active || row.Entitlements[0].ID != "T-1" || row.AuthKey.IsZero() || row.CardKey.IsZero() || row.BirthDate != "19900401" {
			t.Errorf("%+v", row)
		}
		if kept, err := r.Record(t.Context(), report.Credential.ID); err != nil || kept != nil {
			t.Errorf("%d bytes of the record are kept, %v", len(kept), err)
		}

		again, err := r.ImportRecord(t.Context(), by(""), p.trust(t, r), alice, RecordOptions{})
		must(t, err)
		if !again.Unchanged || again.Credential.ID != report.Credential.ID {
			t.Errorf("the same again: %+v", again)
		}
		// Also when it has become too old to be taken, or the terminal is gone.
		late := By{"desk", "", at.AddDate(1, 0, 0)}
		if again, err = r.ImportRecord(t.Context(), late, registration.Trust{}, alice, RecordOptions{}); err != nil || !again.Unchanged {
			t.Errorf("%+v, %v", again, err)
		}
		if heads, _, err := r.Pending(t.Context(), hall); err != nil || heads != 0 {
			t.Errorf("%d heads marked, %v", heads, err)
		}
		// What was erased does not come back by its old record.
		must(t, r.EraseHolder(t.Context(), by("x"), hall, report.Credential.Holder))
		if again, err = r.ImportRecord(t.Context(), by(""), p.trust(t, r), alice, RecordOptions{}); err != nil || !again.Unchanged || again.Credential.ID != 0 {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

func TestRegistrationThatDoesNotVerifyIsRefused(t *testing.T) {
	p, foreign := testPKI(t, "authority.json"), testPKI(t, "foreign-authority.json")
	good := record(t, p.card(t, 0x40000001, 1), "T-1", 1)
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addDesk(t, r)
		trust := p.trust(t, r)
		tampered := bytes.Clone(good)
		tampered[len(tampered)/2] ^= 1
		imports := func(when time.Time, trust registration.Trust, msg []byte) error {
			_, err := r.ImportRecord(t.Context(), By{"desk", "", when}, trust, msg, RecordOptions{})
			return err
		}
		refused(t, "tampered", imports(at, trust, tampered), sign1.ErrSignature)
		refused(t, "too old", imports(at.Add(2*time.Hour), trust, good), registration.ErrAge)
		refused(t, "of a card of another hierarchy", imports(at, trust, record(t, foreign.card(t, 0x40000001, 1), "", 2)), cardauth.ErrUntrusted)
		production := trust
		production.Hierarchy = registration.Production
		refused(t, "a test card where production counts", imports(at, production, good), registration.ErrHierarchy)
		must(t, r.RetireTerminal(t.Context(), by("stolen"), hall, "desk-1"))
		refused(t, "of a retired terminal", imports(at, p.trust(t, r), good), sign1.ErrUnknownKey)
		var kept int
		must(t, r.queryRow(t.Context(), `SELECT (SELECT count(*) FROM credentials) + (SELECT count(*) FROM holders) + (SELECT count(*) FROM records)`).Scan(&kept))
		if kept != 0 {
			t.Errorf("%d rows of refused records", kept)
		}
	})
}

func TestTestCardsAreRefusedByAProductionScope(t *testing.T) {
	p := testPKI(t, "authority.json")
	r := open(t, "sqlite:"+t.TempDir()+"/registry.db")
	s := settings(hall, venue)
	s.Hierarchy = whitelist.Production
	must(t, r.AddScope(t.Context(), by(""), s))
	addDesk(t, r)
	_, err := r.ImportRecord(t.Context(), by(""), p.trust(t, r), record(t, p.card(t, 0x40000001, 1), "", 1), RecordOptions{})
	refused(t, "a test card", err, registration.ErrHierarchy)
}

func TestReplayedNonceIsRefused(t *testing.T) {
	p := testPKI(t, "authority.json")
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addDesk(t, r)
		_, err := r.ImportRecord(t.Context(), by(""), p.trust(t, r), record(t, p.card(t, 0x40000001, 1), "", 1), RecordOptions{})
		must(t, err)
		_, err = r.ImportRecord(t.Context(), by(""), p.trust(t, r), record(t, p.card(t, 0x40000002, 2), "", 1), RecordOptions{})
		refused(t, "another card with the nonce", err, ErrReplayed)
	})
}

func TestAccomplicesCardKeyIsRefused(t *testing.T) {
	p := testPKI(t, "authority.json")
	renewed := p.card(t, 0x40000002, 1) // the same chip under a new certificate
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addDesk(t, r)
		must(t, r.PutTicket(t.Context(), by(""), hall, ticket("T-1", 0)))
		first, err := r.ImportRecord(t.Context(), by(""), p.trust(t, r), record(t, p.card(t, 0x40000001, 1), "T-1", 1), RecordOptions{Keep: true})
		must(t, err)
		msg := record(t, renewed, "", 2)
		_, err = r.ImportRecord(t.Context(), by(""), p.trust(t, r), msg, RecordOptions{})
		refused(t, "one card key under two certificates", err, ErrCardKeyInUse)

		report, err := r.ImportRecord(t.Context(), by("renewed"), p.trust(t, r), msg, RecordOptions{Renew: true})
		must(t, err)
		if !report.Renewed || report.Credential.Replaces != first.Credential.ID || report.Credential.Holder != first.Credential.Holder {
			t.Errorf("%+v", report)
		}
		got := set{}
		publish(t, r, hall, false, got)
		if a, b := got[string(first.Credential.Head)].Status, got[string(report.Credential.Head)].Status; a != whitelist.Revoked || b != whitelist.Active {
			t.Errorf("old %v, new %v", a, b)
		}
		if kept, err := r.Record(t.Context(), first.Credential.ID); err != nil || kept == nil {
			t.Errorf("the record that was to be kept: %v", err)
		}
	})
}

func TestTicketOfARegistrationFindsItsHolder(t *testing.T) {
	p := testPKI(t, "authority.json")
	a, b := p.card(t, 0x40000001, 1), p.card(t, 0x40000002, 2)
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addDesk(t, r)
		nonce := byte(0)
		register := func(img *vcard.Image, ticket string, options RecordOptions) (RecordReport, error) {
			nonce++
			return r.ImportRecord(t.Context(), by(""), p.trust(t, r), record(t, img, ticket, nonce), options)
		}
		// A member's number, before and after the tickets come.
		imported(t, r, "id,holder,order\nT-1,member-1,\nT-2,,A-1\nT-3,,A-2\nT-4,,A-2\n")
		first, err := register(a, "member-1", RecordOptions{})
		must(t, err)
		if held, err := r.Tickets(t.Context(), first.Credential.Holder); err != nil || len(held) != 1 || held[0].ID != "T-1" {
			t.Errorf("%+v, %v", held, err)
		}
		_, err = register(b, "T-1", RecordOptions{})
		refused(t, "another card for a ticket that is held", err, ErrTaken)
		_, err = register(b, "member-1", RecordOptions{})
		refused(t, "another card for the member", err, ErrTaken)
		_, err = register(b, "A-2", RecordOptions{})
		refused(t, "an order of two tickets", err, ErrInvalid)

		// The desk says that it is one person.
		second, err := register(b, "member-1", RecordOptions{Link: true})
		must(t, err)
		if second.Credential.Holder != first.Credential.Holder {
			t.Errorf("%+v", second)
		}
		// The same card for a further ticket, by its order.
		third, err := register(a, "a-1", RecordOptions{})
		must(t, err)
		if third.Ticket != "T-2" || third.Credential.ID != first.Credential.ID {
			t.Errorf("%+v", third)
		}
		if held, err := r.Tickets(t.Context(), first.Credential.Holder); err != nil || len(held) != 2 {
			t.Errorf("%+v, %v", held, err)
		}
		imported(t, r, "id,holder\nT-3,member-1\n")
		got := set{}
		publish(t, r, hall, false, got)
		if n := len(got[string(second.Credential.Head)].Entitlements); n != 3 {
			t.Errorf("%d tickets on the second card", n)
		}
	})
}

func TestTerminals(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addDesk(t, r)
		spki := func(seed byte) []byte {
			b, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)).Public())
			must(t, err)
			return b
		}
		refused(t, "the same name", r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "desk-1", Identity: spki(1)}), ErrExists)
		refused(t, "the same key", r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "desk-2", Identity: spki(0)}), ErrExists)
		rsa, err := x509.MarshalPKIXPublicKey(&cardKeys()[0].PublicKey)
		must(t, err)
		refused(t, "a key that signs nothing here", r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "desk-2", Identity: rsa}), ErrInvalid)
		refused(t, "no key", r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "desk-2"}), ErrInvalid)
		must(t, r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "gate-1", Identity: spki(1), Delivery: []byte("hpke")}))
		refused(t, "a key of another", r.SetTerminalKeys(t.Context(), by("x"), hall, "gate-1", spki(0), nil), ErrExists)
		must(t, r.SetTerminalKeys(t.Context(), by("new board"), hall, "gate-1", spki(2), []byte("hpke 2")))
		must(t, r.SetTerminalState(t.Context(), hall, "gate-1", []byte("seq 7")))
		must(t, r.RetireTerminal(t.Context(), by("stolen"), hall, "desk-1"))
		refused(t, "a retired one", r.SetTerminalKeys(t.Context(), by("x"), hall, "desk-1", spki(3), nil), ErrInvalid)
		all, err := r.Terminals(t.Context(), hall)
		must(t, err)
		if len(all) != 2 || !all[0].Retired || all[1].Name != "gate-1" || string(all[1].Delivery) != "hpke 2" || string(all[1].State) != "seq 7" || !bytes.Equal(all[1].Identity, spki(2)) {
			t.Errorf("%+v", all)
		}
		// The key of a retired terminal may be another's.
		must(t, r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: strings.Repeat("x", 64), Identity: spki(0)}))
	})
}
