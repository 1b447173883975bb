package perso

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// A variant is what a kind of card has of the two applications (docs/cards.md
// says which of it is known, likely or modelled).
type variant struct {
	label          string // of the token, EF 0006
	issuer         func(*Authority) *ca
	years          int  // that its certificate is valid
	p384           bool // its keys are ECDSA on P-384, not RSA-2048
	authentication bool // user-authentication certificate and key
	signature      bool // signature certificate and key
	phone          bool // the certificate is behind the PIN
	terminals      bool // EF 0016: method A admits it
	surface        bool // card-surface AP
}

var variants = map[vcard.Kind]variant{
	vcard.KindCard: {label: "JPKIAPICCTOKEN2", issuer: userCA, years: 5,
		authentication: true, signature: true, terminals: true, surface: true},

	// A draft, all of it our model: the same applications with P-384 keys.
	// No signature certificate: a terminal has no use for it.
	vcard.KindNextGeneration: {label: "JPKIAPICCTOKEN3", issuer: nextCA, years: 10, p384: true,
		authentication: true, terminals: true, surface: true},

	// It came before user authentication: the signature certificate is all it
	// has, and no other application of ours.
	vcard.KindJuki: {label: "JPKIAPICCTOKEN", years: 3, signature: true},

	// Our model of a phone knows no terminal.
	vcard.KindPhoneAndroid: {label: "JPKIAPGPSETOKEN", issuer: userCA, years: 5,
		authentication: true, signature: true, phone: true},
	vcard.KindPhoneIPhone: {label: "JPKIAPIOSTOKEN", issuer: userCA, years: 5,
		authentication: true, signature: true, phone: true},

	// The trial wrote the authentication function into SIMs, and no other. The
	// label, and that method A admits it, are our model.
	vcard.KindSIM: {label: "JPKIAPSIMTOKEN", issuer: simCA, years: 5,
		authentication: true, terminals: true},
}

func userCA(a *Authority) *ca { return a.userCA }
func simCA(a *Authority) *ca  { return a.simCA }
func nextCA(a *Authority) *ca { return a.nextCA }

// newKey makes a key of the variant's sort.
func (v variant) newKey() (crypto.Signer, error) {
	if v.p384 {
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, keyBits)
}
