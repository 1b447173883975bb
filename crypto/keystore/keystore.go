// Package keystore opens private keys and the secrets that wrap small
// secrets, wherever they are kept, behind one URI.
//
// A private key comes out as a crypto.Signer and never as bytes. A key is for
// one purpose, and a medium that disappears and returns is opened anew without
// anybody's help. A PIN that a medium has called wrong is never sent to it a
// second time.
//
// The URI follows the shape of RFC 7512 (the PKCS #11 URI scheme): a scheme
// names the medium, attributes say where on it:
//
//	sealed:path=/var/lib/gate-agent/ea.pem;key-source=/run/credentials/gate-agent/seal
//	pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=gate-1;object=external-auth?pin-source=/run/credentials/gate-agent/pin
//	scard:reader=SAM%2000%2000;aid=D392F000260100000001;key=17?pin-source=/run/credentials/gate-agent/pin
//	tpm:device=/dev/tpmrm0;handle=81000010
//
// docs/keystore.md describes them, docs/keys.md compares them. What a medium
// protects against differs much; [CustodyOf] says it in a sentence that a program
// prints when it starts.
package keystore

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/nfc"
)

// A Purpose is what a key is for: 1 to 32 of a–z, 0–9 and hyphen. A key for
// one purpose does not open for another, where the medium keeps the purpose
// with the key (sealed:).
type Purpose string

const (
	ExternalAuth Purpose = "external-auth" // the terminal proves itself to a card
	Identity     Purpose = "identity"      // signs what the terminal reports, such as a registration
	Checkpoint   Purpose = "checkpoint"    // signs heads of the terminal's journal
	List         Purpose = "list"          // signs lists
	Wrap         Purpose = "wrap"          // wraps small secrets; only for OpenWrapper
)

func (p Purpose) check() error {
	if len(p) < 1 || len(p) > 32 {
		return fmt.Errorf("purpose has %d characters, want 1 to 32", len(p))
	}
	for _, c := range []byte(p) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("purpose %q: want only a–z, 0–9 and hyphen", string(p))
		}
	}
	return nil
}

// A Wrapper seals small secrets, such as the key of a scope, so that they can
// lie on a disk. The label is authenticated and not stored: what was wrapped
// under one label does not unwrap under another.
type Wrapper interface {
	// Wrap seals 1 to 4096 bytes under a label of 1 to 255 bytes.
	Wrap(secret []byte, label string) ([]byte, error)

	// Unwrap opens what Wrap made. The error is ErrWrongSecret when the blob
	// belongs to another wrapper or label or was changed, ErrDamaged when it
	// has not the form of a blob.
	Unwrap(blob []byte, label string) ([]byte, error)

	// Close lets the medium go.
	Close() error
}

// A Store opens keys. The zero value serves every medium but scard:. Its methods
// return when their context ends, also from a medium that hangs; they may be called from several goroutines; it must not be copied after its first use.
type Store struct {
	// Card powers and connects the card in a reader, exclusively. nil: this
	// program has no readers.
	Card func(ctx context.Context, reader string) (Card, error)

	// RetryPIN sends a PIN also to a medium that has seen a wrong one since the
	// last right one, once. It is for a person who has corrected the pin-source,
	// never for a program that starts by itself: started again and again it
	// would lock the token.
	RetryPIN bool

	modules p11Modules
	tpms    tpmDevices
}

// A Card is a powered card that holds a key. Release removes power from it.
type Card interface {
	nfc.Transmitter
	Release() error
}

// A medium is where keys are kept: one for each scheme of a URI. What not every
// medium has is asked for by the interfaces below.
type medium interface {
	// open opens the private key at u for a purpose. PINs are asked of pins.
	open(ctx context.Context, u URI, p Purpose, pins *pinSource) (session, error)
}

