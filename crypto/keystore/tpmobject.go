package keystore

import (
	"crypto"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// srkHandle is where the storage key of the owner is kept, which all share (TCG
// Registry of Reserved TPM 2.0 Handles and Localities).
const srkHandle tpm2.TPMHandle = 0x81000001

// A tpmObject is something loaded in a TPM.
type tpmObject struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName // digest over area
	area   tpm2.TPMTPublic
}

// tpmHandle is the handle that a URI names.
func tpmHandle(u URI) tpm2.TPMHandle {
	n, _ := strconv.ParseUint(u.Get("handle"), 16, 32) // isPersistent has checked it
	return tpm2.TPMHandle(n)
}

// readObject reads the public area of what is at a persistent handle.
func readObject(t transport.TPM, h tpm2.TPMHandle) (*tpmObject, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, fmt.Errorf("%w: nothing at handle %08X", ErrNoKey, uint32(h))
	}
	if err != nil {
		return nil, fmt.Errorf("TPM2_ReadPublic: %w", err)
	}
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("TPM2_ReadPublic: %w", err)
	}
	return &tpmObject{h, rsp.Name, *area}, nil
}

// ref names the object to a command that needs no auth value of it, or an empty
// one.
func (o *tpmObject) ref() tpm2.NamedHandle { return tpm2.NamedHandle{Handle: o.handle, Name: o.name} }

// with names the object to a command that needs its auth value.
func (o *tpmObject) with(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: s}
}

// isParent reports whether objects can be made below this one: a restricted
// decryption key (TPM 2.0 Library, part 2, §8.3.3).
func (o *tpmObject) isParent() bool {
	a := o.area.ObjectAttributes
	return a.Restricted && a.Decrypt && !a.SignEncrypt && (o.area.Type == tpm2.TPMAlgRSA || o.area.Type == tpm2.TPMAlgECC)
}

// isStorageKey reports whether this is a parent that never leaves the TPM, usable
// without a policy, of the TCG's template for the owner's storage key: SHA-256 and
// AES-128-CFB, which a parent below it must have as well.
func (o *tpmObject) isStorageKey() bool {
	a := o.area.ObjectAttributes
	if !o.isParent() || !a.FixedTPM || !a.FixedParent || !a.UserWithAuth || o.area.NameAlg != tpm2.TPMAlgSHA256 {
		return false
	}
	var s tpm2.TPMTSymDefObject
	if p, err := o.area.Parameters.RSADetail(); err == nil {
		s = p.Symmetric
	} else if p, err := o.area.Parameters.ECCDetail(); err == nil {
		s = p.Symmetric
	}
	bits, err := s.KeyBits.AES()
	if err != nil || *bits != tpmAES {
		return false
	}
	mode, err := s.Mode.AES()
	return err == nil && *mode == tpm2.TPMAlgCFB
}

// kind says for people what the object is.
func (o *tpmObject) kind() string {
	a := o.area.ObjectAttributes
	size := ""
	if p, err := o.area.Parameters.RSADetail(); err == nil {
		size = fmt.Sprintf(", rsa-%d", p.KeyBits)
	} else if p, err := o.area.Parameters.ECCDetail(); err == nil {
		size = ", " + curveName(p.CurveID)
	}
	switch {
	case o.area.Type == tpm2.TPMAlgSymCipher:
		return "symmetric key"
	case o.area.Type == tpm2.TPMAlgKeyedHash && a.SignEncrypt:
		return "HMAC key"
	case o.area.Type == tpm2.TPMAlgKeyedHash:
		return "sealed data"
	case o.isParent():
		return "storage key" + size
	case a.SignEncrypt && a.Restricted:
		return "attestation key" + size
	case a.SignEncrypt:
		return "signing key" + size
	}
	return "decryption key" + size
}

func curveName(c tpm2.TPMECCCurve) string {
	switch c {
	case tpm2.TPMECCNistP256:
		return string(P256)
	case tpm2.TPMECCNistP384:
		return string(P384)
	case tpm2.TPMECCNistP521:
		return "p-521"
	}
	return fmt.Sprintf("curve %#04x", uint16(c))
}

// signer gives the public half of a signing key that this program can use. The
// error is ErrWrongKeyType with what it is instead.
func (o *tpmObject) signer() (crypto.PublicKey, KeyType, error) {
	wrong := func(why string) (crypto.PublicKey, KeyType, error) {
		return nil, "", fmt.Errorf("%w: handle %08X holds a %s%s", ErrWrongKeyType, uint32(o.handle), o.kind(), why)
	}
	a := o.area.ObjectAttributes
	switch {
	case o.area.Type != tpm2.TPMAlgRSA && o.area.Type != tpm2.TPMAlgECC, !a.SignEncrypt, a.Restricted:
		return wrong("")
	case a.Decrypt:
		return wrong(" that decrypts as well: one key, one use")
	case !a.UserWithAuth:
		return wrong(" that only a policy can use")
	}
	public, err := tpm2.Pub(o.area)
	if err != nil {
		return wrong("")
	}
	t, err := TypeOf(public)
	if err != nil {
		return wrong("")
	}
	return public, t, nil
}

// signingArea is the template of a key of ours, with an open scheme: the sign
// command chooses it.
func signingArea(t KeyType) (tpm2.TPMTPublic, error) {
	area := tpm2.TPMTPublic{
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, SignEncrypt: true},
	}
	ecc := func(c tpm2.TPMECCCurve) {
		area.Type = tpm2.TPMAlgECC
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: c})
	}
	switch t {
	case RSA2048:
		area.Type = tpm2.TPMAlgRSA
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048})
	case P256:
		ecc(tpm2.TPMECCNistP256)
	case P384:
		ecc(tpm2.TPMECCNistP384)
	default:
		return area, fmt.Errorf("%w: a TPM knows no %s: take %s", ErrCannot, t, P256)
	}
	return area, nil
}
