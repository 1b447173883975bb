package jpki_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// A transmitter is a function that carries commands.
type transmitter func(ctx context.Context, capdu []byte) ([]byte, error)

func (f transmitter) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	return f(ctx, capdu)
}

// A medium is a terminal's key that is lost, or waits before it signs.
type medium struct {
	*signer
	lost  error
	asked func()          // nil, or called as it is asked to sign
	until <-chan struct{} // nil: does not wait
}

func (m *medium) Lost() error { return m.lost }

func (m *medium) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if m.asked != nil {
		m.asked()
	}
	if m.until != nil {
		<-m.until
	}
	return m.signer.Sign(rand, digest, opts)
}

func onMedium(t *testing.T, m *medium, profile jpki.Profile) *jpki.Dialogue {
	t.Helper()
	term := newTerminal(t)
	m.signer = term.signer
	key, err := jpki.NewTerminalKey(m, term.certificates...)
	if err != nil {
		t.Fatal(err)
	}
	d, err := jpki.NewDialogue(profile, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The medium answers only after the card was given the last certificate: a
// dialogue that waited for it before would never end.
func TestMediumSignsWhileTheCardChecksCertificates(t *testing.T) {
	presented := make(chan struct{})
	m := &medium{until: presented}
	d := onMedium(t, m, jpki.ChallengeFirst(jpki.DefaultProfile()))
	signatures := 0 // of certificates
	card := good(t)
	watched := transmitter(func(ctx context.Context, capdu []byte) ([]byte, error) {
		rapdu, err := card.Transmit(ctx, capdu)
		if bytes.HasPrefix(capdu, []byte{0x80, 0xA2, 0x00}) {
			if signatures++; signatures == 2 {
				close(presented)
			}
		}
		return rapdu, err
	})
	e, stats, err := tap(t, d, watched, registered(jpki.ExternalAuth))
	if err != nil {
		t.Fatal(err)
	}
	prove(t, e, image(t, "good.json"))
	if e.TerminalSignatures != 1 || m.signatures != 1 || stats.Commands != 10 {
		t.Errorf("%d signatures, %d of the key, %d commands", e.TerminalSignatures, m.signatures, stats.Commands)
	}
	if e.Timings.Key <= 0 {
		t.Error("the medium took no time")
	}
}

func TestLostTerminalKeyIsToldBeforeTheCardWaits(t *testing.T) {
	gone := errors.New("token is gone")
	m := &medium{lost: gone}
	d := onMedium(t, m, jpki.DefaultProfile())
	if err := d.TerminalKeyLost(time.Now()); !errors.Is(err, jpki.ErrTerminalKey) || !errors.Is(err, gone) {
		t.Errorf("before the tap: %v", err)
	}
	e, stats, err := tap(t, d, newCard(t, image(t, "good.json"), vcard.Options{}), registered(jpki.ExternalAuth))
	if !errors.Is(err, jpki.ErrTerminalKey) || !errors.Is(err, gone) {
		t.Errorf("tap: %v", err)
	}
	if e.TerminalSignatures != 0 || m.signatures != 0 || stats.Commands != 2 {
		t.Errorf("%d signatures, %d of the key, %d commands, want none and the 2 that read the head", e.TerminalSignatures, m.signatures, stats.Commands)
	}
	m.lost = nil
	if err := d.TerminalKeyLost(time.Now()); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

func TestMediumThatHangsEndsWithTheTap(t *testing.T) {
	never := make(chan struct{})
	defer close(never)
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("too late")
	d := onMedium(t, &medium{until: never, asked: func() { cancel(late) }}, jpki.DefaultProfile())
	card := good(t)
	watched := transmitter(func(_ context.Context, capdu []byte) ([]byte, error) {
		return card.Transmit(t.Context(), capdu)
	})
	e, err := d.Run(ctx, "slot", nfc.NewChannel(watched), registered(jpki.ExternalAuth))
	if !errors.Is(err, late) || !errors.Is(err, jpki.ErrTerminalKey) {
		t.Errorf("%v, want the cause of the end", err)
	}
	if e.TerminalSignatures != 1 {
		t.Errorf("%d signatures were asked for, want 1", e.TerminalSignatures)
	}
}

// The old key until the instant, the new one from it on.
func TestTapUsesTheKeyThatIsInForceAtItsInstant(t *testing.T) {
	before, after := newTerminal(t), newTerminal(t)
	from := time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC)
	d, err := jpki.NewDialogue(jpki.DefaultProfile(), switchAt{before.key, after.key, from}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at       time.Time
		old, new int
	}{{from.Add(-time.Nanosecond), 1, 0}, {from, 1, 1}, {from.Add(time.Hour), 1, 2}} {
		resolve := registered(jpki.ExternalAuth)
		_, _, err := tap(t, d, good(t), func(head cardauth.Head) (jpki.Expected, error) {
			want, err := resolve(head)
			want.At = c.at
			return want, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if before.signer.signatures != c.old || after.signer.signatures != c.new {
			t.Errorf("at %v: %d signatures of the old key, %d of the new one, want %d and %d", c.at, before.signer.signatures, after.signer.signatures, c.old, c.new)
		}
	}
}

type switchAt struct {
	old, new *jpki.TerminalKey
	from     time.Time
}

func (s switchAt) At(t time.Time) *jpki.TerminalKey {
	if t.Before(s.from) {
		return s.old
	}
	return s.new
}
