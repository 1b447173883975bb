package terminal_test

import (
	"context"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// presented counts the values that a card is given by VERIFY.
func presented(m nfctest.Medium, n *int) nfctest.Medium {
	return bend(m, func(_ context.Context, _ int, capdu []byte) ([]byte, error, bool) {
		if capdu[1] == 0x20 && len(capdu) > 4 {
			*n++
		}
		return nil, nil, false
	})
}

func withoutFirstUse(_ *rig, c *terminal.Config, _ *terminal.Parts) { c.FirstUse = false }

// Nothing about first use happens unless the terminal is configured for it.
func TestFirstUseIsOffUnlessConfigured(t *testing.T) {
	if (terminal.Config{}).FirstUse {
		t.Error("the zero configuration has first use")
	}
	r := newRig(t, methods(jpki.TapUse), withoutFirstUse)
	n := 0
	d := r.tap(t, presented(card(t, r.card(t, "listed, first use", jpki.TapUse), vcard.Options{}), &n))
	r.wantShut(t, d, terminal.NotListed)
	if n != 0 || d.Commands != 4 {
		t.Errorf("%d values presented in %d commands", n, d.Commands)
	}
}

// The aim at 106 kbit/s and 300 ms for the card's key is 0.80 s, modelled.
func TestFirstUseTakesLessThanItsAim(t *testing.T) {
	for name, opt := range map[string]vcard.Options{"extended length": {}, "short length": {NoExtendedLength: true}} {
		r := newRig(t, methods(jpki.TapUse))
		opt.Clock = &vcard.Clock{BitRate: 106_000, KeyOperation: 300 * time.Millisecond}
		d := r.tap(t, card(t, r.card(t, "listed, first use", jpki.TapUse), opt))
		if took := opt.Clock.Elapsed(); !d.Admitted() || took > 800*time.Millisecond {
			t.Errorf("%s: %s, %d commands, %d bytes, %v modelled", name, d.Reason, d.Commands, d.Bytes, took)
		}
	}
}

// wrongBirthDate lists a person under the birth date of somebody else.
func wrongBirthDate(t *testing.T, r *rig) *vcard.Image {
	t.Helper()
	img, listed := r.newCard(t, "ticket-wrong", perso.CardOptions{BirthDate: world.BirthDate})
	listed.Row.AuthKey, listed.Row.CardKey = cardkey.Key{}, cardkey.Key{}
	listed.Row.BirthDate = "19850721"
	m := r.Manifest
	m.Seq++
	r.load(t, m, append(r.rows[:len(r.rows):len(r.rows)], listed)...)
	return img
}

// A mistake in a list costs a card one try, ever, not one at each tap. The
// journal's own tests have what a restart makes of it.
func TestRefusedBirthDateIsNeverPresentedAgain(t *testing.T) {
	r := newRig(t, methods(jpki.TapUse))
	img := wrongBirthDate(t, r)
	tries, n := card(t, img, vcard.Options{}), 0
	for range 3 {
		r.wantShut(t, r.tap(t, presented(tries, &n)), terminal.AuthFailed)
	}
	if n != 1 {
		t.Errorf("presented %d times", n)
	}
	events := r.events(t)
	if len(events) != 3 || !events[0].BirthDateRefused || events[1].BirthDateRefused || events[2].BirthDateRefused {
		t.Errorf("journal: %+v", events)
	}
	// Another card of that list is not concerned.
	if d := r.tap(t, card(t, r.card(t, "listed, first use", jpki.TapUse), vcard.Options{})); !d.Admitted() {
		t.Errorf("another card: %v (%v)", d.Reason, d.Cause)
	}
}

// The card's answer to the birth date is kept also when it comes after the
// deadline.
func TestBirthDateRefusedInAHungTapIsRecordedLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, methods(jpki.TapUse))
		img := wrongBirthDate(t, r)
		first := r.put(t, bend(card(t, img, vcard.Options{}), func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
			if n == 7 {
				time.Sleep(time.Minute)
			}
			return []byte{0x63, 0xC9}, nil, n == 7
		}))
		r.wantShut(t, first, terminal.ReadTimeout)
		r.decision(t)
		r.field.Remove(slotA)
		n := 0
		d := r.tap(t, presented(card(t, img, vcard.Options{}), &n))
		if d.Reason != terminal.AuthFailed || n != 0 {
			t.Errorf("%s, presented %d times more", d.Reason, n)
		}
	})
}

// What first use does not prove, and docs/protocol.md says so: that certificate
// and card key are of one chip. A helper born on the same day can lend theirs.
func TestHelperBornOnTheSameDayIsNotNoticedAtFirstUse(t *testing.T) {
	r := newRig(t, methods(jpki.TapUse))
	helper, _ := r.newCard(t, "", perso.CardOptions{BirthDate: world.BirthDate})
	other := card(t, helper, vcard.Options{})
	d := r.tap(t, bend(card(t, r.card(t, "listed, first use", jpki.TapUse), vcard.Options{}),
		func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
			answer, err := other.Transmit(ctx, capdu)
			return answer, err, n >= 4 // from the card-surface application on
		}))
	if !d.Admitted() {
		t.Errorf("%s: it is noticed, and the documents are too modest", d.Reason)
	}
}

// A row that withdraws somebody's right is told after the proof, at first use
// as well, and a birth date that is no date is a fault of the list.
func TestFirstUseFollowsTheRow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*whitelist.Row)
		want   terminal.Reason
	}{
		"revoked":              {func(r *whitelist.Row) { r.Status = whitelist.Revoked }, terminal.Revoked},
		"before the Meiji era": {func(r *whitelist.Row) { r.BirthDate = "18000101" }, terminal.DataStale},
		"no birth date":        {func(r *whitelist.Row) { r.BirthDate = "" }, terminal.NotListed},
		"expired":              {func(r *whitelist.Row) { r.Entitlements[0].NotAfter = time.Now().Add(-time.Hour) }, terminal.InvalidTime},
		"certificate revoked":  {func(r *whitelist.Row) { r.Status = whitelist.CertificateRevoked }, terminal.CertRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, methods(jpki.TapUse))
			img, listed := r.newCard(t, "ticket", perso.CardOptions{BirthDate: world.BirthDate})
			listed.Row.AuthKey, listed.Row.CardKey = cardkey.Key{}, cardkey.Key{}
			listed.Row.BirthDate = world.BirthDate.Format("20060102")
			c.change(&listed.Row)
			m := r.Manifest
			m.Seq++
			r.load(t, m, listed)
			r.wantShut(t, r.tap(t, card(t, img, vcard.Options{})), c.want)
		})
	}
}
