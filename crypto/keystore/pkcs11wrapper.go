package keystore

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// A p11Wrapper seals with an AES-256 key that stays on the token (CKM_AES_GCM,
// NIST SP 800-38D).
//
//	blob = version (1) ‖ IV (12) ‖ ciphertext ‖ tag (16)
//	associated data = "gate-agent wrapped secret v1" ‖ 00 ‖ label
//
// An IV is random; 2^32 secrets may be wrapped with one key (§8.3), more than a
// terminal ever has. Each call opens a session of its own: secrets are wrapped now
// and then, and a session between would keep the module from being restarted.
type p11Wrapper struct {
	m      pkcs11Medium
	u      URI
	pins   *pinSource
	closed atomic.Bool
}

const (
	p11WrapVersion = 2 // 1 is aeadWrapper's
	gcmIV, gcmTag  = 12, 16
)

func (m pkcs11Medium) generateWrapper(ctx context.Context, u URI, pins *pinSource) error {
	return m.do(ctx, u, pkcs11.CKF_RW_SESSION, pins, func(s *p11Session) error {
		if !s.can(pkcs11.CKM_AES_GCM) || !s.can(pkcs11.CKM_AES_KEY_GEN) {
			return fmt.Errorf("%w: %s has no AES-GCM", ErrCannot, s.name())
		}
		n, err := s.newName(u, string(Wrap), pkcs11.CKO_SECRET_KEY)
		if err != nil {
			return err
		}
		_, err = s.c.GenerateKey(s.sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, append(n.secret(pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false)))
		if err != nil {
			return p11Error("making the wrapping secret", err)
		}
		return nil
	})
}

func (m pkcs11Medium) openWrapper(ctx context.Context, u URI, pins *pinSource) (Wrapper, error) {
	w := &p11Wrapper{m: m, u: u, pins: pins}
	_, err := w.use(ctx, func(*p11Session, pkcs11.ObjectHandle) ([]byte, error) { return nil, nil })
	if err != nil {
		return nil, err
	}
	return w, nil
}

// aesKey finds the wrapping secret.
func (s *p11Session) aesKey(u URI) (pkcs11.ObjectHandle, error) {
	key, err := s.keyOf(u, pkcs11.CKO_SECRET_KEY, pkcs11.CKA_ENCRYPT)
	if err != nil {
		return 0, err
	}
	v, err := s.attributes(key, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_VALUE_LEN, pkcs11.CKA_DECRYPT)
	switch {
	case err != nil:
		return 0, err
	case ulong(v[0]) != pkcs11.CKK_AES || ulong(v[1]) != 32 || !isTrue(v[2]):
		return 0, fmt.Errorf("%w: want an AES-256 key that encrypts and decrypts", ErrWrongKeyType)
	case !s.can(pkcs11.CKM_AES_GCM):
		return 0, fmt.Errorf("%w: %s has no AES-GCM", ErrCannot, s.name())
	}
	return key, nil
}

// use calls f with a session and the key.
func (w *p11Wrapper) use(ctx context.Context, f func(*p11Session, pkcs11.ObjectHandle) ([]byte, error)) ([]byte, error) {
	if w.closed.Load() {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	return with(ctx, w.m, w.u, 0, w.pins, func(s *p11Session) ([]byte, error) {
		key, err := s.aesKey(w.u)
		if err != nil {
			return nil, err
		}
		return f(s, key)
	})
}

func (w *p11Wrapper) Wrap(secret []byte, label string) ([]byte, error) {
	if err := checkSecret(secret, label); err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	blob, err := w.use(context.Background(), func(s *p11Session, key pkcs11.ObjectHandle) ([]byte, error) {
		iv := make([]byte, gcmIV)
		rand.Read(iv)
		params, mechanism := gcm(iv, label)
		defer params.Free()
		if err := s.c.EncryptInit(s.sh, mechanism, key); err != nil {
			return nil, p11Error("beginning to encrypt", err)
		}
		sealed, err := s.c.Encrypt(s.sh, secret)
		if err != nil {
			return nil, p11Error("encrypting", err)
		}
		// Some tokens take no IV from outside, and put their own in its place.
		return append(append([]byte{p11WrapVersion}, params.IV()...), sealed...), nil
	})
	if err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	return blob, nil
}

func (w *p11Wrapper) Unwrap(blob []byte, label string) ([]byte, error) {
	if err := checkLabel(label); err != nil {
		return nil, fmt.Errorf("unwrapping a secret: %w", err)
	}
	if n := len(blob) - 1 - gcmIV - gcmTag; n < 1 || n > maxSecret || blob[0] != p11WrapVersion {
		return nil, fmt.Errorf("unwrapping a secret: %w", ErrDamaged)
	}
	secret, err := w.use(context.Background(), func(s *p11Session, key pkcs11.ObjectHandle) ([]byte, error) {
		params, mechanism := gcm(blob[1:1+gcmIV], label)
		defer params.Free()
		if err := s.c.DecryptInit(s.sh, mechanism, key); err != nil {
			return nil, p11Error("beginning to decrypt", err)
		}
		secret, err := s.c.Decrypt(s.sh, blob[1+gcmIV:])
		if err == nil {
			return secret, nil
		}
		// Modules have several words for a tag that does not fit, and
		// CKR_GENERAL_ERROR is one of them.
		if is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_ENCRYPTED_DATA_INVALID,
			pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_DATA_INVALID, ckrAEADDecryptFailed) && s.alive(context.Background()) == nil {
			return nil, ErrWrongSecret
		}
		return nil, p11Error("decrypting", err)
	})
	if err != nil {
		return nil, fmt.Errorf("unwrapping the secret of %q: %w", label, err)
	}
	return secret, nil
}

func gcm(iv []byte, label string) (*pkcs11.GCMParams, []*pkcs11.Mechanism) {
	params := pkcs11.NewGCMParams(iv, []byte(wrapLabel+label), gcmTag*8)
	return params, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}
}

func (w *p11Wrapper) Close() error {
	w.closed.Store(true)
	return nil
}

// Format, as for Key.
func (w *p11Wrapper) Format(f fmt.State, _ rune) { io.WriteString(f, "keystore: wrapping secret") }
