package perso

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// Copy is what somebody makes who has read every file of a card and could read
// no key: the same files and PINs, other private keys.
func Copy(victim *vcard.Image, authentication, card crypto.Signer) (*vcard.Image, error) {
	img := clone(victim)
	jpki := img.Application(vcard.AIDJPKI())
	if jpki == nil {
		return nil, errors.New("copying a card: it has no JPKI-AP")
	}
	for i := range jpki.Keys {
		if jpki.Keys[i].ID == 0x0017 {
			jpki.Keys[i].Private = &vcard.PrivateKey{Signer: authentication}
		}
	}
	if surface := img.Application(vcard.AIDSurface()); surface != nil {
		surface.InternalKey = &vcard.PrivateKey{Signer: card}
	}
	return img, nil
}

// Forge is what somebody makes who runs a CA of the same name: a complete card
// of the hierarchy a, whose certificate equals the victim's byte for byte up to
// the public key, so that its head finds the victim's row. It admits the
// terminals that the victim's card admits. Keys, and the birth date on the
// card's surface, come from opt.
func (a *Authority) Forge(victim *vcard.Image, opt CardOptions) (*vcard.Image, error) {
	cert, err := x509.ParseCertificate(victim.AuthenticationCertificate())
	if err != nil {
		return nil, fmt.Errorf("forging a card: reading the victim's certificate: %w", err)
	}
	if !cert.SerialNumber.IsUint64() || cert.SerialNumber.BitLen() > 32 {
		return nil, errors.New("forging a card: serial number above four bytes")
	}
	opt.Kind = victim.Kind
	opt.Serial = uint32(cert.SerialNumber.Uint64())
	opt.SubjectID = cert.Subject.CommonName
	opt.NotBefore, opt.NotAfter = cert.NotBefore, cert.NotAfter
	img, err := a.Card(opt)
	if err != nil {
		return nil, fmt.Errorf("forging a card: %w", err)
	}
	from, to := victim.Application(vcard.AIDJPKI()).File(0x0016), img.Application(vcard.AIDJPKI()).File(0x0016)
	if from != nil && to != nil {
		to.Content = bytes.Clone(from.Content)
	}
	return img, nil
}

// clone copies an image so deep that changing keys, files and PINs of the copy
// leaves the original alone. Contents stay shared.
func clone(img *vcard.Image) *vcard.Image {
	c := &vcard.Image{Kind: img.Kind, ATR: img.ATR, Applications: slices.Clone(img.Applications), Answer: img.Answer}
	for i := range c.Applications {
		app := &c.Applications[i]
		app.Files = slices.Clone(app.Files)
		app.PINs = slices.Clone(app.PINs)
		app.Keys = slices.Clone(app.Keys)
	}
	return c
}