type (
	wrapMedium interface {
		openWrapper(ctx context.Context, u URI, pins *pinSource) (Wrapper, error)
		generateWrapper(ctx context.Context, u URI, pins *pinSource) error
	}
	generator interface {
		generate(ctx context.Context, u URI, p Purpose, t KeyType, pins *pinSource) (crypto.PublicKey, error)
	}
	importer interface {
		importKey(ctx context.Context, u URI, p Purpose, key crypto.Signer, pins *pinSource) error
	}
	lister interface {
		list(ctx context.Context, u URI, pins *pinSource) ([]Entry, error)
	}
	destroyer interface {
		// destroy removes the key of that public half, or the wrapping secret
		// when public is nil.
		destroy(ctx context.Context, u URI, p Purpose, public crypto.PublicKey, pins *pinSource) error
	}
)

// A session is one life of a private key on its medium, for one goroutine at a
// time. An error of sign or alive, other than ErrCannot and ErrWrongKeyType, ends it:
// it is closed, and another one is opened.
type session interface {
	Public() crypto.PublicKey

	// sign is asked only for what signable allows.
	sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)

	// alive tells whether the medium is still there with the key usable,
	// without spending anything.
	alive(ctx context.Context) error

	// exportable tries to take the private key out of the medium, by every way
	// that its interface has, and reports whether it could. No secret is kept.
	exportable(ctx context.Context) (bool, error)

	close() error
}

// An Entry is a key that a medium holds.
type Entry struct {
	URI     string           // opens it
	Label   string           // what the medium calls it, "" when nothing
	Purpose Purpose          // "" where the medium does not keep it
	Type    string           // a KeyType, or what else it is
	Public  crypto.PublicKey // nil: not to be had without the PIN, or not at all
}

// Close lets go what several keys share: PKCS #11 modules and connections to TPMs.
// The keys are closed before.
func (s *Store) Close() error { return errors.Join(s.modules.close(), s.tpms.close()) }

func (s *Store) medium(u URI) medium {
	switch u.scheme {
	case "sealed":
		return sealedMedium{}
	case "pkcs11":
		return pkcs11Medium{&s.modules}
	case "scard":
		return scardMedium{s.Card}
	case "tpm":
		return tpmMedium{&s.tpms}
	}
	panic("keystore: scheme " + u.scheme) // ParseURI has checked it
}

// as asks a medium for what not every one has.
func as[T any](m medium, u URI, doing string) (T, error) {
	t, ok := m.(T)
	if !ok {
		return t, fmt.Errorf("%s %s: %w", doing, u, ErrCannot)
	}
	return t, nil
}

