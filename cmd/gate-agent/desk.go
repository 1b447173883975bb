package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/registration"
	"github.com/gate-agent/gate-agent/terminal"
)

// typing is how long a person may take to type, mistakes included.
const typing = 2 * time.Minute

// errNotTyped ends a question that nobody answers.
var errNotTyped = fmt.Errorf("nothing was typed within %v", typing)

// A desk is where a card is registered: what a configuration names for it.
type desk struct {
	tty      tty
	slots    []string
	dialogue *jpki.Dialogue
	identity crypto.Signer
	own      sign1.Keys // that key, as a hub trusts it
	scopeKey cardid.ScopeKey
	anchors  anchor.Set
	surface  []cardauth.CVAuthority
	record   registration.Record // what is known of it before there is a card
}

func (c *config) openDesk(person tty, slots []string, ticket string) (d *desk, err error) {
	d = &desk{tty: person, slots: slots}
	if len(slots) == 0 {
		d.slots = c.Reader.Slots
	}
	d.record = registration.Record{Scope: c.Scope, Hierarchy: c.Mode.String(), Terminal: c.Terminal, Ticket: ticket}
	if err := d.record.CheckNames(); err != nil {
		return d, cli.UsageError(err.Error())
	}
	if d.identity, err = c.openIdentity(); err != nil {
		return d, err
	}
	if d.own, err = sign1.NewKeys(sign1.Key{
		Public: d.identity.Public(), Role: sign1.RoleRegistration, Scope: c.Scope, Signer: c.Terminal,
	}); err != nil {
		return d, cli.ConfigError{Err: fmt.Errorf("identity.key: %w", err)}
	}
	if d.scopeKey, err = c.openScopeKey(); err != nil {
		return d, err
	}
	if d.anchors, err = c.openAnchors(); err != nil {
		return d, err
	}
	if d.surface, err = c.openSurfaceKeys(); err != nil {
		return d, err
	}
	profile, err := c.openProfile()
	if err != nil {
		return d, err
	}
	// Without the terminal's key: a registration proves the card by its PIN.
	d.dialogue, err = jpki.NewDialogue(profile, nil, rand.Reader)
	return d, err
}

// register waits for a card, registers it, and returns the signed record once
// it was verified as a hub verifies it.
func (d *desk) register(ctx context.Context, wait time.Duration) (record []byte, report registerReport, err error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: d.slots, Present: true})
	if err != nil {
		return nil, report, cli.UsageError(err.Error())
	}
	defer func() { err = errors.Join(err, lane.Close()) }()
	d.tty.say("カードを置いて、終わるまでそのままにしてください。\nPut the card on the reader and leave it there to the end.")
	waiting, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w within %v", errNoCard, wait))
	defer cancel()
	card, err := nextCard(waiting, lane, d.slots)
	if err != nil {
		return nil, report, err
	}
	defer func() { err = errors.Join(err, card.Release()) }()

	channel := nfc.NewChannel(card)
	record, err = d.read(ctx, card, channel)
	if err != nil {
		return nil, report, err
	}
	reg, err := registration.Trust{
		Keys: d.own, Hierarchy: d.record.Hierarchy, Anchors: d.anchors.Certificates(), SurfaceAuthorities: d.surface, MaxAge: 2 * typing,
	}.Verify(record, time.Now())
	if err != nil {
		return nil, report, cli.RefusedError{Err: err}
	}
	stats := channel.Stats()
	report = registerReport{
		Terminal: reg.Terminal(), Scope: reg.Scope(), Hierarchy: d.record.Hierarchy, Ticket: reg.Ticket(), At: reg.At(),
		CardID: d.scopeKey.ID(reg.Head().Bytes()).String(), Token: reg.Token(), AuthKey: reg.AuthKey().String(),
		Commands: stats.Commands, Bytes: stats.Bytes,
	}
	if !reg.CardKey().IsZero() {
		report.CardKey = reg.CardKey().String()
	}
	return record, report, nil
}

