// Package jpki speaks with the JPKI and card-surface applications of a My
// Number card.
//
// It promises the fewest commands that prove a card by the configured method,
// and that the terminal's key answers no challenge of a card whose
// certificate head its caller has not resolved. A tap sends no PIN; the one
// exception is the birth date at first use, which the caller hands in. It decides
// nothing: what a card said comes back as Evidence, which is not yet a Holder.
//
// Facts: card-facts.md §2, §3, §5, §6 (known, likely and modelled are kept
// apart there; everything not known is in the Profile).
package jpki

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc"
)

// A Method is a way to prove a card without a PIN.
type Method string

// Methods.
const (
	TapUse       Method = "tap-use"       // method B, かざし利用: the registered card key signs
	ExternalAuth Method = "external-auth" // method A: the terminal authenticates, then the card signs
)

// Errors that a caller acts on. Transport errors of package nfc come through
// beside them.
var (
	// ErrUnsupported says that the card lacks what the method needs.
	ErrUnsupported = errors.New("card does not support the method")

	// ErrPINRequired says that the certificate is behind the PIN, as phones
	// have it.
	ErrPINRequired = errors.New("card gives its certificate only after its PIN")

	// ErrRefused says that the card refused to authenticate or to sign,
	// which a genuine card of a listed person would not do.
	ErrRefused = errors.New("card refused to prove itself")
)

// Resolve is asked, once the certificate head is known, what the card has to
// prove. An error ends the dialogue and is returned as it is; nothing further
// is sent to the card, and the terminal's key signs nothing.
type Resolve func(head cardauth.Head) (Expected, error)

// Expected is what the card has to prove. It carries no row of the list: only
// which way to go and what to sign.
type Expected struct {
	Method    Method
	At        time.Time          // the instant of the tap: which terminal key is in force
	Challenge cardauth.Challenge // for the card to sign

	// CheckCertificate, when not nil, is given the whole certificate before
	// the terminal's key, or a birth date, is used: method A without a
	// registered key, and first use.
	CheckCertificate func(der []byte) error

	// FirstUse, when not nil, is what method B does instead of relying on a
	// registered card key.
	FirstUse *FirstUse
}

// FirstUse is what it takes to learn a card's own key from its age record
// (card-facts §5). The card is given the birth date: whoever presents a copy of
// somebody's certificate, and of the free files of any card, learns it.
type FirstUse struct {
	BirthDate cardauth.BirthDate

	// CheckSigner is given EF 0004, the certificate of whoever signed the
	// record, before the card is given the birth date.
	CheckSigner func(cvc []byte) error

	// CheckRecord is given EF 0001, the age record.
	CheckRecord func(record []byte) error
}

// Evidence is what a card said. Nothing in it is verified.
type Evidence struct {
	Method    Method
	Head      cardauth.Head
	Signature []byte // over the digest of Expected.Challenge
	Scheme    cardkey.Scheme

	// TerminalSignatures counts what the terminal's key signed: 0 or 1.
	TerminalSignatures int

	// BirthDateRefused says that the card answered the birth date with 63xx:
	// it is that of somebody else, and is never presented to this card again.
	BirthDateRefused bool

	Timings Timings
}

// Timings says how long each part of the dialogue took.
type Timings struct {
	Select, Read, Resolve, Auth, Sign time.Duration

	// Key is how long the medium of the terminal's key took for its signature.
	// A profile that asks for the challenge before the certificates has the
	// medium sign while the card checks them: Key then runs beside Auth.
	Key time.Duration
}

// A TerminalKey is what method A authenticates the terminal with.
type TerminalKey struct {
	signer       crypto.Signer
	certificates []cardauth.CVCertificate
}

// NewTerminalKey ties the external-authentication key to its certificates,
// from the one that the card's own key checks down to the terminal's. It
// refuses a chain that a card would refuse, and a key it does not certify.
func NewTerminalKey(signer crypto.Signer, certificates ...cardauth.CVCertificate) (*TerminalKey, error) {
	if len(certificates) == 0 {
		return nil, errors.New("external authentication: no card-verifiable certificate")
	}
	for i := 1; i < len(certificates); i++ {
		if err := certificates[i].VerifiedBy(certificates[i-1]); err != nil {
			return nil, fmt.Errorf("external authentication: certificate %d: %w", i+1, err)
		}
	}
	public, err := cardkey.New(signer.Public())
	if err != nil || !public.Equal(certificates[len(certificates)-1].PublicKey()) {
		return nil, errors.New("external authentication: the last certificate certifies another key than the terminal holds")
	}
	return &TerminalKey{signer: signer, certificates: certificates}, nil
}

// Lost is why the key cannot sign now, nil when it can: for a signer whose medium
// may come and go.
func (k *TerminalKey) Lost() error {
	if s, ok := k.signer.(interface{ Lost() error }); ok {
		return s.Lost()
	}
	return nil
}

// At implements TerminalKeys: one key, always.
func (k *TerminalKey) At(time.Time) *TerminalKey { return k }

// TerminalKeys say which key a terminal authenticates with: while one is replaced
// by another it has two.
type TerminalKeys interface {
	// At is the key that is in force at an instant, never nil.
	At(time.Time) *TerminalKey
}

// Certificates are what the terminal presents, in their order.
func (k *TerminalKey) Certificates() []cardauth.CVCertificate { return slices.Clone(k.certificates) }

// A Dialogue holds what every session of one lane needs. Its methods may be
// called from several goroutines.
type Dialogue struct {
	profile  Profile
	terminal TerminalKeys // nil: none
	rand     io.Reader

	mu        sync.Mutex
	longReads map[string]bool // slots where a READ BINARY in extended length was answered, or refused
}

