package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A token is a medium of the tests, which comes and goes.
type token struct {
	key    crypto.Signer
	absent bool
	hangs  chan struct{} // not nil: whatever it is asked waits for it
	pin    string        // "" wants none
	tried  int           // PINs that were sent

	opened, closed int
}

func (m *token) open(_ context.Context, _ URI, _ Purpose, pins *pinSource) (session, error) {
	if m.absent {
		return nil, ErrAbsent
	}
	if m.pin != "" {
		pin, err := pins.read("token")
		if err != nil {
			return nil, err
		}
		if m.tried++; string(pin) != m.pin {
			pins.called(pin)
			return nil, &PINError{Medium: "token"}
		}
	}
	m.opened++
	return tokenSession{m, m.key}, nil
}

type tokenSession struct {
	*token
	key crypto.Signer
}

func (s tokenSession) Public() crypto.PublicKey { return s.key.Public() }

func (s tokenSession) sign(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.hangs != nil {
		<-s.hangs
	}
	if s.absent {
		return nil, ErrAbsent
	}
	return s.key.Sign(rand.Reader, digest, opts)
}

func (s tokenSession) alive(context.Context) error {
	if s.hangs != nil {
		<-s.hangs
	}
	if s.absent {
		return ErrAbsent
	}
	return nil
}

func (s tokenSession) exportable(context.Context) (bool, error) { return false, nil }
func (s tokenSession) close() error                             { s.closed++; return nil }

func newToken(t *testing.T) *token {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &token{key: key}
}

// keyOn makes a key of the token, not yet open.
func keyOn(m *token, pins *pinSource) *Key {
	return &Key{turn: make(chan struct{}, 1), why: errNotOpen, open: func(ctx context.Context) (session, error) {
		return m.open(ctx, URI{}, ExternalAuth, pins)
	}}
}

func signs(k *Key) error {
	digest := sha256.Sum256([]byte("message"))
	_, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	return err
}

func TestTokenThatReturnsIsOpenedAnew(t *testing.T) {
	m := newToken(t)
	k := keyOn(m, &pinSource{})
	if err := signs(k); !errors.Is(err, errNotOpen) {
		t.Errorf("before it was opened: %v", err)
	}
	for range 3 {
		if err := errors.Join(k.Check(t.Context()), signs(k), k.Check(t.Context())); err != nil {
			t.Fatal(err)
		}
		m.absent = true
		for range 2 {
			if err := signs(k); !errors.Is(err, ErrAbsent) {
				t.Errorf("token is gone: %v", err)
			}
		}
		if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) || !errors.Is(k.Lost(), ErrAbsent) {
			t.Errorf("token is gone: %v, %v", err, k.Lost())
		}
		m.absent = false
		if err := signs(k); !errors.Is(err, ErrAbsent) {
			t.Errorf("nobody has looked for the token yet: %v", err)
		}
	}
	if m.opened != 3 || m.closed != 3 {
		t.Errorf("opened %d times, closed %d, want 3 and 3", m.opened, m.closed)
	}
}

func TestTokenWithAnotherKeyIsNotTheSame(t *testing.T) {
	m, other := newToken(t), newToken(t)
	k := keyOn(m, &pinSource{})
	if err := k.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.absent = true
	if err := k.Check(t.Context()); err == nil {
		t.Fatal("token is gone")
	}
	m.absent, m.key = false, other.key
	if err := k.Check(t.Context()); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if err := signs(k); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key signs: %v", err)
	}
	if m.opened != 2 || m.closed != 2 {
		t.Errorf("opened %d times, closed %d", m.opened, m.closed)
	}
}

func TestExpectedKeyIsWaitedFor(t *testing.T) {
	m := newToken(t)
	m.absent = true
	k := keyOn(m, &pinSource{})
	if err := k.Expect(m.key.Public()); err != nil {
		t.Fatal(err)
	}
	if err := k.Check(t.Context()); !errors.Is(err, ErrAbsent) || !SameKey(k.Public(), m.key.Public()) {
		t.Errorf("%v, public half %v", err, k.Public())
	}
	m.absent = false
	if err := errors.Join(k.Check(t.Context()), signs(k)); err != nil {
		t.Error(err)
	}
	other := newToken(t).key.Public()
	if err := k.Expect(other); !errors.Is(err, ErrWrongKey) || !SameKey(k.Public(), m.key.Public()) {
		t.Errorf("a key that is open is taken for another one: %v", err)
	}
	k = keyOn(m, &pinSource{})
	if err := k.Expect(other); err != nil {
		t.Fatal(err)
	}
	if err := k.Check(t.Context()); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key than the certificate's: %v", err)
	}
}

func TestWrongPINIsSentOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin")
	write := func(pin string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(pin+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := newToken(t)
	m.pin = "right"
	k := keyOn(m, &pinSource{path: file})
	write("wrong")
	for range 5 {
		if err := k.Check(t.Context()); err == nil {
			t.Fatal("a wrong PIN opens")
		} else if _, ok := errors.AsType[*PINError](err); !ok {
			t.Fatal(err)
		}
		if err := signs(k); err == nil {
			t.Fatal("a wrong PIN signs")
		}
	}
	if m.tried != 1 {
		t.Errorf("%d PINs were sent, want 1", m.tried)
	}
	write("right")
	if err := k.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if m.tried != 2 {
		t.Errorf("%d PINs were sent, want 2", m.tried)
	}
}

func TestMediumThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newToken(t)
		k := keyOn(m, &pinSource{})
		if err := k.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.hangs = make(chan struct{})
		began := time.Now()
		if err := signs(k); !errors.Is(err, ErrAbsent) || time.Since(began) != signTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := signs(k); !errors.Is(err, ErrAbsent) || time.Since(began) != signTimeout {
			t.Errorf("the next one waits: %v after %v", err, time.Since(began))
		}
		close(m.hangs)
		synctest.Wait()
		if err := errors.Join(k.Check(t.Context()), signs(k), k.Close()); err != nil {
			t.Error(err)
		}
		if err := signs(k); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if m.opened != m.closed {
			t.Errorf("opened %d times, closed %d", m.opened, m.closed)
		}
	})
}

// The lamps ask Lost: a medium that hangs is to be known there although nobody has
// held a card to the reader.
func TestMediumThatHangsIsKnownBeforeSomebodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newToken(t)
		k := keyOn(m, &pinSource{})
		if err := k.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.hangs = make(chan struct{})
		checked := make(chan error)
		go func() { checked <- k.Check(t.Context()) }()
		time.Sleep(signTimeout + time.Millisecond)
		if err := k.Lost(); !errors.Is(err, ErrAbsent) {
			t.Errorf("the key is lost because of %v", err)
		}
		close(m.hangs)
		if err := errors.Join(<-checked, k.Lost(), signs(k), k.Close()); err != nil {
			t.Errorf("it answers again: %v", err)
		}
	})
}
