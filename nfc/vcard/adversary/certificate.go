package adversary

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

// certificates lie in the certificate, where it is all that says whose key
// answers: external-auth with a card that is on the list without keys. Some are
// misissued: the trusted authority signed them, and somebody put them on the list.
var certificates = []Adversary{
	{"foreign-authority", "has a certificate of the victim's name by an authority of the same name", ExternalAuth, certUntrusted, 0, true,
		forged(func(s *stage, c *certificate) { c.tbs[publicKey] = s.spki(&s.key.PublicKey); c.sign(s.Foreign) })},
	{"signed-by-a-leaf", "has a certificate that the accomplice's genuine card signed, as if it were an authority", ExternalAuth, certUntrusted, 0, false,
		forged(func(s *stage, c *certificate) {
			c.tbs[publicKey] = s.spki(&s.key.PublicKey)
			c.signWith(s.keys[s.Accomplice].authentication)
		})},
	{"signed-by-itself", "has a certificate that its own key signed", ExternalAuth, certUntrusted, 0, false,
		forged(func(s *stage, c *certificate) { c.tbs[publicKey] = s.spki(&s.key.PublicKey); c.signWith(s.key) })},
	{"key-put-in", "has the victim's certificate, with its own key in the place of the victim's", ExternalAuth, certUntrusted, 0, false,
		forged(func(s *stage, c *certificate) { c.tbs[publicKey] = s.spki(&s.key.PublicKey) })},
	{"algorithm-outside-and-inside", "names another signature algorithm outside than inside what is signed", ExternalAuth, certUntrusted, 0, false,
		forged(func(s *stage, c *certificate) {
			c.tbs[publicKey] = s.spki(&s.key.PublicKey)
			c.algorithm = object(0x30, object(0x06, []byte{0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0D}), []byte{0x05, 0x00}) // sha512WithRSAEncryption
		})},
	{"signature-cut-out", "has a certificate whose signature is of no bits", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) { c.signature = nil })},
	{"trailing-data-in-a-certificate", "has a certificate with an object behind its signature", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) { c.trailing = object(0x04, []byte("more")) })},
	{"signature-one-bit-further-left", "writes its certificate's true signature one bit further left, with one bit that does not count", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) {
			for c.signature[0]&0x80 != 0 {
				c.tbs[serial][5]++
				c.sign(s.Authority)
			}
			shifted := new(big.Int).SetBytes(c.signature)
			c.signature, c.unused = shifted.Lsh(shifted, 1).FillBytes(c.signature), 1
		})},
	{"certificate-of-an-authority", "shows the certificate of the trusted authority itself for that of a card", ExternalAuth, certUntrusted, 0, false,
		shows(func(s *stage) []byte { return s.Authority.CACertificate().Raw })},
	{"certificate-for-documents", "shows the genuine certificate for digital signatures, which is for another use and by another authority", ExternalAuth, certUntrusted, 0, false,
		shows(func(s *stage) []byte { return s.Unregistered.Application(vcard.AIDJPKI()).File(0x0001).Content })},
	{"certificate-for-certificates", "has a certificate that may sign certificates and nothing else", ExternalAuth, certUntrusted, 0, false,
		forged(func(s *stage, c *certificate) {
			c.replace(s, []byte{0x03, 0x02, 0x07, 0x80}, []byte{0x03, 0x02, 0x02, 0x04}) // digitalSignature, keyCertSign
			c.sign(s.Authority)
		})},
	{"card-that-is-an-authority", "has a certificate that says it is an authority as well", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) {
			c.extend(object(0x06, []byte{0x55, 0x1D, 0x13}), []byte{0x01, 0x01, 0xFF}, object(0x04, object(0x30, []byte{0x01, 0x01, 0xFF})))
			c.sign(s.Authority)
		})},
	{"unknown-critical-extension", "has a certificate with a critical extension that nobody knows", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) {
			c.extend(object(0x06, []byte{0x2A, 0x03, 0x04}), []byte{0x01, 0x01, 0xFF}, object(0x04, []byte{0x05, 0x00}))
			c.sign(s.Authority)
		})},
	{"key-usage-twice", "has two extensions of key usage, one for authentication and one for certificates", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) {
			c.extend(object(0x06, []byte{0x55, 0x1D, 0x0F}), []byte{0x01, 0x01, 0xFF}, object(0x04, []byte{0x03, 0x02, 0x02, 0x04}))
			c.sign(s.Authority)
		})},
	{"negative-serial-number", "has a serial number below zero", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) { c.tbs[serial][2] |= 0x80; c.sign(s.Authority) })},
	{"sha-1-certificate", "has a certificate of the trusted authority over SHA-1, where collisions are for sale", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) {
			sha1 := []byte{0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x05}
			c.algorithm = object(0x30, object(0x06, sha1), []byte{0x05, 0x00})
			c.tbs[algorithm] = c.algorithm
			var err error
			c.signature, err = s.Authority.MisissueCertificate(c.tbsDER(), crypto.SHA1)
			s.fail(err)
		})},
	{"key-of-1024-bits", "has a certified key that can be factored", ExternalAuth, certUntrusted, 0, false, weak(1024, 65537)},
	{"key-of-4096-bits", "has a certified key that no card has, and whose signature is longer than was asked for", ExternalAuth, certUntrusted, 0, false, weak(4096, 65537)},
	{"key-of-exponent-3", "has a certified key with exponent 3, for which padding can be forged", ExternalAuth, certUntrusted, 0, false, weak(2048, 3)},
	{"key-of-exponent-1", "has a certified key with exponent 1, for which everything is its own signature", ExternalAuth, certUntrusted, 0, false, weak(2048, 1)},
	{"key-on-another-curve", "has a certified key on P-256", ExternalAuth, certUntrusted, 0, false,
		misissued(func(s *stage, c *certificate) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			s.fail(err)
			c.tbs[publicKey] = s.spki(&key.PublicKey)
			c.sign(s.Authority)
		})},
	{"key-of-another-kind", "has a certified key on P-384, as later cards will, and signs with it where the profile says RSA", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			s.fail(err)
			certificate := s.misissue(func(c *certificate) { c.tbs[publicKey] = s.spki(&key.PublicKey); c.sign(s.Authority) })
			return s.show(certificate, makes(func(c command) []byte {
				signature, err := ecdsa.SignASN1(rand.Reader, key, c.data[len(c.data)-32:])
				s.fail(err)
				return signature
			}))
		}},
	{"expired-certificate", "is genuine, listed and a year too old", TapUse, certExpired, 0, false,
		misissued(func(s *stage, c *certificate) { c.valid(s, -5, -1); c.sign(s.Authority) })},
	{"certificate-of-next-year", "is genuine, listed and valid from next year on", TapUse, certExpired, 0, false,
		misissued(func(s *stage, c *certificate) { c.valid(s, 1, 5); c.sign(s.Authority) })},
}