// Check reports whether a terminal can authenticate with k as the profile says.
func (p Profile) Check(k *TerminalKey) error {
	if len(k.certificates) != p.ExternalAuth.CertificateCount {
		return fmt.Errorf("external authentication: %d card-verifiable certificates, profile %q wants %d",
			len(k.certificates), p.Name, p.ExternalAuth.CertificateCount)
	}
	return nil
}

// NewDialogue speaks as profile says. terminal may be nil: then method A is
// not available. Each of its keys has to pass profile.Check; NewDialogue checks
// the one of now. rand feeds PSS signatures of the terminal's key.
func NewDialogue(profile Profile, terminal TerminalKeys, rand io.Reader) (*Dialogue, error) {
	if k, ok := terminal.(*TerminalKey); ok && k == nil {
		terminal = nil
	}
	if terminal != nil {
		if err := profile.Check(terminal.At(time.Now())); err != nil {
			return nil, err
		}
	}
	return &Dialogue{profile: profile, terminal: terminal, rand: rand, longReads: make(map[string]bool)}, nil
}

// CanExternalAuth reports whether method A is available.
func (d *Dialogue) CanExternalAuth() bool { return d.terminal != nil }

// TerminalKeyLost is why method A is not available at an instant although the
// terminal has a key: its medium is gone. It is nil without a key.
func (d *Dialogue) TerminalKeyLost(at time.Time) error {
	if d.terminal == nil {
		return nil
	}
	if err := d.terminal.At(at).Lost(); err != nil {
		return fmt.Errorf("%w: %w", ErrTerminalKey, err)
	}
	return nil
}

// CanFirstUse reports whether the card profile has first use.
func (d *Dialogue) CanFirstUse() bool { return d.profile.FirstUse != nil }

// Run proves the card on ch, which has just been powered in slot. What the
// card said so far is returned with every error.
func (d *Dialogue) Run(ctx context.Context, slot string, ch *nfc.Channel, resolve Resolve) (Evidence, error) {
	s := session{d: d, ctx: ctx, slot: slot, ch: ch}
	err := s.run(resolve)
	return s.evidence, err
}

// A session is one Run.
type session struct {
	d    *Dialogue
	ctx  context.Context
	slot string
	ch   *nfc.Channel

	key   *TerminalKey     // method A
	asked <-chan signature // what it was asked for

	certificate []byte // what was read of it
	shortReads  bool   // this card, or its reader, refused a long one
	evidence    Evidence
}

func (s *session) run(resolve Resolve) error {
	p := &s.d.profile
	t := &s.evidence.Timings

	if err := timed(&t.Select, func() error { return s.selectDF("JPKI-AP", p.Applications.JPKI) }); err != nil {
		return err
	}
	if err := timed(&t.Read, s.readHead); err != nil {
		return err
	}
	var want Expected
	if err := timed(&t.Resolve, func() (err error) { want, err = resolve(s.evidence.Head); return err }); err != nil {
		return err
	}
	s.evidence.Method = want.Method

	if want.CheckCertificate != nil {
		if err := timed(&t.Read, s.readRest); err != nil {
			return err
		}
		if err := want.CheckCertificate(s.certificate); err != nil {
			return err
		}
	}
	switch want.Method {
	case TapUse:
		return s.tapUse(want)
	case ExternalAuth:
		return s.externalAuth(want)
	}
	return fmt.Errorf("resolve asked for unknown method %q", want.Method)
}

// tapUse is method B (card-facts §5): with a registered card key steps 3 and 4,
// at first use the record that certifies the key in between.
func (s *session) tapUse(want Expected) error {
	p := &s.d.profile
	t := &s.evidence.Timings
	if err := timed(&t.Select, func() error { return s.selectDF("card-surface AP", p.Applications.CardSurface) }); err != nil {
		return err
	}
	if want.FirstUse != nil {
		if err := timed(&t.Read, func() error { return s.firstUse(*want.FirstUse) }); err != nil {
			return err
		}
	}
	return timed(&t.Sign, func() error { return s.sign(p.TapUse.Sign, want.Challenge) })
}

// externalAuth is method A (card-facts §6, steps 2 to 7, in the profile's
// order).
func (s *session) externalAuth(want Expected) error {
	if s.d.terminal == nil {
		return errors.New("external authentication: this terminal has no key")
	}
	if s.key = s.d.terminal.At(want.At); s.key.Lost() != nil {
		return fmt.Errorf("%w: %w", ErrTerminalKey, s.key.Lost()) // before the card waits for it
	}
	if err := s.d.profile.Check(s.key); err != nil {
		return fmt.Errorf("%w: %w", ErrTerminalKey, err)
	}
	x := &s.d.profile.ExternalAuth
	t := &s.evidence.Timings
	for _, step := range x.Order {
		var err error
		switch step {
		case StepTerminalCA:
			err = timed(&t.Auth, s.selectTerminalCA)
		case StepCertificates:
			err = timed(&t.Auth, s.putCertificates)
		case StepChallenge:
			var challenge []byte
			if err = timed(&t.Auth, func() (err error) { challenge, err = s.getChallenge(); return err }); err == nil {
				err = s.askTerminalKey(challenge)
			}
		case StepAuthenticate:
			var answer []byte
			if answer, err = s.terminalSignature(); err == nil {
				err = timed(&t.Auth, func() error { return s.authenticate(answer) })
			}
		case StepSign:
			err = timed(&t.Sign, func() error { return s.sign(x.Sign, want.Challenge) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// timed adds what f takes to d.
func timed(d *time.Duration, f func() error) error {
	start := time.Now()
	err := f()
	*d += time.Since(start)
	return err
}
