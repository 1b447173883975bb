package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

func (m tpmMedium) generate(ctx context.Context, u URI, _ Purpose, t KeyType, pins *pinSource) (crypto.PublicKey, error) {
	area, err := signingArea(t)
	if err != nil {
		return nil, err
	}
	area, err = m.create(ctx, u, area, pins)
	if err != nil {
		return nil, err
	}
	public, err := tpm2.Pub(area)
	if err != nil {
		return nil, fmt.Errorf("TPM2_Create: %w", err)
	}
	return public, nil
}

// generateWrapper makes a storage key: below the owner's one, not in its place,
// because the TPM would derive that one again after it was destroyed.
func (m tpmMedium) generateWrapper(ctx context.Context, u URI, pins *pinSource) error {
	area := tpm2.ECCSRKTemplate
	area.Unique = tpm2.TPMUPublicID{}
	_, err := m.create(ctx, u, area, pins)
	return err
}

// create makes a key that never leaves the TPM, and gives its public area.
func (m tpmMedium) create(ctx context.Context, u URI, area tpm2.TPMTPublic, pins *pinSource) (tpm2.TPMTPublic, error) {
	area.ObjectAttributes.FixedTPM = true
	area.ObjectAttributes.FixedParent = true
	area.ObjectAttributes.SensitiveDataOrigin = true
	err := m.put(ctx, u, &area, pins, func(c *tpmConn, parent *tpmObject, auth []byte) (tpm2.TPM2BPrivate, error) {
		rsp, err := tpm2.Create{
			ParentHandle: parent.with(authSession(parent, nil, encryptIn())),
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}, Data: noData()}},
			InPublic:     tpm2.New2B(area),
		}.Execute(c)
		if err != nil {
			return tpm2.TPM2BPrivate{}, cannotMake("TPM2_Create", err)
		}
		made, err := rsp.OutPublic.Contents()
		if err != nil {
			return tpm2.TPM2BPrivate{}, fmt.Errorf("TPM2_Create: %w", err)
		}
		area = *made
		return rsp.OutPrivate, nil
	})
	return area, err
}

func noData() tpm2.TPMUSensitiveCreate {
	return tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{})
}

// importKey sends the key encrypted to the TPM's storage key (part 1, §23.3).
func (m tpmMedium) importKey(ctx context.Context, u URI, _ Purpose, key crypto.Signer, pins *pinSource) error {
	t, err := typeOf(key)
	if err != nil {
		return err
	}
	area, err := signingArea(t)
	if err != nil {
		return err
	}
	sensitive := tpm2.TPMTSensitive{SensitiveType: area.Type}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return fmt.Errorf("%w: RSA key of %d primes", ErrCannot, len(key.Primes))
		}
		parms := &tpm2.TPMSRSAParms{KeyBits: 2048}
		if key.E != 65537 { // which a TPM writes as 0
			parms.Exponent = uint32(key.E)
		}
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, parms)
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
		prime := key.Primes[0].FillBytes(make([]byte, 128))
		defer clear(prime)
		sensitive.Sensitive = tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA, &tpm2.TPM2BPrivateKeyRSA{Buffer: prime})
	case *ecdsa.PrivateKey:
		point, err1 := key.PublicKey.Bytes() // 04 ‖ X ‖ Y
		scalar, err2 := key.Bytes()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		scalar = bytes.Clone(scalar) // it is the key's own, see crypto/ecdsa
		defer clear(scalar)
		n := len(point) / 2
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+n]}, Y: tpm2.TPM2BECCParameter{Buffer: point[1+n:]},
		})
		sensitive.Sensitive = tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: scalar})
	default:
		return fmt.Errorf("%w: the bytes of a %T are not to be had", ErrCannot, key)
	}
	return m.put(ctx, u, &area, pins, func(c *tpmConn, parent *tpmObject, auth []byte) (private tpm2.TPM2BPrivate, err error) {
		name, err := tpm2.ObjectName(&area)
		if err != nil {
			return private, err
		}
		sensitive.AuthValue.Buffer = auth
		plain := tpm2.Marshal(sensitive)
		defer clear(plain)
		to, err := tpm2.ImportEncapsulationKey(&parent.area)
		if err != nil {
			return private, err
		}
		duplicate, seed, err := tpm2.CreateDuplicate(rand.Reader, to, name.Buffer, plain)
		if err != nil {
			return private, err
		}
		rsp, err := tpm2.Import{
			ParentHandle: parent.ref(),
			ObjectPublic: tpm2.New2B(area),
			Duplicate:    tpm2.TPM2BPrivate{Buffer: duplicate},
			InSymSeed:    tpm2.TPM2BEncryptedSecret{Buffer: seed},
			Symmetric:    tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
		}.Execute(c)
		if err != nil {
			return private, cannotMake("TPM2_Import", err)
		}
		return rsp.OutPrivate, nil
	})
}