// A certificate is an X.509 certificate taken apart (RFC 5280 §4.1).
type certificate struct {
	tbs       [][]byte // the parts of the TBSCertificate, DER
	algorithm []byte   // outside the TBSCertificate
	signature []byte
	unused    byte   // bits of it that do not count
	trailing  []byte // behind the signature
}

// Parts of a TBSCertificate.
const (
	version = iota
	serial
	algorithm
	issuer
	validity
	subject
	publicKey
	extensions
)

// take takes a certificate apart.
func (s *stage) take(der []byte) *certificate {
	outer := s.split(der)
	if s.err != nil || len(outer) != 3 {
		return &certificate{tbs: make([][]byte, extensions+1)}
	}
	return &certificate{tbs: s.split(outer[0]), algorithm: outer[1], signature: s.contents(outer[2])[1:]}
}

// split gives the elements of a SEQUENCE.
func (s *stage) split(der []byte) (elements [][]byte) {
	for rest := s.contents(der); len(rest) > 0 && s.err == nil; {
		var e asn1.RawValue
		var err error
		rest, err = asn1.Unmarshal(rest, &e)
		s.fail(err)
		elements = append(elements, bytes.Clone(e.FullBytes))
	}
	return elements
}

func (s *stage) contents(der []byte) []byte {
	var e asn1.RawValue
	_, err := asn1.Unmarshal(der, &e)
	s.fail(err)
	return e.Bytes
}

func (c *certificate) tbsDER() []byte { return object(0x30, c.tbs...) }

