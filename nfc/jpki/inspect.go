package jpki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
)

// EF identifiers of JPKI-AP and of the card-surface AP that only Inspect and
// Register use (card-facts §2, §4). They are known and the same on every card.
const (
	efTokenInfo            = 0x0006
	efCertificatesPresent  = 0x0008
	efCACertificate        = 0x000B
	efAuthenticationPIN    = 0x0018
	efSurfaceCVCertificate = 0x0004
)

// Info is what a card gives away freely. What it does not have, or keeps
// behind a PIN, is nil or false.
type Info struct {
	Token              string // label of the token, such as JPKIAPICCTOKEN2
	CertificatesMarked []byte // 3 bytes: which certificates it says it carries
	Certificate        []byte // user-authentication certificate, DER; some cards have none
	PINRequired        bool   // the certificate is behind the PIN
	CACertificate      []byte // DER
	CardSurface        bool   // it has the card-surface AP
	SurfaceCertificate []byte // card-verifiable certificate of that AP
}

// Inspect reads what registration needs of a card, without a PIN. It fails
// when the card is no JPKI card or leaves.
func (d *Dialogue) Inspect(ctx context.Context, slot string, ch *nfc.Channel) (Info, error) {
	s := session{d: d, ctx: ctx, slot: slot, ch: ch}
	info, err := s.inspectJPKI()
	if err != nil {
		return info, err
	}
	if err := s.selectDF("card-surface AP", d.profile.Applications.CardSurface); err != nil {
		if gone(err) {
			return info, err
		}
		return info, nil // a phone or a SIM
	}
	info.CardSurface = true
	if info.SurfaceCertificate, err = s.readUpTo(efSurfaceCVCertificate, nil, cardauth.CVCertificateSize); gone(err) {
		return info, err
	}
	return info, nil
}

// inspectJPKI reads what JPKI-AP gives away, and leaves it selected.
func (s *session) inspectJPKI() (info Info, err error) {
	if err := s.selectDF("JPKI-AP", s.d.profile.Applications.JPKI); err != nil {
		return info, err
	}
	token, err := s.readEF(efTokenInfo, tokenLabelSize)
	if gone(err) {
		return info, err
	}
	info.Token = strings.TrimRight(string(token), " \x00")
	if info.CertificatesMarked, err = s.readEF(efCertificatesPresent, 3); gone(err) {
		return info, err
	}
	if info.CACertificate, err = s.readObject(efCACertificate); gone(err) {
		return info, err
	}
	err = s.readHead()
	if err == nil {
		err = s.readRest()
	}
	switch info.PINRequired = errors.Is(err, ErrPINRequired); {
	case err == nil:
		info.Certificate = s.certificate
	case info.PINRequired:
	case !errors.Is(err, ErrUnsupported) || errors.Is(err, nfc.ErrMalformed):
		return info, err
	}
	return info, nil
}

// tokenLabelSize is the length in bytes of the label that token information
// begins with.
const tokenLabelSize = 32

// gone reports whether err means that the session is over; a status word only
// means that the card does not give this file.
func gone(err error) bool {
	if err == nil {
		return false
	}
	_, isStatus := errors.AsType[*nfc.StatusError](err)
	return !isStatus
}

// readEF reads the first n bytes, at most 256, of an EF.
func (s *session) readEF(file FileID, n int) ([]byte, error) {
	data, err := s.readBinary(file, 0, n)
	if err != nil {
		return nil, fmt.Errorf("reading EF %04X: %w", uint16(file), err)
	}
	return data, nil
}

// readObject reads the DER object at the beginning of an EF, which may carry
// filler behind it.
func (s *session) readObject(file FileID) ([]byte, error) {
	header, err := s.readEF(file, 4)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(header, []byte{0x30, 0x82}) || len(header) != 4 {
		return nil, nil // no certificate in it
	}
	size := 4 + int(header[2])<<8 + int(header[3])
	if size > cardauth.MaxCertificate {
		return nil, nil
	}
	return s.readUpTo(file, header, size)
}
