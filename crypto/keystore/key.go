package keystore

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// How long a medium may take. A card needs up to 600 ms for a signature with
// RSA-2048; what takes longer than this is broken, and calls into a PKCS #11
// module cannot be cut short.
const (
	signTimeout = 3 * time.Second
	openTimeout = 20 * time.Second
)

// A Key is a private key on a medium that may come and go. It is a
// crypto.Signer; its methods may be called from several goroutines, and the
// medium sees one call after the other.
//
//	         sign or Check: the medium fails
//	open ──────────────────────────────────────▶ lost
//	 ▲                                            │
//	 └── Check: the medium is there again, ◀──────┘
//	     with the same key
//
// A lost key signs nothing, and says why, at once: nobody at a gate waits until
// a token is found. A PIN that was called wrong keeps the key lost until the
// pin-source holds another one.
type Key struct {
	uri     URI
	purpose Purpose
	open    func(context.Context) (session, error)

	turn turn // taken while the medium is used

	mu     sync.Mutex
	public crypto.PublicKey // nil until it is known
	why    error            // the key is lost; nil: it is open

	session session // nil: lost. Belongs to whoever has the turn
	closed  bool    // the same
}

// ErrClosed says that the key was closed.
var ErrClosed = errors.New("key is closed")

// errNotOpen is why a key is lost that nobody has opened yet.
var errNotOpen = errors.New("not opened yet")

// Signer makes a key of the URI, lost until Check opens it: a program that has to
// start while a token is missing can.
func (s *Store) Signer(uri string, p Purpose) (*Key, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p == Wrap {
		return nil, fmt.Errorf("opening signing key %s: purpose %q: %w", u, p, ErrWrongPurpose)
	}
	pins := s.pins(u)
	k := &Key{uri: u, purpose: p, turn: make(turn, 1), why: errNotOpen}
	k.open = func(ctx context.Context) (session, error) {
		pins.key = k.Public()
		var opened session
		err := pins.alone(ctx, func() (err error) {
			opened, err = s.medium(u).open(ctx, u, p, pins)
			return err
		})
		return opened, err
	}
	return k, nil
}

// Expect says which key the medium must hold, where that is known from elsewhere,
// such as a certificate. The error is ErrWrongKey when the key is known to be
// another one: it stays what it is.
func (k *Key) Expect(public crypto.PublicKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.public != nil && !SameKey(k.public, public) {
		return k.wrap("expecting", ErrWrongKey)
	}
	k.public = public
	return nil
}

// Public is the public half: nil for a key that was never open, unless Expect
// was told.
func (k *Key) Public() crypto.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.public
}

// URI is where the key lies.
func (k *Key) URI() URI { return k.uri }

// Lost is why the key cannot sign now, nil when it can.
func (k *Key) Lost() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.why
}

// Sign implements crypto.Signer. RSA keys sign PKCS #1 v1.5, and PSS with a salt
// as long as the hash; keys on a curve give an ASN.1 signature. A lost key gives
// ErrAbsent, or whatever else it is lost for. rand is not used: a medium has its
// own. Sign takes 3 s at most.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	if why := k.Lost(); why != nil {
		return nil, k.wrap("signing with", why)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), signTimeout, errSlow)
	defer cancel()
	got := make(chan []byte, 1)
	err = k.turn.use(ctx, func(ctx context.Context) error {
		if k.session == nil {
			return k.Lost()
		}
		opts, err := signable(k.session.Public(), digest, opts)
		if err != nil {
			return err
		}
		signature, err := k.session.sign(ctx, digest, opts)
		if err == nil {
			got <- signature
			return nil
		}
		if !errors.Is(err, ErrCannot) && !errors.Is(err, ErrWrongKeyType) {
			k.lose(err)
		}
		return err
	})
	if errors.Is(err, errSlow) {
		k.slow()
	}
	if err != nil {
		return nil, k.wrap("signing with", err)
	}
	return <-got, nil
}

// Prove has the key sign fresh random bytes, verifies the signature with its public
// half, and tells how long the signature took. The error is ErrSignature when it does
// not verify.
func (k *Key) Prove() (took time.Duration, err error) {
	challenge := make([]byte, 32)
	rand.Read(challenge)
	message := append([]byte("gate-agent/key-proof/v1\x00"), challenge...)
	began := time.Now()
	signature, err := SignMessage(k, message)
	took = time.Since(began)
	if err != nil {
		return 0, err
	}
	if err := VerifyMessage(k.Public(), message, signature); err != nil {
		return 0, k.wrap("checking a signature of", err)
	}
	return took, nil
}

// errSlow says that a medium took too long.
var errSlow = fmt.Errorf("%w: no answer in time", ErrAbsent)

// slow has the key lost whatever becomes of the call that takes so long: nobody
// else waits for it.
func (k *Key) slow() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.why = errSlow
}

// Check asks the medium whether the key can still be used, and opens it anew when
// it was lost. The error says why it cannot be used now. Check spends no try of a
// PIN twice, so it may be called as often as one likes.
func (k *Key) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	err := k.turn.use(ctx, func(ctx context.Context) error {
		if k.closed {
			return ErrClosed
		}
		if k.session != nil {
			late := time.AfterFunc(signTimeout, k.slow) // known before somebody's tap finds out
			err := k.session.alive(ctx)
			late.Stop()
			if err == nil {
				k.mu.Lock()
				defer k.mu.Unlock()
				k.why = nil // it was slow once
				return nil
			}
			k.lose(err)
		}
		session, err := k.open(ctx)
		if err == nil {
			err = k.found(session)
		}
		if err != nil {
			k.lose(err)
		}
		return err
	})
	if err != nil {
		return k.wrap("opening", err)
	}
	return nil
}

// found takes over a session that was opened.
func (k *Key) found(s session) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.public != nil && !SameKey(k.public, s.Public()) {
		return errors.Join(wrongKey(s.Public(), k.public), s.close())
	}
	k.session, k.public, k.why = s, s.Public(), nil
	return nil
}

// SameKey reports whether two public halves are of one key.
func SameKey(a, b crypto.PublicKey) bool {
	x, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && x.Equal(b)
}

// lose closes the session, if there is one, and remembers why.
func (k *Key) lose(why error) {
	if k.session != nil {
		_ = k.session.close() // it has failed already
		k.session = nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.why = why
}

// Exportable tries to take the private key out of the medium, and reports whether
// that is possible.
func (k *Key) Exportable(ctx context.Context) (exportable bool, err error) {
	got := make(chan bool, 1)
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	err = k.turn.use(ctx, func(ctx context.Context) error {
		if k.session == nil {
			return k.Lost()
		}
		exportable, err := k.session.exportable(ctx)
		got <- exportable
		return err
	})
	if err != nil {
		return false, k.wrap("trying to export", err)
	}
	return <-got, nil
}

// Close lets the medium go. It waits 3 s for what is under way.
func (k *Key) Close() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), signTimeout, errSlow)
	defer cancel()
	err := k.turn.use(ctx, func(context.Context) error {
		var err error
		if k.session != nil {
			err = k.session.close()
			k.session = nil
		}
		k.closed = true
		k.mu.Lock()
		defer k.mu.Unlock()
		k.why = ErrClosed
		return err
	})
	if err != nil {
		return k.wrap("closing", err)
	}
	return nil
}

func (k *Key) wrap(doing string, err error) error {
	return fmt.Errorf("%s %s key %s: %w", doing, k.purpose, k.uri, err)
}

// Format writes the same words for every verb: fmt looks into unexported
// fields otherwise.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, "keystore: private key") }
