// Package world is a small world for tests and the simulator: a test
// hierarchy, people with cards, a list that names some of them, and the folder
// of files that a terminal needs. Nothing in it is trusted by a production
// terminal.
package world

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Names that every world uses.
const (
	Scope    = "demo-hall"
	Terminal = "gate-1-left"
	Gate     = "gate-1"
)

// BirthDate is that of the person whose card is not registered, and of nobody
// else in a world.
var BirthDate = time.Date(1985, 7, 20, 0, 0, 0, 0, time.UTC)

// A World is everything outside the terminal.
type World struct {
	Now       time.Time
	Authority *perso.Authority
	Foreign   *perso.Authority // a hierarchy of the same name that nobody trusts

	ScopeSecret []byte // 32 bytes
	ScopeKey    cardid.ScopeKey
	ListKey     ed25519.PrivateKey

	IdentityKey          ed25519.PrivateKey // with which the terminal signs what it registers
	TerminalKey          *rsa.PrivateKey
	TerminalCertificates [2][]byte // intermediate, terminal

	Manifest whitelist.Manifest // of the lists that List writes

	// Clock dates what a journal is told without an instant; nil is time.Now.
	Clock func() time.Time
}

// New makes a world in which it is now.
func New(now time.Time) (*World, error) {
	w := &World{Now: now.UTC().Truncate(time.Second), ScopeSecret: make([]byte, 32)}
	issued := w.Now.AddDate(-1, 0, 0)
	var err error
	if w.Authority, err = perso.NewAuthority(nil, issued); err != nil {
		return nil, err
	}
	if w.Foreign, err = perso.NewAuthority(nil, issued); err != nil {
		return nil, err
	}
	rand.Read(w.ScopeSecret)
	if w.ScopeKey, err = cardid.NewScopeKey(w.ScopeSecret); err != nil {
		return nil, err
	}
	if _, w.ListKey, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("making the list key: %w", err)
	}
	if _, w.IdentityKey, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("making the identity key: %w", err)
	}
	if w.TerminalKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, fmt.Errorf("making the terminal key: %w", err)
	}
	w.TerminalCertificates[0], w.TerminalCertificates[1], err = w.Authority.TerminalCertificates(&w.TerminalKey.PublicKey)
	if err != nil {
		return nil, err
	}
	w.Manifest = whitelist.Manifest{
		Scope: Scope, Hierarchy: whitelist.Test, Epoch: 1, Seq: 1,
		IssuedAt:       w.Now.Add(-time.Hour),
		NotAfter:       w.Now.Add(7 * 24 * time.Hour),
		RevocationAsOf: w.Now.Add(-2 * time.Hour),
		Policy:         whitelist.Policy{Expired: whitelist.Deny, StaleRevocation: whitelist.Warn, UntrustedClock: whitelist.Deny, RevocationMaxAge: 48 * time.Hour},
	}
	return w, nil
}

// Card makes a card of the trusted hierarchy.
func (w *World) Card(opt perso.CardOptions) (*vcard.Image, error) { return w.Authority.Card(opt) }

// Row is the row of a card's registration: its certificate, both keys, and
// one entitlement that opens every gate as often as the person likes.
func (w *World) Row(img *vcard.Image, entitlement string) (whitelist.Listed, error) {
	head, err := cardauth.ParseHead(img.AuthenticationCertificate())
	if err != nil {
		return whitelist.Listed{}, err
	}
	row := whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{{ID: entitlement}}}
	if key := img.AuthenticationKey(); key != nil {
		if row.AuthKey, err = cardkey.New(key); err != nil {
			return whitelist.Listed{}, err
		}
	}
	if key := img.CardKey(); key != nil {
		if row.CardKey, err = cardkey.New(key); err != nil {
			return whitelist.Listed{}, err
		}
	}
	return whitelist.Listed{Head: head.Bytes(), Row: row}, nil
}

// Order is the row of an order that staff can find somebody by, with one
// entitlement that is used up once.
func (w *World) Order(number, entitlement string) (whitelist.Listed, error) {
	head, err := whitelist.OrderHead(number)
	return whitelist.Listed{Head: head, Row: whitelist.Row{
		Status: whitelist.Active, Entitlements: []whitelist.Entitlement{{ID: entitlement, Uses: 1}},
	}}, err
}

// List writes a signed list of the rows, with the world's manifest.
func (w *World) List(rows ...whitelist.Listed) ([]byte, error) {
	var b bytes.Buffer
	if err := whitelist.Write(&b, w.ListKey, w.ScopeKey, w.Manifest, rows); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ListKeys is what a terminal of this world trusts to sign lists.
func (w *World) ListKeys() (sign1.Keys, error) {
	return sign1.NewKeys(sign1.Key{Public: w.ListKey.Public(), Role: sign1.RoleList, Scope: w.Manifest.Scope})
}