func (c *certificate) assemble() []byte {
	return object(0x30, c.tbsDER(), c.algorithm, object(0x03, []byte{c.unused}, c.signature), c.trailing)
}

// sign has an authority sign what the certificate has become.
func (c *certificate) sign(a *perso.Authority) {
	c.signature, _ = a.MisissueCertificate(c.tbsDER(), crypto.SHA256) // SHA-256 is always there
}

func (c *certificate) signWith(key *rsa.PrivateKey) {
	sum := sha256.Sum256(c.tbsDER())
	c.signature, _ = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
}

// replace changes bytes of the extensions that are there exactly once.
func (c *certificate) replace(s *stage, from, to []byte) {
	if bytes.Count(c.tbs[extensions], from) != 1 {
		s.fail(asn1.StructuralError{Msg: "the certificate has other extensions than this adversary knows"})
	}
	c.tbs[extensions] = bytes.Replace(c.tbs[extensions], from, to, 1)
}

// extend adds an extension.
func (c *certificate) extend(parts ...[]byte) {
	var explicit, list asn1.RawValue
	_, _ = asn1.Unmarshal(c.tbs[extensions], &explicit) // taken from a certificate that was parsed
	_, _ = asn1.Unmarshal(explicit.Bytes, &list)
	c.tbs[extensions] = object(0xA3, object(0x30, list.Bytes, object(0x30, parts...)))
}

// valid moves the validity, in years from now.
func (c *certificate) valid(s *stage, from, to int) {
	const layout = "060102150405Z"
	c.tbs[validity] = object(0x30,
		object(0x17, []byte(s.Now.UTC().AddDate(from, 0, 0).Format(layout))),
		object(0x17, []byte(s.Now.UTC().AddDate(to, 0, 0).Format(layout))))
}

func (s *stage) spki(pub crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	s.fail(err)
	return der
}

// forged shows a certificate with the head of one that is on the list.
func forged(change func(*stage, *certificate)) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device {
		c := s.take(s.Unregistered.AuthenticationCertificate())
		change(s, c)
		return s.emulate(s.withCertificate(s.Unregistered, c.assemble()))
	}
}

// misissued shows a certificate that got onto the list as it is, and answers with
// the attacker's key.
func misissued(change func(*stage, *certificate)) func(*stage) vcard.Device {
	return shows(func(s *stage) []byte { return s.misissue(func(c *certificate) { change(s, c) }) })
}

// misissue makes a certificate of the trusted authority for the attacker's key,
// unless change says otherwise.
func (s *stage) misissue(change func(*certificate)) []byte {
	c := s.take(s.Unregistered.AuthenticationCertificate())
	c.tbs[publicKey] = s.spki(&s.key.PublicKey)
	number := make([]byte, 4) // no two of one number
	rand.Read(number)
	number[0] = number[0]&0x3F | 0x40
	c.tbs[serial] = object(0x02, number)
	c.sign(s.Authority)
	change(c)
	return c.assemble()
}

func shows(certificate func(*stage) []byte) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device { return s.show(certificate(s), s.signs(s.key)) }
}

// show is a card that accepts any terminal, with a certificate that gets onto the
// list, and an answer to the signature command.
func (s *stage) show(certificate []byte, signature answer) vcard.Device {
	card := s.emulate(s.withCertificate(s.Unregistered, s.listed(certificate)))
	return assisted(card, on(presenting, status(0x9000)), on(authenticate, status(0x9000)), on(sign, signature))
}

// weak shows a certificate of the trusted authority with an RSA key of that size
// and exponent.
func weak(bits, e int) func(*stage) vcard.Device {
	return misissued(func(s *stage, c *certificate) {
		n := new(big.Int).Set(s.key.N)
		if bits != s.key.N.BitLen() { // nobody signs with it: any odd number does
			n, _ = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
			n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
		}
		rsaKey := object(0x30, object(0x02, slices.Concat([]byte{0x00}, n.Bytes())), object(0x02, big.NewInt(int64(e)).Bytes()))
		c.tbs[publicKey] = object(0x30, object(0x30, object(0x06, []byte{0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01}), []byte{0x05, 0x00}),
			object(0x03, []byte{0x00}, rsaKey))
		c.sign(s.Authority)
	})
}
