package perso

import (
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// ca is an X.509 certification authority. Its signatures draw no random numbers
// (RSASSA-PKCS1-v1_5, and ECDSA by RFC 6979), so that images can be made again.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer // RSA with SHA-256, or P-384 with SHA-384
}

const agency = "Japan Agency for Local Authority Information Systems"

// The subject names of both CAs, DER, types of string included (card-facts §7).
var (
	userCAName = name(rdn(oidCountry, printable("JP")), rdn(oidOrganization, utf8("JPKI")),
		rdn(oidUnit, utf8("JPKI for user authentication")), rdn(oidUnit, utf8(agency)))
	signatureCAName = name(rdn(oidCountry, printable("JP")), rdn(oidOrganization, utf8("JPKI")),
		rdn(oidUnit, utf8("JPKI for digital signature")), rdn(oidUnit, utf8(agency)))

	// simCAName is that of the SP-TSM, which wrote the certificates into the SIMs
	// of the 2016 trial (card-facts §9). The trial's name is not public: our model.
	simCAName = name(rdn(oidCountry, printable("JP")), rdn(oidOrganization, utf8("TEST SP-TSM")),
		rdn(oidUnit, utf8("JPKI user authentication on SIM, of gate-agent")))

	// testName stands where the real certificates repeat their names in Japanese.
	testName = name(rdn(oidCountry, printable("JP")),
		rdn(oidOrganization, utf8("TEST HIERARCHY OF GATE-AGENT")),
		rdn(oidUnit, utf8("NOT ISSUED BY J-LIS, WITHOUT ANY VALUE")))
)

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}

	oidSubjectAltName     = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidIssuerAltName      = asn1.ObjectIdentifier{2, 5, 29, 18}
	oidDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies           = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKeyID     = asn1.ObjectIdentifier{2, 5, 29, 35}

	oidUserNotice = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 2}

	// oidPolicy is the policy of user-authentication certificates (card-facts §7).
	oidPolicy = asn1.ObjectIdentifier{1, 2, 392, 200149, 8, 5, 1, 3, 30}
)

// notice fills a leaf with a 4-byte serial number up to the 1,583 bytes of the
// certificate that card-facts §8 takes as its measure.
const notice = "This certificate was made by the test hierarchy of gate-agent. It says nothing about a person, " +
	"nobody answers for it, and no relying party may accept it outside a test of a gate."

func newCA(random io.Reader, key crypto.Signer, subject []byte, at time.Time, years int) (*ca, error) {
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		RawSubject:            subject,
		SerialNumber:          serial,
		NotBefore:             at,
		NotAfter:              at.AddDate(years, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SubjectKeyId:          subjectKeyID(key.Public()),
		ExtraExtensions: []pkix.Extension{
			{Id: oidSubjectAltName, Value: object(0x30, object(0xA4, testName))},
			{Id: oidDistributionPoints, Value: distributionPoint(subject)},
		},
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &ca{cert, key}, nil
}

func parseCA(der []byte, key *vcard.PrivateKey) (*ca, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if key == nil || key.Signer == nil {
		return nil, errors.New("its key is missing")
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return &ca{cert, key.Signer}, nil
}

// issue makes an end-entity certificate. All certificates of the same lengths of
// serial number and subject have the same length, as a forger needs it.
func (c *ca) issue(serial *big.Int, subject []byte, notBefore, notAfter time.Time, pub crypto.PublicKey) ([]byte, error) {
	policy := object(0x30, object(0x30, oid(oidPolicy), object(0x30,
		object(0x30, oid(oidUserNotice), object(0x30, utf8(notice))))))
	template := &x509.Certificate{
		RawSubject:   subject,
		SerialNumber: serial,
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		SubjectKeyId: subjectKeyID(pub),
		ExtraExtensions: []pkix.Extension{
			{Id: oidPolicies, Critical: true, Value: policy},
			{Id: oidIssuerAltName, Value: object(0x30, object(0xA4, testName))},
			{Id: oidDistributionPoints, Value: distributionPoint(c.cert.RawSubject)},
			{Id: oidAuthorityKeyID, Value: object(0x30,
				object(0x80, c.cert.SubjectKeyId),
				object(0xA1, object(0xA4, c.cert.RawSubject)),
				object(0x82, c.cert.SerialNumber.Bytes()))},
		},
	}
	return x509.CreateCertificate(nil, template, c.cert, pub, c.key)
}

// newSerial draws a positive serial number whose DER has exactly four bytes.
func newSerial(random io.Reader) (*big.Int, error) {
	var b [4]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return big.NewInt(int64(binary.BigEndian.Uint32(b[:])&0x3FFFFFFF | 0x40000000)), nil
}

// subjectKeyID is method 1 of RFC 5280 §4.2.1.2: a name for the key, no security
// hangs on its SHA-1.
func subjectKeyID(pub crypto.PublicKey) []byte {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err == nil {
		_, err = asn1.Unmarshal(der, &spki)
	}
	if err != nil {
		panic(err) // a key that this package or its caller has just made
	}
	sum := sha1.Sum(spki.Key.Bytes)
	return sum[:]
}

// leafSubject is C=JP, CN=id.
func leafSubject(id string) []byte {
	return name(rdn(oidCountry, printable("JP")), rdn(oidCommonName, printable(id)))
}

// distributionPoint names a directory entry, no URL (card-facts §7).
func distributionPoint(directory []byte) []byte {
	return object(0x30, object(0x30, object(0xA0, object(0xA0, object(0xA4, directory)))))
}

func name(rdns ...[]byte) []byte { return object(0x30, rdns...) }

func rdn(attribute asn1.ObjectIdentifier, value []byte) []byte {
	return object(0x31, object(0x30, oid(attribute), value))
}

func printable(s string) []byte { return object(0x13, []byte(s)) }
func utf8(s string) []byte      { return object(0x0C, []byte(s)) }

// oid encodes a constant of this package.
func oid(id asn1.ObjectIdentifier) []byte {
	b, err := asn1.Marshal(id)
	if err != nil {
		panic(err)
	}
	return b
}
