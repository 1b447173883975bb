package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// with calls f with a session of its own. Calls into a module cannot be cut
// short: when ctx ends with returns, and f goes on.
func with[T any](ctx context.Context, m pkcs11Medium, u URI, flags uint, pins *pinSource, f func(*p11Session) (T, error)) (T, error) {
	return within(ctx, func(ctx context.Context) (got T, err error) {
		err = m.session(ctx, u, flags, pins, func(s *p11Session) (keep bool, err error) {
			got, err = f(s)
			return false, err
		})
		return got, err
	})
}

// do is with for an f that gives nothing.
func (m pkcs11Medium) do(ctx context.Context, u URI, flags uint, pins *pinSource, f func(*p11Session) error) error {
	_, err := with(ctx, m, u, flags, pins, func(s *p11Session) (struct{}, error) { return struct{}{}, f(s) })
	return err
}

func (m pkcs11Medium) generate(ctx context.Context, u URI, p Purpose, t KeyType, pins *pinSource) (crypto.PublicKey, error) {
	return with(ctx, m, u, pkcs11.CKF_RW_SESSION, pins, func(s *p11Session) (crypto.PublicKey, error) {
		n, err := s.newName(u, string(p), pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY)
		if err != nil {
			return nil, err
		}
		public, private := n.public(), n.private()
		var mechanism uint
		switch t {
		case RSA2048:
			mechanism = pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN
			public = append(public,
				pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 2048),
				pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
		case P256, P384, Ed25519:
			mechanism = pkcs11.CKM_EC_KEY_PAIR_GEN
			if t == Ed25519 {
				mechanism = ckmECEdwardsKeyPairGen
			}
			params, err := ecParams(t)
			if err != nil {
				return nil, err
			}
			public = append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params))
		}
		if !s.can(mechanism) {
			return nil, fmt.Errorf("%w: %s makes no %s keys", ErrCannot, s.name(), t)
		}
		pub, priv, err := s.c.GenerateKeyPair(s.sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
		if err != nil {
			return nil, p11Error("making the key", err)
		}
		key, err := s.keyObject(pub)
		if err != nil {
			return nil, errors.Join(err, s.remove(priv, pub))
		}
		return key, nil
	})
}

// importKey makes objects of a key. What was outside once may have been copied:
// the token says so for ever (CKA_LOCAL, CKA_NEVER_EXTRACTABLE are false), and
// keeps the key in from now on.
func (m pkcs11Medium) importKey(ctx context.Context, u URI, p Purpose, key crypto.Signer, pins *pinSource) error {
	return m.do(ctx, u, pkcs11.CKF_RW_SESSION, pins, func(s *p11Session) error {
		n, err := s.newName(u, string(p), pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY)
		if err != nil {
			return err
		}
		public, private, err := components(key)
		if err != nil {
			return err
		}
		defer func() {
			for _, a := range private {
				clear(a.Value)
			}
		}()
		o, err := s.c.CreateObject(s.sh, append(n.private(), private...))
		if err != nil {
			return p11Error("storing the private key", err)
		}
		if _, err := s.c.CreateObject(s.sh, append(n.public(), public...)); err != nil {
			return errors.Join(p11Error("storing the public key", err), s.remove(o))
		}
		return nil
	})
}

// components are the attributes of a key (§2.1.2, §2.1.3, §2.3.3, §2.3.4).
func components(key crypto.Signer) (public, private []*pkcs11.Attribute, err error) {
	attr := pkcs11.NewAttribute
	switch k := key.(type) {
	case *rsa.PrivateKey:
		k.Precompute()
		typ := attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA)
		n, e := attr(pkcs11.CKA_MODULUS, k.N.Bytes()), attr(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(k.E)).Bytes())
		if len(k.Primes) != 2 {
			return nil, nil, fmt.Errorf("%w: RSA key of %d primes", ErrWrongKeyType, len(k.Primes))
		}
		return []*pkcs11.Attribute{typ, n, e}, []*pkcs11.Attribute{
			typ, n, e,
			attr(pkcs11.CKA_PRIVATE_EXPONENT, k.D.Bytes()),
			attr(pkcs11.CKA_PRIME_1, k.Primes[0].Bytes()), attr(pkcs11.CKA_PRIME_2, k.Primes[1].Bytes()),
			attr(pkcs11.CKA_EXPONENT_1, k.Precomputed.Dp.Bytes()), attr(pkcs11.CKA_EXPONENT_2, k.Precomputed.Dq.Bytes()),
			attr(pkcs11.CKA_COEFFICIENT, k.Precomputed.Qinv.Bytes()),
		}, nil
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil {
			return nil, nil, err
		}
		secret, err := k.Bytes()
		if err != nil {
			return nil, nil, err
		}
		return curveComponents(pkcs11.CKK_EC, k, point, secret)
	case ed25519.PrivateKey:
		return curveComponents(ckkECEdwards, k, k.Public().(ed25519.PublicKey), k.Seed())
	}
	return nil, nil, fmt.Errorf("%w: a key of type %T does not leave where it is", ErrCannot, key)
}

