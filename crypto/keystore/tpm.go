package keystore

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// tpmMedium keeps keys in a TPM 2.0, as persistent objects of the owner hierarchy
// (TPM 2.0 Library, parts 1 to 3, revision 1.59). The TPM does not know what a key
// is for.
type tpmMedium struct{ devices *tpmDevices }

func (m tpmMedium) open(ctx context.Context, u URI, _ Purpose, pins *pinSource) (session, error) {
	c, err := m.devices.connect(u.Get("device"))
	if err != nil {
		return nil, err
	}
	k := &tpmKey{conn: c}
	err = c.do(ctx, func() (err error) {
		if k.tpmObject, err = readObject(c, tpmHandle(u)); err != nil {
			return err
		}
		if k.public, _, err = k.signer(); err != nil {
			return err
		}
		if k.auth, err = authOf(c, k.tpmObject, u, pins); err != nil || !k.auth.doubtful() {
			return err
		}
		// Nobody knows what has this digest, and nobody sees the signature.
		digest := make([]byte, crypto.SHA256.Size())
		rand.Read(digest)
		if _, err := k.command(digest, crypto.SHA256); err != nil {
			return err
		}
		return k.auth.accepted(c)
	})
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// A tpmKey is a persistent signing key. Nothing of it is loaded between two
// signatures.
type tpmKey struct {
	*tpmObject
	conn   *tpmConn
	public crypto.PublicKey
	auth   *tpmAuth // nil: not read
}

func (k *tpmKey) Public() crypto.PublicKey { return k.public }

func (k *tpmKey) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	err = k.conn.do(ctx, func() error {
		signature, err = k.command(digest, opts)
		return err
	})
	return signature, err
}

// command is TPM2_Sign (part 3, §20.2). The caller has the connection.
func (k *tpmKey) command(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	key := k.with(tpm2.PasswordAuth(nil))
	if k.auth.value != nil {
		salt, err := k.conn.storageKey()
		if err != nil {
			return nil, err
		}
		key = k.with(authSession(salt, k.auth.value))
	}
	rsp, err := tpm2.Sign{
		KeyHandle:  key,
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   k.scheme(opts),
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck}, // of no hierarchy: hashed outside
	}.Execute(k.conn)
	switch {
	case errors.Is(err, tpm2.TPMRCScheme), errors.Is(err, tpm2.TPMRCHash):
		return nil, fmt.Errorf("%w: TPM2_Sign: %w", ErrCannot, err)
	case err != nil:
		return nil, k.auth.failed(k.conn, "TPM2_Sign", err)
	}
	return k.signature(digest, opts, rsp.Signature)
}

func (k *tpmKey) scheme(opts crypto.SignerOpts) (s tpm2.TPMTSigScheme) {
	hash := map[crypto.Hash]tpm2.TPMIAlgHash{
		crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512,
	}[opts.HashFunc()]
	_, isPSS := opts.(*rsa.PSSOptions)
	_, isRSA := k.public.(*rsa.PublicKey)
	switch {
	case isPSS:
		s.Scheme = tpm2.TPMAlgRSAPSS
	case isRSA:
		s.Scheme = tpm2.TPMAlgRSASSA
	default:
		s.Scheme = tpm2.TPMAlgECDSA
	}
	s.Details = tpm2.NewTPMUSigScheme(s.Scheme, &tpm2.TPMSSchemeHash{HashAlg: hash})
	return s
}

// signature gives the signature in the form that crypto.Signer promises.
func (k *tpmKey) signature(digest []byte, opts crypto.SignerOpts, s tpm2.TPMTSignature) ([]byte, error) {
	switch s.SigAlg {
	case tpm2.TPMAlgRSASSA:
		v, err := s.Signature.RSASSA()
		if err != nil {
			return nil, fmt.Errorf("TPM2_Sign: %w", err)
		}
		return v.Sig.Buffer, nil
	case tpm2.TPMAlgRSAPSS:
		v, err := s.Signature.RSAPSS()
		if err != nil {
			return nil, fmt.Errorf("TPM2_Sign: %w", err)
		}
		// Whether the salt is as long as the hash or as long as it can be is the
		// TPM's choice (part 1, annex B.7), and verifiers of ours want the first.
		if !verifies(k.public, digest, opts, v.Sig.Buffer) {
			return nil, fmt.Errorf("%w: this TPM makes PSS with a salt that is not as long as the hash", ErrCannot)
		}
		return v.Sig.Buffer, nil
	}
	v, err := s.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("TPM2_Sign: %w", err)
	}
	return ecdsaSignature(v.SignatureR.Buffer, v.SignatureS.Buffer)
}

func (k *tpmKey) alive(ctx context.Context) error {
	return k.conn.do(ctx, func() error {
		if err := k.unchanged(k.conn); err != nil || k.auth.noDA {
			return err
		}
		d, err := readDictionary(k.conn)
		if err == nil && d.locked() {
			err = &PINError{Medium: k.auth.medium, Locked: true}
		}
		return err
	})
}

// unchanged reports whether the object is still at its handle.
func (o *tpmObject) unchanged(t transport.TPM) error {
	now, err := readObject(t, o.handle)
	if err == nil && string(now.name.Buffer) != string(o.name.Buffer) {
		err = ErrWrongKey
	}
	return err
}

// exportable looks at what the TPM promises of the key (part 2, §8.3), and tries
// TPM2_Duplicate without a new parent, which would give the key out in clear.
//
//	fixedTPM                  it never leaves, nor does any parent of it
//	fixedParent, not fixedTPM it leaves together with a parent
//	neither                   it leaves for whoever satisfies its policy;
//	                          nobody can satisfy an empty one
//
// encryptedDuplication changes only how it leaves. A key without
// sensitiveDataOrigin was outside before it came here: that is not asked here.
func (k *tpmKey) exportable(ctx context.Context) (exportable bool, err error) {
	err = k.conn.do(ctx, func() error {
		now, err := readObject(k.conn, k.handle)
		if err != nil {
			return err
		}
		a := now.area.ObjectAttributes
		exportable = !a.FixedTPM && (a.FixedParent || len(now.area.AuthPolicy.Buffer) > 0)
		rsp, err := tpm2.Duplicate{
			ObjectHandle: now.with(tpm2.Policy(now.area.NameAlg, 16, func(t transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
				_, err := tpm2.PolicyCommandCode{PolicySession: session, Code: tpm2.TPMCCDuplicate}.Execute(t)
				return err
			})),
			NewParentHandle: tpm2.TPMRHNull,
			Symmetric:       tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
		}.Execute(k.conn)
		if err == nil {
			clear(rsp.Duplicate.Buffer)
			exportable = true
			return nil
		}
		if broken := k.conn.why(); broken != nil {
			return broken
		}
		return nil // refused, as it should be
	})
	return exportable, err
}

func (k *tpmKey) close() error {
	if k.auth != nil {
		k.auth.forget()
	}
	return k.conn.release()
}
