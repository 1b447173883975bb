package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"

	"github.com/gate-agent/gate-agent/nfc"
)

// aidPIV is how the name of the PIV card application begins (NIST SP 800-73-4
// part 1 §2.2); a card finds it by this part.
var aidPIV = []byte{0xA0, 0x00, 0x00, 0x03, 0x08}

// pivApplication is the PIV card application: SP 800-73-4 part 2 for the commands,
// part 1 for the data objects, SP 800-78-4 for the algorithms.
type pivApplication struct {
	aid []byte
}

// keys are those of part 1, table 4b. The card authentication key is free to use;
// the digital signature key wants the PIN each time.
func (pivApplication) keys() []cardKey {
	pin := cardPIN{ref: 0x80, least: 6, most: 8, padded: 8, full: 3, shows: true}
	return []cardKey{
		{ref: 0x9A, label: "PIV authentication", file: 0x5FC105, pin: pin},
		{ref: 0x9C, label: "digital signature", file: 0x5FC10A, pin: pin, each: true},
		{ref: 0x9D, label: "key management", file: 0x5FC10B, pin: pin},
		{ref: 0x9E, label: "card authentication", file: 0x5FC101, pin: pin, free: true},
	}
}

func (a pivApplication) selection() nfc.Command {
	return nfc.Command{INS: 0xA4, P1: 0x04, Data: a.aid, Ne: 256}
}

// presence: no command asks for a key that is not also a signature.
func (pivApplication) presence(cardKey) nfc.Command { return nfc.Command{} }

// getData is GET DATA (part 2 §3.1.2) of an object of that tag.
func getData(tag ...byte) nfc.Command {
	return nfc.Command{
		INS: 0xCB, P1: 0x3F, P2: 0xFF,
		Data: append([]byte{0x5C, byte(len(tag))}, tag...),
		Ne:   maxCertificate, Chained: true,
	}
}

func (pivApplication) certificate(ctx context.Context, ch *nfc.Channel, k cardKey) ([]byte, error) {
	object, err := ch.Do(ctx, getData(byte(k.file>>16), byte(k.file>>8), byte(k.file)))
	if missing(err) {
		return nil, fmt.Errorf("%w: no certificate: %w", ErrNoKey, err)
	}
	if err != nil {
		return nil, err
	}
	return parsePIVCertificate(object)
}

// signing is GENERAL AUTHENTICATE (part 2 §3.2.4), with what the key operates on
// as its challenge: the padded block of an RSA key, or the digest for a curve.
func (pivApplication) signing(k cardKey, public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (nfc.Command, error) {
	var algorithm byte // SP 800-78-4, table 6-2
	challenge := digest
	switch public := public.(type) {
	case *rsa.PublicKey:
		if _, pss := opts.(*rsa.PSSOptions); pss {
			return nfc.Command{}, fmt.Errorf("%w: PSS with a PIV card", ErrCannot)
		}
		challenge = padPKCS1v15(opts.HashFunc(), digest, public.Size())
		algorithm = 0x07 // RSA-2048
	case *ecdsa.PublicKey:
		size := (public.Params().BitSize + 7) / 8
		algorithm = 0x11 // P-256
		if size == 48 {
			algorithm = 0x14 // P-384
		}
		challenge = fit(digest, size)
	default:
		return nfc.Command{}, fmt.Errorf("%w: %T, want RSA-2048, P-256 or P-384", ErrWrongKeyType, public)
	}
	template := tlv(0x7C, append([]byte{0x82, 0x00}, tlv(0x81, challenge)...))
	return nfc.Command{INS: 0x87, P1: algorithm, P2: k.ref, Data: template, Ne: 512, Chained: true}, nil
}

// fit makes a digest as long as the order of a curve, which is what a card takes:
// its leftmost bits (FIPS 186-5 §6.4.1), or the same number with zeros before it.
func fit(digest []byte, size int) []byte {
	if len(digest) >= size {
		return digest[:size]
	}
	return append(make([]byte, size-len(digest)), digest...)
}

func (pivApplication) signature(answer []byte) ([]byte, error) { return parsePIVSignature(answer) }

// extraction asks for the key as for a data object: PIV has no other command that
// reads.
func (pivApplication) extraction(k cardKey) []nfc.Command { return []nfc.Command{getData(k.ref)} }
