package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// What PKCS #11 v3.0 has that the binding does not name.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
	ckmAESKeyWrapKWP       = 0x210B
	ckrAEADDecryptFailed   = 0x42
	objectsAtOnce          = 64
	objects                = 4096 // that are looked at on a token
	curveNameEdwards25519  = "edwards25519"
)

// Curves are named by object identifiers in CKA_EC_PARAMS (RFC 5480 §2.1.1.1,
// RFC 8410 §3).
var (
	oidP256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384    = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// find lists the objects that match a template.
func (s *p11Session) find(template ...*pkcs11.Attribute) (all []pkcs11.ObjectHandle, err error) {
	if err := s.c.FindObjectsInit(s.sh, template); err != nil {
		return nil, p11Error("looking for objects", err)
	}
	defer func() { err = errors.Join(err, s.c.FindObjectsFinal(s.sh)) }()
	for len(all) < objects {
		some, _, err := s.c.FindObjects(s.sh, objectsAtOnce)
		if err != nil {
			return nil, p11Error("looking for objects", err)
		}
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
	}
	return all, nil
}

// attribute reads one attribute: nil where the object has none, or does not show it.
func (s *p11Session) attribute(o pkcs11.ObjectHandle, typ uint) ([]byte, error) {
	got, err := s.c.GetAttributeValue(s.sh, o, []*pkcs11.Attribute{{Type: typ}})
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil, nil
	}
	if err != nil {
		return nil, p11Error("reading an attribute", err)
	}
	return got[0].Value, nil
}

// attributes reads several.
func (s *p11Session) attributes(o pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	var all [][]byte
	for _, typ := range types {
		v, err := s.attribute(o, typ)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// isTrue reads a CK_BBOOL, ulong a CK_ULONG, which is as long as a C long.
func isTrue(v []byte) bool { return len(v) > 0 && v[0] != 0 }

func ulong(v []byte) uint {
	switch len(v) {
	case 4:
		return uint(binary.NativeEndian.Uint32(v))
	case 8:
		return uint(binary.NativeEndian.Uint64(v))
	}
	return ^uint(0) // CK_UNAVAILABLE_INFORMATION
}

// keyOf finds the private or secret key that u names, by CKA_ID and CKA_LABEL, and
// that may do what the attribute use says (CKA_SIGN, CKA_ENCRYPT).
func (s *p11Session) keyOf(u URI, class, use uint) (pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if id := u.id(); id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if label := u.Get("object"); label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	all, err := s.find(template...)
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("%w: %s%s", ErrNoKey, s.name(), s.noLogin())
	}
	var may []pkcs11.ObjectHandle
	var names []string
	for _, o := range all {
		v, err := s.attributes(o, use, pkcs11.CKA_ID, pkcs11.CKA_LABEL)
		if err != nil {
			return 0, err
		}
		if isTrue(v[0]) {
			may = append(may, o)
			names = append(names, fmt.Sprintf("id=%x;object=%s", v[1], v[2]))
		}
	}
	switch len(may) {
	case 1:
		return may[0], nil
	case 0:
		return 0, fmt.Errorf("%w: the key on %s may not be used for this (attribute 0x%X is false)", ErrWrongKeyType, s.name(), use)
	}
	slices.Sort(names)
	return 0, fmt.Errorf("%w: %d keys on %s are like that; say which one is meant by id or object: %s", ErrAmbiguous, len(may), s.name(), strings.Join(names, ", "))
}

// id is the CKA_ID that a URI names, nil when it names none.
func (u URI) id() []byte {
	id, err := hex.DecodeString(u.Get("id"))
	if err != nil || len(id) == 0 {
		return nil
	}
	return id
}

// public finds the public half of a private key: in the public key object of the
// same CKA_ID, else in the certificate of that CKA_ID, else in the private key
// itself, which has one for RSA.
func (s *p11Session) public(private pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	v, err := s.attributes(private, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_ID, pkcs11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	if bits := new(big.Int).SetBytes(v[2]).BitLen(); bits != 0 && bits != 2048 {
		return nil, fmt.Errorf("%w: RSA key of %d bits, want 2048", ErrWrongKeyType, bits)
	}
	for _, class := range publicClasses {
		if len(v[1]) == 0 {
			break // nothing says what belongs to it
		}
		all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, v[1]))
		if err != nil {
			return nil, err
		}
		for _, o := range all {
			public, err := s.shownBy(class, o)
			if errors.Is(err, errNoPublic) {
				continue
			}
			if err != nil {
				return nil, err
			}
			_, err = TypeOf(public)
			return public, err
		}
	}
	public, err := s.keyObject(private)
	if errors.Is(err, errNoPublic) {
		return nil, fmt.Errorf("%w: its public half is nowhere on %s: put a public key object or a certificate with the same id there", ErrNoKey, s.name())
	}
	if err != nil {
		return nil, err
	}
	_, err = TypeOf(public)
	return public, err
}