// read has the dialogue with the card and signs what came of it.
func (d *desk) read(ctx context.Context, card nfc.Card, channel *nfc.Channel) ([]byte, error) {
	if err := terminal.Alone(ctx, card); err != nil {
		return nil, err
	}
	r := d.record
	r.At = time.Now().UTC().Truncate(time.Second)
	challenge := r.Challenge()
	if err := challenge.Fresh(rand.Reader); err != nil {
		return nil, err
	}
	r.Nonce = challenge.Nonce

	var authKey cardkey.Key
	var signer cardauth.CVCertificate
	var born cardauth.BirthDate
	var until time.Time // for the holder to type
	got, err := d.dialogue.Register(ctx, card.Slot(), channel, challenge, jpki.Registrar{
		CheckCertificate: func(der, authority []byte) error {
			head, err := cardauth.ParseHead(der)
			if err != nil {
				return err
			}
			if learnt, err := d.anchors.Learn(authority); err == nil {
				d.anchors = learnt // the card carries a pinned authority
			}
			authKey, err = cardauth.VerifyCertificate(head, der, d.anchors.Certificates(), r.At)
			return err
		},
		CheckSigner: func(cvc []byte) (err error) {
			if len(d.surface) == 0 {
				return cli.ConfigError{Err: fmt.Errorf("anchors.surface_keys is missing, and this card has a key of its own to verify: name a key file, or %q for the figures that are known in public, once you have confirmed them", builtinKeys)}
			}
			signer, err = cardauth.VerifyCVCertificate(cvc, d.surface)
			return err
		},
		Ask: func(ctx context.Context, q jpki.Question) (jpki.Answer, error) {
			if until.IsZero() {
				until = time.Now().Add(typing)
			}
			ctx, cancel := context.WithDeadlineCause(ctx, until, errNotTyped)
			defer cancel()
			a, err := d.ask(ctx, q)
			born = a.BirthDate
			return a, err
		},
		CheckAlone: func() error { return terminal.Alone(ctx, card) },
		CheckProof: func(s jpki.Signed) error {
			if err := challenge.VerifiedBy(authKey, s.Scheme, s.Signature); err != nil {
				return fmt.Errorf("authentication key: %w: %w", cardauth.ErrNotGenuine, err)
			}
			return nil
		},
		CheckRecord: func(record []byte) error {
			_, err := cardauth.VerifyAgeRecord(record, signer, born)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	if err := terminal.Alone(ctx, card); err != nil {
		return nil, err // a second card came meanwhile
	}

	r.Token, r.Certificate = printable(got.Token), got.Certificate
	if len(got.CertificatesMarked) == 3 {
		r.Marked = got.CertificatesMarked
	}
	r.Authentication = registration.Signed(got.Authentication)
	if got.CardSurface {
		r.Surface = &registration.Surface{
			SignerCertificate: got.SurfaceCertificate, AgeRecord: got.AgeRecord, Card: registration.Signed(got.Card),
		}
	}
	return registration.Sign(rand.Reader, d.identity, r)
}

// printable is a card's label, or nothing when it is none that a record takes.
func printable(label string) string {
	if strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return label
}

// ask asks the holder at the terminal.
func (d *desk) ask(ctx context.Context, q jpki.Question) (a jpki.Answer, err error) {
	switch {
	case errors.Is(q.Again, jpki.ErrPINFormat):
		d.tty.say("暗証番号は数字4桁です。カードには送っていません。\nThe PIN is 4 digits. Nothing was sent to the card.")
	case q.Again != nil:
		d.tty.say("生年月日は西暦の8桁です。カードには送っていません。\nThe birth date is 8 digits, YYYYMMDD. Nothing was sent to the card.")
	case q.BirthDate:
		d.tty.say("残り回数: 暗証番号 %s、生年月日 %s。間違えると1回減ります。\nTries left: PIN %[1]s, birth date %[2]s. A mistake costs one.", tries(q.PINTries), tries(q.BirthDateTries))
	default:
		d.tty.say("残り回数: 暗証番号 %s。間違えると1回減ります。\nTries left: PIN %[1]s. A mistake costs one.", tries(q.PINTries))
	}
	if a.PIN, err = d.tty.ask(ctx, "利用者証明用電子証明書の暗証番号 (4桁、表示されません) / PIN (4 digits, not shown): "); err != nil || !q.BirthDate {
		return a, err
	}
	typed, err := d.tty.ask(ctx, birthDatePrompt)
	if err != nil {
		return a, err
	}
	defer clear(typed)
	a.BirthDate, _ = cardauth.ParseBirthDate(string(typed)) // none is asked for again
	return a, nil
}

const birthDatePrompt = "生年月日 (例 20010523、表示されません) / Birth date (YYYYMMDD, not shown): "

func tries(n int) string {
	if n == jpki.Unlimited {
		return "∞"
	}
	return fmt.Sprint(n)
}