// cannotMake says what an answer to a command means that makes an object below the
// storage key.
func cannotMake(command string, err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCCurve), errors.Is(err, tpm2.TPMRCValue), errors.Is(err, tpm2.TPMRCAsymmetric):
		return fmt.Errorf("%w: %s: this TPM has not the curve or size (%w)", ErrCannot, command, err)
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return fmt.Errorf("%s: the storage key at %08X has an auth value, and this program uses an empty one (%w)", command, uint32(srkHandle), err)
	}
	return fmt.Errorf("%s: %w", command, err)
}

// put makes an object below the storage key and keeps it at the handle that u
// names. f makes it, of the area, which it may complete.
func (m tpmMedium) put(ctx context.Context, u URI, area *tpm2.TPMTPublic, pins *pinSource,
	f func(c *tpmConn, parent *tpmObject, auth []byte) (tpm2.TPM2BPrivate, error),
) error {
	h := tpmHandle(u)
	if err := notShared(h); err != nil {
		return err
	}
	auth, err := pins.auth("the TPM at " + u.Get("device"))
	if err != nil {
		return err
	}
	defer clear(auth)
	// Nobody guesses an empty auth value, and somebody who guesses at others must
	// not be able to stop this key.
	area.ObjectAttributes.NoDA = auth == nil
	return m.devices.use(ctx, u.Get("device"), func(c *tpmConn) (err error) {
		// First, and not only by TPM2_EvictControl: an RSA key takes a TPM seconds.
		if _, err := readObject(c, h); err == nil {
			return fmt.Errorf("handle %08X: %w", uint32(h), ErrExists)
		} else if !errors.Is(err, ErrNoKey) {
			return err
		}
		parent, err := c.storageKey()
		if err != nil {
			return err
		}
		private, err := f(c, parent, auth)
		if err != nil {
			return err
		}
		loaded, err := tpm2.Load{ParentHandle: parent.ref(), InPrivate: private, InPublic: tpm2.New2B(*area)}.Execute(c)
		if err != nil {
			return fmt.Errorf("TPM2_Load: %w", err)
		}
		defer func() { err = errors.Join(err, c.flush(loaded.ObjectHandle)) }()
		return evict(c, tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, h)
	})
}

// evict makes a loaded object persistent, or removes a persistent one.
func evict(c *tpmConn, o tpm2.NamedHandle, h tpm2.TPMHandle) error {
	if _, err := (tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: o, PersistentHandle: h}).Execute(c); err != nil {
		return owner("TPM2_EvictControl", err)
	}
	return nil
}

// notShared refuses the handle whose key is everybody's.
func notShared(h tpm2.TPMHandle) error {
	if h == srkHandle {
		return fmt.Errorf("%w: handle %08X belongs to the storage key that all share", ErrCannot, uint32(h))
	}
	return nil
}

func (m tpmMedium) destroy(ctx context.Context, u URI, p Purpose, public crypto.PublicKey, _ *pinSource) error {
	h := tpmHandle(u)
	if err := notShared(h); err != nil {
		return err
	}
	return m.devices.use(ctx, u.Get("device"), func(c *tpmConn) error {
		o, err := readObject(c, h)
		if err != nil {
			return err
		}
		if p == Wrap {
			if err := o.wrapper(); err != nil {
				return err
			}
		} else if has, _, err := o.signer(); err != nil {
			return err
		} else if !SameKey(public, has) {
			return ErrWrongKey
		}
		return evict(c, o.ref(), h)
	})
}

// list lists what is persistent and the owner's, of whatever kind.
func (m tpmMedium) list(ctx context.Context, u URI, _ *pinSource) (entries []Entry, err error) {
	err = m.devices.use(ctx, u.Get("device"), func(c *tpmConn) error {
		handles, err := persistent(c)
		if err != nil {
			return err
		}
		for _, h := range handles {
			o, err := readObject(c, h)
			if err != nil {
				return err
			}
			e := Entry{URI: u.With("handle", fmt.Sprintf("%08x", uint32(h))).String(), Type: o.kind()}
			if public, t, err := o.signer(); err == nil {
				e.Type, e.Public = string(t), public
			} else if public, err := tpm2.Pub(o.area); err == nil {
				e.Public = public
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// persistent gives the handles in use from 81000000 to 817FFFFF: those behind are
// the platform's.
func persistent(c *tpmConn) (handles []tpm2.TPMHandle, err error) {
	const first, last = 0x81000000, 0x817FFFFF
	for next := uint32(first); ; {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: next, PropertyCount: 64}.Execute(c)
		if err != nil {
			return nil, fmt.Errorf("TPM2_GetCapability: %w", err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return nil, fmt.Errorf("TPM2_GetCapability: %w", err)
		}
		for _, h := range list.Handle {
			if uint32(h) < next || uint32(h) > last {
				return handles, nil
			}
			handles, next = append(handles, h), uint32(h)+1
		}
		if !rsp.MoreData || len(list.Handle) == 0 {
			return handles, nil
		}
	}
}
