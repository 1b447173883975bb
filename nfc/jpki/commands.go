package jpki

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
)

// Instructions of ISO/IEC 7816-4:2020 that every card has alike, so they are in
// no profile.
const (
	insVerify     = 0x20
	insSelect     = 0xA4
	insReadBinary = 0xB0
)

// readSize is the most that READ BINARY gives in short length, in bytes.
const readSize = 256

// digestInfoPrefix is what stands before a digest in a DigestInfo (RFC 8017
// §9.2, note 1). What is not here cannot be asked of a card.
var digestInfoPrefix = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
}

// selectDF selects an application by its DF name, asking for no response
// data (ISO/IEC 7816-4:2020 §11.2.2).
func (s *session) selectDF(name string, aid AID) error {
	_, err := s.ch.Do(s.ctx, nfc.Command{INS: insSelect, P1: 0x04, P2: 0x0C, Data: aid})
	return wrap("selecting "+name, err, ErrUnsupported)
}

// readBinary reads ne bytes from an offset on. From 0 on it names the EF by its
// short identifier, which selects and reads in one exchange (ISO/IEC
// 7816-4:2020 §11.3.3); from then on file is the current EF.
func (s *session) readBinary(file FileID, offset, ne int) ([]byte, error) {
	cmd := nfc.Command{INS: insReadBinary, P1: byte(offset >> 8), P2: byte(offset), Ne: ne}
	if offset == 0 {
		cmd.P1 = 0x80 | file.SFI()
	}
	return s.ch.Do(s.ctx, cmd)
}

// readHead reads the certificate until subjectPublicKeyInfo begins; with real
// names the first 256 bytes are enough.
func (s *session) readHead() error {
	file := s.d.profile.Files.AuthenticationCertificate
	const step = "reading the certificate head"
	for {
		data, err := s.readBinary(file, len(s.certificate), readSize)
		if errors.Is(err, nfc.ErrSecurityStatus) {
			return fmt.Errorf("%s: %w: %w", step, ErrPINRequired, err)
		}
		if err != nil {
			return wrap(step, err, ErrUnsupported)
		}
		if len(data) == 0 {
			return fmt.Errorf("%s: %w: the file ends after %d bytes", step, ErrUnsupported, len(s.certificate))
		}
		s.certificate = append(s.certificate, data...)
		head, err := cardauth.ParseHead(s.certificate)
		if errors.Is(err, cardauth.ErrHeadIncomplete) && len(s.certificate) < cardauth.MaxCertificate {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %w", step, ErrUnsupported, err)
		}
		s.evidence.Head = head
		return nil
	}
}

// readRest reads what is missing of the certificate.
func (s *session) readRest() error {
	certificate, err := s.readUpTo(s.d.profile.Files.AuthenticationCertificate, s.certificate, s.evidence.Head.CertificateSize())
	if err != nil {
		return wrap("reading the certificate", err, ErrUnsupported)
	}
	s.certificate = certificate
	return nil
}

// readUpTo reads an EF, of which have was read before, up to size bytes, and
// leaves out the filler behind them: in one command where reader and card take
// extended length, else by 256 bytes. What is refused in a slot is not tried
// there again, unless it has been answered there before: then it was the card,
// which shall not slow down those behind it.
func (s *session) readUpTo(file FileID, have []byte, size int) ([]byte, error) {
	for len(have) < size {
		at := len(have)
		ne := size - at
		long := ne > readSize && !s.shortReads && s.d.triesLongReads(s.slot)
		if !long {
			ne = min(ne, readSize)
		}
		data, err := s.readBinary(file, at, ne)
		if long && refusesLength(err) {
			s.shortReads = true
			s.d.learnLongReads(s.slot, false)
			continue
		}
		if err != nil {
			return nil, err
		}
		if long {
			s.d.learnLongReads(s.slot, true)
		}
		if len(data) == 0 {
			return nil, fmt.Errorf("%w: the file ends after %d of %d bytes", ErrUnsupported, at, size)
		}
		have = append(have, data...)
	}
	return have[:size], nil
}

// refusesLength reports whether err is how a reader or a card says that it
// does not take extended length: any status word, save those that name another
// cause.
func refusesLength(err error) bool {
	if errors.Is(err, nfc.ErrExtendedLength) {
		return true
	}
	_, isStatus := errors.AsType[*nfc.StatusError](err)
	return isStatus && !errors.Is(err, nfc.ErrNotFound) && !errors.Is(err, nfc.ErrSecurityStatus)
}

func (d *Dialogue) triesLongReads(slot string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	answered, known := d.longReads[slot]
	return answered || !known
}

func (d *Dialogue) learnLongReads(slot string, answered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.longReads[slot] = answered || d.longReads[slot]
}

// selectTerminalCA selects the EF with the key that checks the terminal's
// certificates.
func (s *session) selectTerminalCA() error {
	file := s.d.profile.Files.TerminalCA
	_, err := s.ch.Do(s.ctx, nfc.Command{INS: insSelect, P1: 0x02, P2: 0x0C, Data: []byte{byte(file >> 8), byte(file)}})
	return wrap("selecting the terminal CA key", err, ErrUnsupported)
}