func curveComponents(typ uint, key crypto.Signer, point, secret []byte) (public, private []*pkcs11.Attribute, err error) {
	t, err := typeOf(key)
	if err != nil {
		return nil, nil, err
	}
	params, err := ecParams(t)
	if err != nil {
		return nil, nil, err
	}
	if point, err = asn1.Marshal(point); err != nil {
		return nil, nil, err
	}
	both := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, typ), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)}
	return append(both[:2:2], pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, point)),
		append(both[:2:2], pkcs11.NewAttribute(pkcs11.CKA_VALUE, secret)), nil
}

// ecParams is CKA_EC_PARAMS of a curve.
func ecParams(t KeyType) ([]byte, error) {
	switch t {
	case P256:
		return asn1.Marshal(oidP256)
	case P384:
		return asn1.Marshal(oidP384)
	}
	return asn1.MarshalWithParams(curveNameEdwards25519, "printable")
}

// A p11Name is what new objects are called.
type p11Name struct {
	id    []byte
	label string
}

// newName is what u says that a new key is called: a random CKA_ID where u says
// none, other for a label where u says none. An object of these classes that has
// the id or the label already is ErrExists.
func (s *p11Session) newName(u URI, other string, classes ...uint) (p11Name, error) {
	n := p11Name{id: u.id(), label: u.Get("object")}
	if n.id == nil {
		n.id = make([]byte, 16)
		rand.Read(n.id)
	}
	if n.label == "" {
		n.label = other
	}
	for _, class := range classes {
		for _, a := range []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, n.id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, n.label)} {
			all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), a)
			if err != nil {
				return n, err
			}
			if len(all) > 0 {
				return n, fmt.Errorf("%w: %s has a key with id=%x or object=%s", ErrExists, s.name(), n.id, n.label)
			}
		}
	}
	return n, nil
}

func (n p11Name) attributes(class uint, private bool) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, private),
		pkcs11.NewAttribute(pkcs11.CKA_ID, n.id),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, n.label),
	}
}

// secret are the attributes of what does not leave the token.
func (n p11Name) secret(class uint) []*pkcs11.Attribute {
	return append(n.attributes(class, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false))
}

// private and public are those of a pair that signs and does nothing else.
func (n p11Name) private() []*pkcs11.Attribute {
	return append(n.secret(pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false))
}

func (n p11Name) public() []*pkcs11.Attribute {
	return append(n.attributes(pkcs11.CKO_PUBLIC_KEY, false),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false))
}

// destroy removes the private key first, and then what shows its public half:
// the public key object, and certificates with the same id. Left behind they
// would be taken for those of the next key with that id.
func (m pkcs11Medium) destroy(ctx context.Context, u URI, p Purpose, public crypto.PublicKey, pins *pinSource) error {
	return m.do(ctx, u, pkcs11.CKF_RW_SESSION, pins, func(s *p11Session) error {
		if p == Wrap {
			o, err := s.keyOf(u, pkcs11.CKO_SECRET_KEY, pkcs11.CKA_ENCRYPT)
			if err != nil {
				return err
			}
			return s.remove(o)
		}
		private, err := s.keyOf(u, pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_SIGN)
		if err != nil {
			return err
		}
		got, err := s.public(private)
		if err != nil {
			return err
		}
		if !SameKey(public, got) {
			return ErrWrongKey
		}
		shows, err := s.showing(private, public)
		if err != nil {
			return err
		}
		return s.remove(append([]pkcs11.ObjectHandle{private}, shows...)...)
	})
}

// showing lists the public key objects and certificates that have the id of a
// private key and its public half.
func (s *p11Session) showing(private pkcs11.ObjectHandle, public crypto.PublicKey) (shows []pkcs11.ObjectHandle, err error) {
	id, err := s.attribute(private, pkcs11.CKA_ID)
	if err != nil || len(id) == 0 {
		return nil, err
	}
	for _, class := range publicClasses {
		all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
		if err != nil {
			return nil, err
		}
		for _, o := range all {
			if got, err := s.shownBy(class, o); err == nil && SameKey(public, got) {
				shows = append(shows, o)
			}
		}
	}
	return shows, nil
}

// remove destroys objects one after the other, and stops at the first that stays.
func (s *p11Session) remove(all ...pkcs11.ObjectHandle) error {
	for _, o := range all {
		if err := s.c.DestroyObject(s.sh, o); err != nil {
			return p11Error("destroying an object", err)
		}
	}
	return nil
}