// publicClasses are the classes of objects that show a public half.
var publicClasses = [...]uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE}

// shownBy reads the public half that an object of one of the publicClasses shows.
func (s *p11Session) shownBy(class uint, o pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	if class == pkcs11.CKO_CERTIFICATE {
		return s.certificate(o)
	}
	return s.keyObject(o)
}

// errNoPublic says that an object does not show a public key.
var errNoPublic = errors.New("no public key in this object")

// keyObject reads the public half that a public or private key object shows.
func (s *p11Session) keyObject(o pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	v, err := s.attributes(o, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	switch typ := ulong(v[0]); typ {
	case pkcs11.CKK_RSA:
		v, err := s.attributes(o, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
		if err != nil {
			return nil, err
		}
		e := new(big.Int).SetBytes(v[1])
		if len(v[0]) == 0 || e.Sign() == 0 {
			return nil, errNoPublic
		}
		if e.BitLen() > 31 {
			return nil, fmt.Errorf("%w: RSA exponent of %d bits", ErrWrongKeyType, e.BitLen())
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(v[0]), E: int(e.Int64())}, nil
	case pkcs11.CKK_EC, ckkECEdwards:
		v, err := s.attributes(o, pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT)
		if err != nil {
			return nil, err
		}
		return ecPublic(v[0], v[1])
	default:
		return nil, fmt.Errorf("%w: key of type 0x%X, want RSA-2048, Ed25519, P-256 or P-384", ErrWrongKeyType, typ)
	}
}

// ecPublic reads CKA_EC_PARAMS and CKA_EC_POINT. The point is a DER OCTET STRING
// (§2.3.3), which some tokens leave away.
func ecPublic(params, point []byte) (crypto.PublicKey, error) {
	if len(params) == 0 || len(point) == 0 {
		return nil, errNoPublic
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	var name string // PKCS #11 v3.0 §2.3.4
	if _, err := asn1.UnmarshalWithParams(params, &name, "printable"); err == nil && name == curveNameEdwards25519 {
		return ed25519Public(point)
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(params, &oid); err != nil {
		return nil, fmt.Errorf("%w: key on a curve without a name, want P-256 or P-384", ErrWrongKeyType)
	}
	var curve elliptic.Curve
	switch {
	case oid.Equal(oidEd25519):
		return ed25519Public(point)
	case oid.Equal(oidP256):
		curve = elliptic.P256()
	case oid.Equal(oidP384):
		curve = elliptic.P384()
	default:
		return nil, fmt.Errorf("%w: key on the curve %s, want P-256 or P-384", ErrWrongKeyType, oid)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("reading CKA_EC_POINT: %w", err)
	}
	return public, nil
}

func ed25519Public(point []byte) (crypto.PublicKey, error) {
	if len(point) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("reading CKA_EC_POINT: %d bytes, want %d", len(point), ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(bytes.Clone(point)), nil
}

// certificate reads the public key of a certificate object.
func (s *p11Session) certificate(o pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	der, err := s.attribute(o, pkcs11.CKA_VALUE)
	if err != nil {
		return nil, err
	}
	if len(der) == 0 {
		return nil, errNoPublic
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate beside the key: %w", err)
	}
	return c.PublicKey, nil
}