// putCertificates gives the card the terminal's certificates, body and
// signature in a command each. Phones and older cards may refuse them.
func (s *session) putCertificates() error {
	x := &s.d.profile.ExternalAuth
	for i, c := range s.key.certificates {
		for _, part := range []struct {
			header Header
			data   []byte
		}{
			{x.CertificateBody, c.BodyObject()},
			{x.CertificateSignature, c.SignatureObject()},
		} {
			_, err := s.ch.Do(s.ctx, part.header.command(part.data, 0))
			if err != nil {
				return wrap(fmt.Sprintf("presenting terminal certificate %d", i+1), err, ErrUnsupported)
			}
		}
	}
	return nil
}

// getChallenge asks for exactly as many bytes as the profile says.
func (s *session) getChallenge() ([]byte, error) {
	x := &s.d.profile.ExternalAuth
	challenge, err := s.ch.Do(s.ctx, x.GetChallenge.command(nil, x.ChallengeSize))
	if err != nil {
		return nil, wrap("asking for a challenge", err, ErrUnsupported)
	}
	if len(challenge) != x.ChallengeSize {
		return nil, fmt.Errorf("asking for a challenge: %w: %d bytes, want %d", ErrUnsupported, len(challenge), x.ChallengeSize)
	}
	return challenge, nil
}

// A signature is what the terminal's key gave, and how long its medium took.
type signature struct {
	bytes []byte
	err   error
	took  time.Duration
}

// askTerminalKey has the terminal's key sign the card's challenge, while the
// session goes on. This is the only place where that key signs: once in a
// session, for a card whose head was resolved.
func (s *session) askTerminalKey(challenge []byte) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx) // too late to be of use: sign nothing
	}
	x := &s.d.profile.ExternalAuth.Authenticate
	hash := x.Scheme.Hash()
	digest := hash.New()
	digest.Write(challenge)
	var opts crypto.SignerOpts = hash
	if x.Scheme == cardkey.PSSSHA256 {
		opts = &rsa.PSSOptions{Hash: hash, SaltLength: rsa.PSSSaltLengthEqualsHash}
	}
	s.evidence.TerminalSignatures++
	// With room for one: nobody may be left to take it, when the card is gone
	// or the time is over. The medium has a deadline of its own.
	signed := make(chan signature, 1)
	s.asked = signed
	key, random := s.key.signer, s.d.rand
	go func() {
		began := time.Now()
		b, err := key.Sign(random, digest.Sum(nil), opts)
		signed <- signature{b, err, time.Since(began)}
	}()
	return nil
}

// terminalSignature waits for what the terminal's key was asked for.
func (s *session) terminalSignature() ([]byte, error) {
	select {
	case got := <-s.asked:
		s.evidence.Timings.Key = got.took
		if got.err != nil {
			return nil, fmt.Errorf("signing the card's challenge: %w: %w", ErrTerminalKey, got.err)
		}
		return got.bytes, nil
	case <-s.ctx.Done():
		return nil, fmt.Errorf("signing the card's challenge: %w: %w", ErrTerminalKey, context.Cause(s.ctx))
	}
}

// authenticate gives the card the terminal's signature.
func (s *session) authenticate(answer []byte) error {
	_, err := s.ch.Do(s.ctx, s.d.profile.ExternalAuth.Authenticate.Command.command(answer, 0))
	return wrap("authenticating the terminal to the card", err, ErrRefused)
}

// ErrTerminalKey says that the terminal's own key failed: the gate is out of
// order, whatever the card.
var ErrTerminalKey = errors.New("terminal key failed")

// sign has the card sign our challenge.
func (s *session) sign(how Sign, challenge cardauth.Challenge) error {
	hash := how.Scheme.Hash()
	data := challenge.Digest(hash)
	if how.Input == DigestInfo {
		data = slices.Concat(digestInfoPrefix[hash], data)
	}
	signature, err := s.ch.Do(s.ctx, how.Command.command(data, readSize))
	if err != nil {
		return wrap("having the card sign", err, ErrRefused)
	}
	s.evidence.Signature, s.evidence.Scheme = signature, how.Scheme
	return nil
}

func (h Header) command(data []byte, ne int) nfc.Command {
	return nfc.Command{CLA: h.cla, INS: h.ins, P1: h.p1, P2: h.p2, Data: data, Ne: ne}
}

// wrap says what the session was doing. A status word, or a reader that
// cannot carry the command, means cause; a transport error speaks for itself.
func wrap(doing string, err, cause error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*nfc.StatusError](err); ok {
		return fmt.Errorf("%s: %w: %w", doing, cause, err)
	}
	if errors.Is(err, nfc.ErrExtendedLength) || errors.Is(err, nfc.ErrMalformed) {
		return fmt.Errorf("%s: %w: %w", doing, ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
