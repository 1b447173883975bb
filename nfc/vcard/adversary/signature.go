package adversary

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"math/big"
	"slices"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

// signatures answer in the victim's place with something near to a signature.
// Where they hold the victim's true key, only the form is wrong: whoever accepts
// such a form would accept forgeries made without the key (RFC 8017 §8.2.2; the
// forgeries of 2006 and 2014 lived on parsing where comparing was asked for).
var signatures = []Adversary{
	{"no-signature", "answers the signature command with 9000 alone", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(sign, status(0x9000))) }},
	{"signature-zero", "answers 256 zero bytes, whose public operation is zero", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(sign, say(make([]byte, 256), 0x9000)))
		}},
	{"signature-one", "answers the number one, whose public operation is one under every key", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(sign, say(append(make([]byte, 255), 1), 0x9000)))
		}},
	{"signature-not-below-the-modulus", "answers the modulus itself", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(sign, say(s.keys[s.Victim].card.N.Bytes(), 0x9000)))
		}},
	{"signature-negated", "answers modulus minus signature", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			key := s.keys[s.Victim].card
			return s.liar(s.genuine(s.Victim), on(sign, bent(func(signature []byte) []byte {
				n := new(big.Int).SetBytes(signature)
				return n.Sub(key.N, n).FillBytes(make([]byte, 256))
			})))
		}},
	{"signature-of-255-bytes", "leaves the first byte of the signature out", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, bent(func(signature []byte) []byte { return signature[1:] })))
		}},
	{"signature-of-257-bytes", "puts a zero byte before the true signature, which is one byte more than was asked for", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, bent(func(signature []byte) []byte { return append([]byte{0}, signature...) })))
		}},
	{"pss-signature", "signs the true challenge with PSS where PKCS #1 v1.5 is agreed", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			key := s.keys[s.Victim].card
			return s.liar(s.genuine(s.Victim), on(sign, makes(func(c command) []byte {
				signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, c.data[len(c.data)-32:], nil)
				s.fail(err)
				return signature
			})))
		}},
	{"garbage-behind-the-digest", "pads short and puts bytes of its choice behind the digest, as forgeries for low exponents do", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte {
			return fill(slices.Concat([]byte{0x00, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00}, info))
		})},
	{"garbage-in-the-parameters", "hides bytes of its choice in the parameters of the hash algorithm", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte {
			hidden := make([]byte, 64)
			rand.Read(hidden)
			return ff(object(0x30, object(0x30, oidSHA256, object(0x04, hidden)), object(0x04, info[19:])))
		})},
	{"digest-info-without-null", "leaves the NULL of the hash algorithm out", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte {
			return ff(object(0x30, object(0x30, oidSHA256), object(0x04, info[19:])))
		})},
	{"digest-info-in-ber", "writes a length of its DigestInfo in long form", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte { return ff(slices.Concat([]byte{0x30, 0x81, 0x31}, info[2:])) })},
	{"digest-without-its-info", "pads the bare digest, so that it could be of any hash", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte { return ff(info[19:]) })},
	{"sha-1-digest", "signs the SHA-1 of what it was given, and says so", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte {
			sum := sha1.Sum(info[19:])
			return ff(object(0x30, object(0x30, oidSHA1, []byte{0x05, 0x00}), object(0x04, sum[:])))
		})},
	{"block-type-2", "pads as for encryption, with random bytes", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte {
			em := ff(info)
			em[1] = 0x02
			for i := 2; em[i] != 0; i++ {
				em[i] = byte(1 + i%255)
			}
			return em
		})},
	{"block-type-0", "pads with zeros, where no byte says how long the padding is", TapUse, authFailed, 0, false,
		padded(func(info []byte) []byte { return append(make([]byte, 256-len(info)), info...) })},
}

// signs answers with a true signature of key over what the reader asks for.
func (s *stage) signs(key *rsa.PrivateKey) answer {
	return makes(func(c command) []byte {
		if len(c.data) < 32 {
			return nil
		}
		return s.signature(key, c.data[len(c.data)-32:])
	})
}

func (s *stage) signature(key *rsa.PrivateKey, digest []byte) []byte {
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
	s.fail(err)
	return signature
}

// padded is the victim's genuine card, whose key signs the DigestInfo that it is
// given in an encoded message of the adversary's making.
func padded(encode func(digestInfo []byte) []byte) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device {
		key := s.keys[s.Victim].card
		return s.liar(s.genuine(s.Victim), on(sign, makes(func(c command) []byte { return raw(key, encode(c.data)) })))
	}
}

// raw is the private operation alone (RFC 8017 §5.2.1).
func raw(key *rsa.PrivateKey, message []byte) []byte {
	m := new(big.Int).SetBytes(message)
	return m.Exp(m, key.D, key.N).FillBytes(make([]byte, key.Size()))
}

// ff pads with FF, as it should be (RFC 8017 §9.2, step 5).
func ff(info []byte) []byte {
	return slices.Concat([]byte{0x00, 0x01}, bytes.Repeat([]byte{0xFF}, 256-3-len(info)), []byte{0x00}, info)
}

// fill puts random bytes behind an encoded message that is too short.
func fill(em []byte) []byte {
	garbage := make([]byte, 256-len(em))
	rand.Read(garbage)
	return append(em, garbage...)
}

var (
	oidSHA256 = []byte{0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}
	oidSHA1   = []byte{0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A}
)

// object is a data object with the shortest length field.
func object(tag uint16, parts ...[]byte) []byte { return perso.Object(tag, parts...) }

// apdu is a command APDU, extended where it must be.
func apdu(cla, ins, p1, p2 byte, data []byte, ne int) []byte {
	b := []byte{cla, ins, p1, p2}
	if len(data) <= 255 && ne <= 256 {
		if len(data) > 0 {
			b = append(append(b, byte(len(data))), data...)
		}
		if ne > 0 {
			b = append(b, byte(ne))
		}
		return b
	}
	b = append(b, 0)
	if len(data) > 0 {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
	}
	if ne > 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(ne))
	}
	return b
}
