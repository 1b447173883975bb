package jpki_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

var registerChallenge = cardauth.Challenge{Scope: "arena", Terminal: "desk-1", Purpose: cardauth.PurposeRegistration, Ticket: "T-1"}

// A desk registers cards with the checks of a terminal that trusts the test
// hierarchy. Its holder answers in the order of answers, and then with the last.
type desk struct {
	answers   []jpki.Answer
	questions []jpki.Question

	authKey, cardKey cardkey.Key
}

// holder has the PIN and the birth date of everybody in testdata/cards.
func holder(t testing.TB) *desk { return &desk{answers: []jpki.Answer{typed(t, "1234", born)}} }

func typed(t testing.TB, pin, birthDate string) jpki.Answer {
	t.Helper()
	b, err := cardauth.ParseBirthDate(birthDate)
	if err != nil && birthDate != "" {
		t.Fatal(err)
	}
	return jpki.Answer{PIN: []byte(pin), BirthDate: b}
}

func (d *desk) registrar(t testing.TB) jpki.Registrar {
	a := authority(t, "authority.json")
	anchors := []*x509.Certificate{a.CACertificate(), a.SIMCACertificate(), a.NextCACertificate()}
	id, public := a.SurfaceCA()
	surface := []cardauth.CVAuthority{{ID: cardauth.CVKeyID(id), Key: newKey(t, public)}}
	var signer cardauth.CVCertificate
	var birthDate cardauth.BirthDate
	return jpki.Registrar{
		CheckCertificate: func(der, _ []byte) error {
			head, err := cardauth.ParseHead(der)
			if err != nil {
				return err
			}
			d.authKey, err = cardauth.VerifyCertificate(head, der, anchors, at)
			return err
		},
		CheckSigner: func(cvc []byte) (err error) {
			signer, err = cardauth.VerifyCVCertificate(cvc, surface)
			return err
		},
		Ask: func(_ context.Context, q jpki.Question) (jpki.Answer, error) {
			a := d.answers[min(len(d.questions), len(d.answers)-1)]
			d.questions = append(d.questions, q)
			birthDate = a.BirthDate
			return jpki.Answer{PIN: bytes.Clone(a.PIN), BirthDate: a.BirthDate}, nil
		},
		CheckAlone: func() error { return nil },
		CheckProof: func(s jpki.Signed) error {
			if err := registerChallenge.VerifiedBy(d.authKey, s.Scheme, s.Signature); err != nil {
				return fmt.Errorf("%w: %w", cardauth.ErrNotGenuine, err)
			}
			return nil
		},
		CheckRecord: func(record []byte) (err error) {
			d.cardKey, err = cardauth.VerifyAgeRecord(record, signer, birthDate)
			return err
		},
	}
}

func (d *desk) register(t testing.TB, medium nfc.Transmitter) (jpki.Registered, nfc.Stats, error) {
	t.Helper()
	return d.registerWith(t, jpki.DefaultProfile(), medium)
}

func (d *desk) registerWith(t testing.TB, profile jpki.Profile, medium nfc.Transmitter) (jpki.Registered, nfc.Stats, error) {
	t.Helper()
	dialogue, err := jpki.NewDialogue(profile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ch := nfc.NewChannel(medium)
	got, err := dialogue.Register(t.Context(), "slot", ch, registerChallenge, d.registrar(t))
	return got, ch.Stats(), err
}

// presented are the values of VERIFY commands, in their order.
func presented(t testing.TB, r *recorder) (values []string) {
	t.Helper()
	for _, capdu := range r.commands {
		cmd, err := nfc.ParseCommand(capdu)
		if err != nil {
			t.Fatal(err)
		}
		if cmd.INS == 0x20 && len(cmd.Data) > 0 {
			values = append(values, fmt.Sprintf("%02X %s", cmd.P2, cmd.Data))
		}
	}
	return values
}

// withTries is an image with other tries of a PIN.
func withTries(t testing.TB, name string, pin vcard.FileID, limit, left int) *vcard.Image {
	t.Helper()
	img := image(t, name)
	for i := range img.Applications {
		pins := img.Applications[i].PINs
		for j := range pins {
			if pins[j].ID == pin {
				pins[j].Limit, pins[j].Left = limit, left
			}
		}
	}
	return img
}

// triesLeft asks a card, 0 where there is no limit.
func triesLeft(t *testing.T, m nfctest.Medium, df []byte, p2 byte) int {
	t.Helper()
	ch := nfc.NewChannel(m)
	if _, err := ch.Do(t.Context(), nfc.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: df}); err != nil {
		t.Fatal(err)
	}
	_, err := ch.Do(t.Context(), nfc.Command{INS: 0x20, P2: p2})
	status, ok := errors.AsType[*nfc.StatusError](err)
	if !ok {
		t.Fatalf("empty VERIFY: %v", err)
	}
	left, _ := status.TriesLeft()
	return left
}

func nextGeneration(t testing.TB) jpki.Profile {
	t.Helper()
	text, err := os.ReadFile("../../testdata/profiles/next-generation.toml")
	if err != nil {
		t.Fatal(err)
	}
	profile, err := jpki.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	return profile
}
