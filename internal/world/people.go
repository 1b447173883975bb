package world

import (
	"crypto/rand"
	"crypto/rsa"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Person comes to a gate with a card.
type Person struct {
	Name   string
	Method jpki.Method // of the gate they come to
	Image  *vcard.Image

	// PullAt is the command, from 1, before which the card is pulled away; 0
	// is a patient person.
	PullAt int

	// What a correct gate answers.
	Verdict terminal.Verdict
	Reason  terminal.Reason
}

// People makes people of every sort that a gate meets, and the rows of those
// who are on the list.
func (w *World) People() ([]Person, []whitelist.Listed, error) {
	m := maker{w: w}
	alice := m.card(perso.CardOptions{})
	bob := m.card(perso.CardOptions{})
	chain := m.card(perso.CardOptions{})
	first := m.card(perso.CardOptions{BirthDate: BirthDate})
	sim := m.card(perso.CardOptions{Kind: vcard.KindSIM})
	stranger := m.card(perso.CardOptions{})
	revoked := m.card(perso.CardOptions{})
	late := m.card(perso.CardOptions{})
	expired := m.card(perso.CardOptions{NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(0, 0, -1)})
	phone := m.card(perso.CardOptions{Kind: vcard.KindPhoneAndroid})
	otherSIM := m.card(perso.CardOptions{Kind: vcard.KindSIM})
	juki := m.card(perso.CardOptions{Kind: vcard.KindJuki})
	suica := m.make(func() (*vcard.Image, error) { return perso.Foreign(vcard.KindFeliCa) })
	// Alice has mistyped her PIN and her password, and comes all the same.
	blocked := m.make(func() (*vcard.Image, error) { return perso.Block(alice, 0x0018, 0x001B) })
	copied := m.make(func() (*vcard.Image, error) { return perso.Copy(alice, m.key(), m.key()) })
	copiedBob := m.make(func() (*vcard.Image, error) { return perso.Copy(bob, m.key(), m.key()) })
	forged := m.make(func() (*vcard.Image, error) { return w.Foreign.Forge(chain, perso.CardOptions{}) })

	m.list(alice, "ticket-alice", nil)
	m.list(bob, "ticket-bob", nil)
	m.list(chain, "ticket-chain", func(r *whitelist.Row) { r.AuthKey, r.CardKey = cardkey.Key{}, cardkey.Key{} })
	m.list(first, "ticket-first", func(r *whitelist.Row) {
		r.AuthKey, r.CardKey, r.BirthDate = cardkey.Key{}, cardkey.Key{}, BirthDate.Format("20060102")
	})
	m.list(sim, "ticket-sim", nil)
	m.list(otherSIM, "ticket-other-sim", func(r *whitelist.Row) { r.AuthKey = cardkey.Key{} })
	m.list(revoked, "ticket-revoked", func(r *whitelist.Row) { r.Status = whitelist.Revoked })
	m.list(late, "ticket-late", func(r *whitelist.Row) { r.Entitlements[0].NotAfter = w.Now.Add(-time.Minute) })
	m.list(expired, "ticket-expired", nil)
	if m.err != nil {
		return nil, nil, m.err
	}

	const b, a = jpki.TapUse, jpki.ExternalAuth
	return []Person{
		{"listed", b, alice, 0, terminal.Admit, terminal.OK},
		{"listed", a, bob, 0, terminal.Admit, terminal.OK},
		{"listed, key not registered", a, chain, 0, terminal.Admit, terminal.OK},
		{"listed, first use", b, first, 0, terminal.Admit, terminal.OK},
		{"listed, SIM of a phone", a, sim, 0, terminal.Admit, terminal.OK},
		{"listed, SIM, by its own CA", a, otherSIM, 0, terminal.Admit, terminal.OK},
		{"listed, PIN blocked", b, blocked, 0, terminal.Admit, terminal.OK},
		{"not listed", b, stranger, 0, terminal.Deny, terminal.NotListed},
		{"not listed", a, stranger, 0, terminal.Deny, terminal.NotListed},
		{"revoked", b, revoked, 0, terminal.Deny, terminal.Revoked},
		{"ticket out of its time", b, late, 0, terminal.Deny, terminal.InvalidTime},
		{"expired certificate", b, expired, 0, terminal.Deny, terminal.CertExpired},
		{"certificate of a wrong CA", a, forged, 0, terminal.Deny, terminal.CertUntrusted},
		{"copied card", b, copied, 0, terminal.Deny, terminal.AuthFailed},
		{"copied card", a, copiedBob, 0, terminal.Deny, terminal.AuthFailed},
		{"card pulled away", b, alice, 4, terminal.Deny, terminal.CardRemoved},
		{"card pulled away", a, bob, 7, terminal.Deny, terminal.CardRemoved},
		{"phone that wants its PIN", b, phone, 0, terminal.Deny, terminal.PINRequired},
		{"resident registration card", a, juki, 0, terminal.Deny, terminal.CardUnsupported},
		{"FeliCa, such as Suica", b, suica, 0, terminal.Deny, terminal.CardUnsupported},
	}, m.rows, nil
}

// A maker makes cards and rows; its first error stays.
type maker struct {
	w    *World
	rows []whitelist.Listed
	err  error
}

func (m *maker) make(f func() (*vcard.Image, error)) *vcard.Image {
	if m.err != nil {
		return nil
	}
	img, err := f()
	m.err = err
	return img
}

func (m *maker) card(opt perso.CardOptions) *vcard.Image {
	return m.make(func() (*vcard.Image, error) { return m.w.Card(opt) })
}

func (m *maker) key() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil && m.err == nil {
		m.err = err
	}
	return key
}

func (m *maker) list(img *vcard.Image, entitlement string, change func(*whitelist.Row)) {
	if m.err != nil {
		return
	}
	listed, err := m.w.Row(img, entitlement)
	if err != nil {
		m.err = err
		return
	}
	if change != nil {
		change(&listed.Row)
	}
	m.rows = append(m.rows, listed)
}
