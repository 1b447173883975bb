package terminal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Prover has a card prove that it is genuine and present, and whose it is.
// It decides nothing, opens nothing and writes nothing: a lane does, and what
// looks for the fault of a card speaks with it by the same one.
type Prover struct {
	// As in Config.
	Scope, Terminal    string
	Methods            []jpki.Method
	FirstUse           bool
	Anchors            []*x509.Certificate
	SurfaceAuthorities []cardauth.CVAuthority

	// Anyone lets a card prove itself that is on no list, where it can: by its
	// certificate, or by BirthDate, which somebody has typed.
	Anyone    bool
	BirthDate cardauth.BirthDate

	Dialogue *jpki.Dialogue
	Refusals Refusals // for first use
	Rand     io.Reader
}

// Refusals remember which cards refused the birth date of their row. Whoever
// uses a Prover with first use records each new one (Proved.Evidence), so that
// it lasts.
type Refusals interface {
	// BirthDateRefused reports whether one of that card was recorded.
	BirthDateRefused(ctx context.Context, cardID string) (bool, error)
}

// Proved is how far a card came.
type Proved struct {
	CardID   string // "" until its head was read
	Row      whitelist.Row
	Evidence jpki.Evidence
	Holder   cardauth.Holder // zero unless Prove returned nil
	Verify   time.Duration   // our check of what the card said
}

// Prove speaks with a card that has just been powered in slot until it has a
// holder of a row of the list, or an error that ReasonOf knows. What the card
// said so far is returned with every error.
func (p *Prover) Prove(ctx context.Context, slot string, ch *nfc.Channel, list whitelist.View, at time.Time) (proved Proved, err error) {
	// What the card has to prove, once its head is known.
	var key cardkey.Key
	challenge := cardauth.Challenge{Scope: p.Scope, Terminal: p.Terminal, Purpose: cardauth.PurposeGate}
	if err := challenge.Fresh(p.Rand); err != nil {
		return proved, err
	}
	resolve := func(head cardauth.Head) (jpki.Expected, error) {
		proved.CardID = list.CardID(head.Bytes()).String()
		// Before the list: an expired certificate is worth no signature.
		if err := cardauth.CheckValidity(head, at); err != nil {
			return jpki.Expected{}, err
		}
		row, err := list.Lookup(ctx, head.Bytes())
		if p.Anyone && errors.Is(err, whitelist.ErrNotListed) {
			row, err = whitelist.Row{}, nil
		}
		if err != nil {
			if !errors.Is(err, whitelist.ErrNotListed) {
				err = fmt.Errorf("%w: %w", errList, err)
			}
			return jpki.Expected{}, err
		}
		proved.Row = row
		w := p.choose(row)
		want := jpki.Expected{Method: w.method, At: at, Challenge: challenge}
		key = w.key
		if w.chain { // first: what follows is for a certificate of a pinned authority only
			want.CheckCertificate = func(der []byte) error {
				certified, err := cardauth.VerifyCertificate(head, der, p.Anchors, at)
				if w.method == jpki.ExternalAuth {
					key = certified
				}
				return err
			}
		}
		if w.firstUse {
			want.FirstUse, err = p.firstUse(ctx, proved.CardID, row, &key)
		}
		return want, err
	}

	proved.Evidence, err = p.Dialogue.Run(ctx, slot, ch, resolve)
	if err != nil {
		return proved, err
	}
	if key.IsZero() {
		return proved, ErrNoKey
	}
	start := time.Now()
	proved.Holder, err = cardauth.Verify(cardauth.Proof{
		Head: proved.Evidence.Head, Challenge: challenge, Signature: proved.Evidence.Signature, Scheme: proved.Evidence.Scheme,
	}, key, at)
	proved.Verify = time.Since(start)
	return proved, err
}

// A way is how a row's holder is to be proved.
type way struct {
	method   jpki.Method
	key      cardkey.Key // zero: the dialogue has to bring one
	chain    bool        // the whole certificate is verified
	firstUse bool
}

// choose returns the first configured method for which the row has a key, or
// what it takes to learn one: for method A the certificate, for method B, where
// first use is configured, the birth date. Where neither is there, the dialogue
// goes on without: it tells a card that cannot do it from one to be registered
// again, and nothing of the row.
func (p *Prover) choose(row whitelist.Row) way {
	for _, m := range p.Methods {
		switch {
		case m == jpki.TapUse && !row.CardKey.IsZero():
			return way{method: m, key: row.CardKey}
		case m == jpki.TapUse && (p.FirstUse && row.BirthDate != "" || !p.BirthDate.IsZero()):
			return way{method: m, chain: true, firstUse: true}
		case m == jpki.ExternalAuth && (!row.AuthKey.IsZero() || len(p.Anchors) > 0):
			return way{method: m, key: row.AuthKey, chain: row.AuthKey.IsZero()}
		}
	}
	return way{method: jpki.TapUse}
}

// firstUse is what a card without a registered card key has to show, which
// leaves that key in key. A card that refused the birth date once is never
// given it again (card-facts §3, PIN rule): the list has somebody else's.
func (p *Prover) firstUse(ctx context.Context, cardID string, row whitelist.Row, key *cardkey.Key) (*jpki.FirstUse, error) {
	born := p.BirthDate // typed for this tap, by somebody who answers for it
	if born.IsZero() {
		refused, err := p.Refusals.BirthDateRefused(ctx, cardID)
		if err != nil {
			return nil, fmt.Errorf("%w: looking for a refused birth date: %w", errJournal, err)
		}
		if refused {
			return nil, errBirthDate
		}
		if born, err = cardauth.ParseBirthDate(row.BirthDate); err != nil {
			return nil, fmt.Errorf("%w: row: %w", errList, err)
		}
	}
	var signer cardauth.CVCertificate
	return &jpki.FirstUse{
		BirthDate: born,
		CheckSigner: func(cvc []byte) (err error) {
			signer, err = cardauth.VerifyCVCertificate(cvc, p.SurfaceAuthorities)
			return err
		},
		CheckRecord: func(record []byte) (err error) {
			*key, err = cardauth.VerifyAgeRecord(record, signer, born)
			return err
		},
	}, nil
}
