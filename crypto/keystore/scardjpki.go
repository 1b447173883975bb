package keystore

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"

	"github.com/gate-agent/gate-agent/nfc"
)

// aidJPKI is the DF name of the JPKI-AP (docs/card-facts.md §1).
var aidJPKI = []byte{0xD3, 0x92, 0xF0, 0x00, 0x26, 0x01, 0x00, 0x00, 0x00, 0x01}

// jpkiApplication is the JPKI-AP of a My Number card, or of a SIM that carries it
// (docs/card-facts.md §2, §3). Every command names its file by the short
// identifier, so none depends on the one before.
type jpkiApplication struct{}

func (jpkiApplication) keys() []cardKey {
	return []cardKey{
		{ref: 0x17, label: "user authentication", file: 0x0A, pin: cardPIN{ref: 0x98, least: 4, most: 4, full: 3}},
		{ref: 0x1A, label: "digital signature", file: 0x01, pin: cardPIN{ref: 0x9B, least: 6, most: 16, full: 5}},
	}
}

func (jpkiApplication) selection() nfc.Command {
	return nfc.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: aidJPKI}
}

// presence selects the key's EF.
func (jpkiApplication) presence(k cardKey) nfc.Command {
	return nfc.Command{INS: 0xA4, P1: 0x02, P2: 0x0C, Data: []byte{0x00, k.ref}}
}

// certificate reads the EF up to the end of the certificate: filler is behind it.
func (jpkiApplication) certificate(ctx context.Context, ch *nfc.Channel, k cardKey) ([]byte, error) {
	var der []byte
	size := 256
	for len(der) < size {
		cmd := nfc.Command{INS: 0xB0, P1: byte(len(der) >> 8), P2: byte(len(der)), Ne: min(256, size-len(der))}
		if len(der) == 0 {
			cmd.P1 = 0x80 | byte(k.file)
		}
		data, err := ch.Do(ctx, cmd)
		switch {
		case missing(err):
			return nil, fmt.Errorf("%w: no certificate: %w", ErrNoKey, err)
		case err != nil:
			return nil, err
		case len(data) == 0:
			return nil, fmt.Errorf("%w: the file ends after %d bytes", nfc.ErrMalformed, len(der))
		case len(der) == 0:
			if size, err = derSize(data); err != nil {
				return nil, err
			}
		}
		der = append(der, data...)
	}
	return der[:size], nil
}

// derSize is the size of the certificate that begins with head, in bytes.
func derSize(head []byte) (int, error) {
	if head[0] == 0xFF || head[0] == 0x00 {
		return 0, fmt.Errorf("%w: no certificate, filler in its file", ErrNoKey)
	}
	if len(head) < 4 || head[0] != 0x30 || head[1] != 0x82 {
		return 0, fmt.Errorf("%w: not a certificate", nfc.ErrMalformed)
	}
	size := 4 + int(head[2])<<8 + int(head[3])
	if size > maxCertificate {
		return 0, fmt.Errorf("%w: certificate of %d bytes, at most %d", nfc.ErrMalformed, size, maxCertificate)
	}
	return size, nil
}

// signing is `80 2A P1 P2`, where P1 says what the card makes of a SHA-256 digest.
func (jpkiApplication) signing(k cardKey, public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (nfc.Command, error) {
	if _, ok := public.(*rsa.PublicKey); !ok {
		return nfc.Command{}, fmt.Errorf("%w: %T, want an RSA key", ErrWrongKeyType, public)
	}
	if opts.HashFunc() != crypto.SHA256 {
		return nfc.Command{}, fmt.Errorf("%w: sign a digest of %v, SHA-256 alone", ErrCannot, opts.HashFunc())
	}
	p1 := byte(0x02) // PKCS #1 v1.5
	if _, pss := opts.(*rsa.PSSOptions); pss {
		p1 = 0x04
	}
	return nfc.Command{CLA: 0x80, INS: 0x2A, P1: p1, P2: 0x80 | k.ref, Data: digest, Ne: 256}, nil
}

func (jpkiApplication) signature(answer []byte) ([]byte, error) { return answer, nil }

// extraction reads the key's EF by its short identifier, and as the current EF.
func (a jpkiApplication) extraction(k cardKey) []nfc.Command {
	return []nfc.Command{
		{INS: 0xB0, P1: 0x80 | k.ref, Ne: 256},
		a.presence(k),
		{INS: 0xB0, Ne: 256},
	}
}
