package perso

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// Twin makes the card of another person out of one of a: the same keys, files
// and validity, and a user-authentication certificate for this serial number and
// subject. A crowd takes one signature for each card so, where Card takes six, and
// two keys. To a terminal that has the keys registered the two have nothing in
// common.
func (a *Authority) Twin(card *vcard.Image, serial uint32, subjectID string) (*vcard.Image, error) {
	if len(subjectID) != subjectIDSize {
		return nil, fmt.Errorf("making a twin: subject of %d characters, want %d", len(subjectID), subjectIDSize)
	}
	cert, err := x509.ParseCertificate(card.AuthenticationCertificate())
	if err != nil {
		return nil, fmt.Errorf("making a twin: %w", err)
	}
	v, ok := variants[card.Kind]
	if !ok || !v.authentication {
		return nil, errors.New("making a twin: the card cannot authenticate anybody")
	}
	leaf, err := v.issuer(a).issue(new(big.Int).SetUint64(uint64(serial)), leafSubject(subjectID), cert.NotBefore, cert.NotAfter, cert.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("making a twin: %w", err)
	}
	img := clone(card)
	f := img.Application(vcard.AIDJPKI()).File(0x000A)
	*f = file(0x000A, leaf, f.Read...)
	return img, nil
}
