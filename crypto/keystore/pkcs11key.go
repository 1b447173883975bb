package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// A p11Key is a private key on a token.
type p11Key struct {
	*p11Session
	key    pkcs11.ObjectHandle
	public crypto.PublicKey

	// always: the token wants the PIN for each signature (CKA_ALWAYS_AUTHENTICATE),
	// as PIV cards do for one of their keys. It is read from its source each time.
	always bool
}

// open signs once: the public half may come from another object than the key,
// and whoever wrote the two may have mixed them up, or loaded a certificate beside
// the wrong key. On a card that costs half a second when the key is opened, and
// then it is known that the key signs before somebody stands at the gate.
func (m pkcs11Medium) open(ctx context.Context, u URI, _ Purpose, pins *pinSource) (session, error) {
	var k *p11Key
	err := m.session(ctx, u, 0, pins, func(s *p11Session) (keep bool, err error) {
		if k, err = s.privateKey(u); err == nil {
			err = k.tryOut(ctx)
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (s *p11Session) privateKey(u URI) (*p11Key, error) {
	k := &p11Key{p11Session: s}
	var err error
	if k.key, err = s.keyOf(u, pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_SIGN); err != nil {
		return nil, err
	}
	if k.public, err = s.public(k.key); err != nil {
		return nil, err
	}
	always, err := s.attribute(k.key, pkcs11.CKA_ALWAYS_AUTHENTICATE)
	k.always = isTrue(always)
	return k, err
}

// tryOut signs something and verifies it.
func (k *p11Key) tryOut(ctx context.Context) error {
	hash, err := messageHash(k.public)
	if err != nil {
		return err
	}
	digest := digestOf(hash, []byte("gate-agent: which key is this?"))
	signature, err := k.sign(ctx, digest, hash)
	if err != nil {
		return fmt.Errorf("signing to try the key out: %w", err)
	}
	if !verifies(k.public, digest, hash, signature) {
		return fmt.Errorf("%w: the public key or certificate beside the private key belongs to another one", ErrNoKey)
	}
	return nil
}

func (k *p11Key) Public() crypto.PublicKey { return k.public }

// pss is the mechanism of RSA-PSS for a hash, with a salt as long as it.
func pss(h crypto.Hash) *pkcs11.Mechanism {
	hash, mgf := uint(pkcs11.CKM_SHA256), uint(pkcs11.CKG_MGF1_SHA256)
	switch h {
	case crypto.SHA384:
		hash, mgf = pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384
	case crypto.SHA512:
		hash, mgf = pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512
	}
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(hash, mgf, uint(h.Size())))
}

func (k *p11Key) sign(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if _, ok := opts.(*rsa.PSSOptions); ok {
			return k.raw(pss(opts.HashFunc()), digest)
		}
		// The token adds the padding alone.
		return k.raw(pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), digestInfo(opts.HashFunc(), digest))
	case ed25519.PublicKey:
		return k.raw(pkcs11.NewMechanism(ckmEdDSA, nil), digest)
	case *ecdsa.PublicKey:
		size := (public.Params().N.BitLen() + 7) / 8
		// The leftmost bits of a longer digest count (FIPS 186-5 §6.4.1): not every
		// token cuts it.
		rs, err := k.raw(pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest[:min(len(digest), size)])
		if err != nil {
			return nil, err
		}
		if len(rs) == 0 || len(rs)%2 != 0 {
			return nil, fmt.Errorf("%s gave an ECDSA signature of %d bytes, want %d", k.name(), len(rs), 2*size)
		}
		return ecdsaSignature(rs[:len(rs)/2], rs[len(rs)/2:])
	}
	return nil, ErrWrongKeyType // open has refused it
}

// raw signs with a mechanism.
func (k *p11Key) raw(m *pkcs11.Mechanism, data []byte) ([]byte, error) {
	if !k.can(m.Mechanism) {
		return nil, fmt.Errorf("%w: %s has no mechanism 0x%X", ErrCannot, k.name(), m.Mechanism)
	}
	if err := k.c.SignInit(k.sh, []*pkcs11.Mechanism{m}, k.key); err != nil {
		if is(err, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID) {
			return nil, fmt.Errorf("%w: mechanism 0x%X: %w", ErrCannot, m.Mechanism, err)
		}
		if is(err, pkcs11.CKR_USER_NOT_LOGGED_IN) && !k.loggedIn {
			return nil, fmt.Errorf("%w: the key on %s signs after a login only: name the file of the PIN in ?pin-source=", ErrKeySource, k.name())
		}
		return nil, p11Error("beginning a signature", err)
	}
	if k.always {
		if err := k.login(pkcs11.CKU_CONTEXT_SPECIFIC); err != nil {
			return nil, err
		}
	}
	signature, err := k.c.Sign(k.sh, data)
	if err != nil {
		return nil, p11Error("signing", err)
	}
	return signature, nil
}

// exportable asks for the private part, wraps the key under a key of its own, and
// makes a copy that is to be readable. A token that does nothing of it, and says
// that the key may leave it, counts as one that gives it away: it may know a way
// that this does not.
func (k *p11Key) exportable(context.Context) (bool, error) {
	leaves, err := k.attribute(k.key, pkcs11.CKA_EXTRACTABLE)
	if err != nil || isTrue(leaves) {
		return isTrue(leaves), err
	}
	if shown, err := k.shown(k.key); shown || err != nil {
		return shown, err
	}
	if wrapped, err := k.wrapped(); wrapped || err != nil {
		return wrapped, err
	}
	return k.copied()
}

// shown reads the private part of an object.
func (k *p11Key) shown(o pkcs11.ObjectHandle) (bool, error) {
	for _, typ := range []uint{pkcs11.CKA_PRIVATE_EXPONENT, pkcs11.CKA_PRIME_1, pkcs11.CKA_VALUE} {
		v, err := k.attribute(o, typ)
		clear(v)
		if len(v) > 0 || err != nil {
			return len(v) > 0, err
		}
	}
	return false, nil
}

// wrapped takes the key out under an AES key that lives as long as the session.
func (k *p11Key) wrapped() (wrapped bool, err error) {
	wrap, err := k.c.GenerateKey(k.sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
	})
	if err != nil {
		return false, refusal("making a wrapping key", err)
	}
	defer func() { err = errors.Join(err, k.c.DestroyObject(k.sh, wrap)) }()
	for _, m := range []*pkcs11.Mechanism{
		pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil),
		pkcs11.NewMechanism(ckmAESKeyWrapKWP, nil),
		pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil),
		pkcs11.NewMechanism(pkcs11.CKM_AES_CBC_PAD, make([]byte, 16)),
	} {
		b, err := k.c.WrapKey(k.sh, []*pkcs11.Mechanism{m}, wrap, k.key)
		clear(b)
		if err == nil {
			return true, nil
		}
		if err := refusal("wrapping the key", err); err != nil {
			return false, err
		}
	}
	return false, nil
}

// copied asks for a copy of the key without its protection.
func (k *p11Key) copied() (copied bool, err error) {
	o, err := k.c.CopyObject(k.sh, k.key, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	})
	if err != nil {
		return false, refusal("copying the key", err)
	}
	defer func() { err = errors.Join(err, k.c.DestroyObject(k.sh, o)) }()
	return k.shown(o)
}

// refusal is nil for an error that means no, and the error where the token is gone.
// CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED are how some modules say no.
func refusal(doing string, err error) error {
	if is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED) {
		return nil
	}
	if err = p11Error(doing, err); errors.Is(err, ErrAbsent) {
		return err
	}
	return nil
}
