package terminal_test

import (
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// holder is a person with a card, the card that replaced it, and the SIM of their
// phone, which has another CA. Each is a row of its own, of one entitlement.
func holder(t *testing.T, r *rig, e whitelist.Entitlement) (all []*vcard.Image, rows []whitelist.Listed) {
	t.Helper()
	for _, opt := range []perso.CardOptions{{}, {NotBefore: r.Now.Add(-time.Hour)}, {Kind: vcard.KindSIM}} {
		img, row := r.newCard(t, e.ID, opt)
		row.Row.Entitlements = []whitelist.Entitlement{e}
		all, rows = append(all, img), append(rows, row)
	}
	return all, rows
}

func (r *rig) loadNext(t *testing.T, rows ...whitelist.Listed) {
	t.Helper()
	m := r.Manifest
	m.Seq++
	r.load(t, m, rows...)
}

// Uses are those of the ticket, whatever its holder shows.
func TestCredentialsOfOneTicketShareItsUses(t *testing.T) {
	r := newRig(t)
	images, rows := holder(t, r, whitelist.Entitlement{ID: "twice", Uses: 2})
	r.loadNext(t, rows...)
	for i, want := range []struct {
		verdict terminal.Verdict
		reason  terminal.Reason
		method  jpki.Method
	}{
		{terminal.Admit, terminal.OK, jpki.TapUse},
		{terminal.Admit, terminal.OK, jpki.TapUse},
		{terminal.Deny, terminal.AlreadyUsed, jpki.ExternalAuth},
		{terminal.Deny, terminal.AlreadyUsed, jpki.TapUse},
	} {
		d := r.tap(t, card(t, images[i%3], vcard.Options{}))
		if d.Verdict != want.verdict || d.Reason != want.reason || d.Method != want.method || d.Entitlement != "twice" {
			t.Errorf("tap %d: %v %s by %s with %q (%v), want %+v", i, d.Verdict, d.Reason, d.Method, d.Entitlement, d.Cause, want)
		}
	}
	// The SIM alone may have both.
	images, rows = holder(t, r, whitelist.Entitlement{ID: "other", Uses: 2})
	m := r.Manifest
	m.Seq += 2
	r.load(t, m, rows...)
	for _, img := range []*vcard.Image{images[2], images[2]} {
		if d := r.tap(t, card(t, img, vcard.Options{})); !d.Admitted() {
			t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
		}
	}
	if d := r.tap(t, card(t, images[0], vcard.Options{})); d.Reason != terminal.AlreadyUsed {
		t.Errorf("%v %s", d.Verdict, d.Reason)
	}
}

// At a shelter a person comes with the card and may go with the SIM.
func TestShelterCountsAPersonOnceWhateverTheyShow(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	images, rows := holder(t, s.rig, whitelist.Entitlement{ID: "resident"})
	s.loadNext(t, rows...)
	for i, reason := range []terminal.Reason{terminal.OK, terminal.Leaving, terminal.OK} {
		if d := s.tap(t, card(t, images[i], vcard.Options{})); !d.Admitted() || d.Reason != reason || d.Entitlement != "resident" {
			t.Errorf("credential %d: %v %s of %q (%v)", i, d.Verdict, d.Reason, d.Entitlement, d.Cause)
		}
		s.wait(time.Minute)
	}
	s.wantInside(t, 1)
}

// Whoever came before there was a list of them goes as who they were.
func TestListThatComesLaterMakesNobodyAnother(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	img, row := s.newCard(t, "resident", perso.CardOptions{})
	early := card(t, img, vcard.Options{})
	came := s.tap(t, early)
	if !came.Admitted() || terminal.CardOf(came.Entitlement) != came.CardID {
		t.Fatalf("%v %s of %q", came.Verdict, came.Reason, came.Entitlement)
	}
	s.loadNext(t, row)
	s.wait(time.Minute)
	if d := s.tap(t, early); d.Reason != terminal.Leaving || d.Entitlement != came.Entitlement {
		t.Errorf("%v %s of %q", d.Verdict, d.Reason, d.Entitlement)
	}
	s.wantInside(t, 0)
}

func TestWhoIsCountedBy(t *testing.T) {
	for entitlement, want := range map[string]struct {
		token uint32
		card  string
	}{
		"token/17": {17, ""}, "person/00ff": {0, "00ff"}, "ticket": {}, "token/": {}, "token/x": {}, "token/4294967296": {}, "": {},
	} {
		if token, card := terminal.TokenOf(entitlement), terminal.CardOf(entitlement); token != want.token || card != want.card {
			t.Errorf("%q: %d, %q", entitlement, token, card)
		}
		if want.token > 0 && terminal.TokenEntitlement(want.token) != entitlement {
			t.Errorf("%q", entitlement)
		}
	}
}