// OpenSigner opens the private key at uri for a purpose. It is for the start
// of a program: opening a sealed key takes about 19 MiB and, on a small ARM
// board, a good part of a second. Close the key.
func (s *Store) OpenSigner(ctx context.Context, uri string, p Purpose) (*Key, error) {
	k, err := s.Signer(uri, p)
	if err != nil {
		return nil, err
	}
	if err := k.Check(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// OpenWrapper opens the wrapping secret at uri. It costs as much as OpenSigner.
func (s *Store) OpenWrapper(ctx context.Context, uri string) (Wrapper, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	m, err := as[wrapMedium](s.medium(u), u, "opening wrapping secret")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	w, err := sending(ctx, s, u, func(ctx context.Context, pins *pinSource) (Wrapper, error) { return m.openWrapper(ctx, u, pins) })
	if err != nil {
		return nil, fmt.Errorf("opening wrapping secret %s: %w", u, err)
	}
	return w, nil
}

// sending runs f, which may send the PIN of u, as pinSource.alone says. It returns when
// ctx ends, at the latest.
func sending[T any](ctx context.Context, s *Store, u URI, f func(context.Context, *pinSource) (T, error)) (T, error) {
	pins := s.pins(u)
	return within(ctx, func(ctx context.Context) (got T, err error) {
		err = pins.alone(ctx, func() (err error) { got, err = f(ctx, pins); return err })
		return got, err
	})
}

// send is sending for what gives nothing.
func (s *Store) send(ctx context.Context, u URI, f func(context.Context, *pinSource) error) error {
	_, err := sending(ctx, s, u, func(ctx context.Context, pins *pinSource) (struct{}, error) { return struct{}{}, f(ctx, pins) })
	return err
}

// Generate makes a private key for a purpose on the medium itself, and returns
// its public half. A key that is there is never replaced.
func (s *Store) Generate(ctx context.Context, uri string, p Purpose, t KeyType) (crypto.PublicKey, error) {
	u, err := s.making(uri, p)
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil || t == secret32 {
		return nil, fmt.Errorf("%w: cannot make a signing key of type %q", ErrWrongKeyType, string(t))
	}
	m, err := as[generator](s.medium(u), u, "making key")
	if err != nil {
		return nil, err
	}
	public, err := sending(ctx, s, u, func(ctx context.Context, pins *pinSource) (crypto.PublicKey, error) {
		return m.generate(ctx, u, p, t, pins)
	})
	if err != nil {
		return nil, fmt.Errorf("making %s key %s: %w", p, u, err)
	}
	return public, nil
}

// Import puts a private key that exists already on a medium. A key that was
// once outside its medium is one that somebody may have copied.
func (s *Store) Import(ctx context.Context, uri string, p Purpose, key crypto.Signer) error {
	u, err := s.making(uri, p)
	if err != nil {
		return err
	}
	if _, err := typeOf(key); err != nil {
		return fmt.Errorf("importing %s key: %w", p, err)
	}
	m, err := as[importer](s.medium(u), u, "importing key")
	if err != nil {
		return err
	}
	if err := s.send(ctx, u, func(ctx context.Context, pins *pinSource) error { return m.importKey(ctx, u, p, key, pins) }); err != nil {
		return fmt.Errorf("importing %s key %s: %w", p, u, err)
	}
	return nil
}

// making parses the URI of a signing key that is to be made.
func (s *Store) making(uri string, p Purpose) (URI, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return u, err
	}
	if err := p.check(); err != nil {
		return u, err
	}
	if p == Wrap {
		return u, fmt.Errorf("making signing key %s: purpose %q: %w", u, p, ErrWrongPurpose)
	}
	return u, nil
}

// GenerateWrapper makes a wrapping secret. One that is there is never replaced.
func (s *Store) GenerateWrapper(ctx context.Context, uri string) error {
	u, err := ParseURI(uri)
	if err != nil {
		return err
	}
	m, err := as[wrapMedium](s.medium(u), u, "making wrapping secret")
	if err != nil {
		return err
	}
	if err := s.send(ctx, u, func(ctx context.Context, pins *pinSource) error { return m.generateWrapper(ctx, u, pins) }); err != nil {
		return fmt.Errorf("making wrapping secret %s: %w", u, err)
	}
	return nil
}

// List lists the keys of the medium that uri names; what uri says of one key is
// not looked at, and may be missing.
func (s *Store) List(ctx context.Context, uri string) ([]Entry, error) {
	u, err := ParseMedium(uri)
	if err != nil {
		return nil, err
	}
	m, err := as[lister](s.medium(u), u, "listing the keys of")
	if err != nil {
		return nil, err
	}
	entries, err := sending(ctx, s, u, func(ctx context.Context, pins *pinSource) ([]Entry, error) { return m.list(ctx, u, pins) })
	if err != nil {
		return nil, fmt.Errorf("listing the keys of %s: %w", u, err)
	}
	return entries, nil
}

// Destroy removes a private key, or with purpose Wrap a wrapping secret, for
// ever. public must be the public half of the key, so that nobody destroys
// another one than was meant; it is nil for a wrapping secret.
func (s *Store) Destroy(ctx context.Context, uri string, p Purpose, public crypto.PublicKey) error {
	u, err := ParseURI(uri)
	if err != nil {
		return err
	}
	if (p == Wrap) != (public == nil) {
		return fmt.Errorf("destroying %s: a signing key has a public half, a wrapping secret has none", u)
	}
	m, err := as[destroyer](s.medium(u), u, "destroying")
	if err != nil {
		return err
	}
	if err := s.send(ctx, u, func(ctx context.Context, pins *pinSource) error { return m.destroy(ctx, u, p, public, pins) }); err != nil {
		return fmt.Errorf("destroying %s key %s: %w", p, u, err)
	}
	return nil
}
