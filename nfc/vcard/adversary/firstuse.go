package adversary

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"slices"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// At first use the card brings its own key, in a record that somebody signed whom
// somebody certified, behind a PIN that is the birth date (card-facts §4, §5).
// These adversaries come with the certificate of a newcomer, which is free to
// read, and an application of their own making.

// records lie in the age record.
var records = []Adversary{
	{"copied-card-at-first-use", "has the newcomer's certificate and record, and signs with another key", FirstUse, authFailed, 0, true,
		func(s *stage) vcard.Device { return s.emulator(s.recordOf(s.Newcomer), s.signerOf(s.Newcomer), s.key) }},
	{"record-signed-by-nobody", "accepts any PIN and has a record of its own key, with random bytes for a signature", FirstUse, authFailed, 0, false,
		record(func(s *stage) ([]byte, []byte) {
			signature := make([]byte, 256)
			copy(signature, s.recordOf(s.Newcomer)[40:])
			return age(s.born(), s.cvKey(&s.key.PublicKey)), signature
		})},
	{"record-signed-by-a-card", "has a record of its own key that the accomplice's genuine card signed, which signs anything without a PIN", FirstUse, authFailed, 0, false,
		record(func(s *stage) ([]byte, []byte) {
			objects := age(s.born(), s.cvKey(&s.key.PublicKey))
			sum := sha256.Sum256(objects)
			return objects, s.signature(s.keys[s.Accomplice].card, sum[:])
		})},
	{"record-of-another-birth-date", "says 9000 to the newcomer's birth date, and is then the accomplice's genuine card", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.emulator(s.recordOf(s.Accomplice), s.signerOf(s.Accomplice), s.keys[s.Accomplice].card)
		}},
	{"record-with-an-edited-birth-date", "is the accomplice's genuine card, with the newcomer's birth date written into its record", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			edited := s.recordOf(s.Accomplice)
			copy(edited[8:], s.born())
			return s.emulator(edited, s.signerOf(s.Accomplice), s.keys[s.Accomplice].card)
		}},
	{"birth-date-twice", "has a signed record with two birth dates, its own and the newcomer's", FirstUse, authFailed, 0, false,
		signed(func(s *stage) []byte {
			return slices.Concat(object(0xDF11, []byte(otherBirthDate.Format("20060102"))), age(s.born(), s.cvKey(&s.key.PublicKey)))
		})},
	{"key-twice", "has a signed record with two keys, the newcomer's and its own", FirstUse, authFailed, 0, false,
		signed(func(s *stage) []byte {
			return slices.Concat(age(s.born(), s.cvKey(&s.keys[s.Newcomer].card.PublicKey)), object(0xDF12, s.cvKey(&s.key.PublicKey)))
		})},
	{"object-behind-the-record", "has a further object in its record, which no signature covers", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			genuine := s.recordOf(s.Newcomer)
			return s.emulator(object(0xFF10, genuine[5:], object(0xDF12, s.cvKey(&s.key.PublicKey))), s.signerOf(s.Newcomer), s.key)
		}},
	{"record-in-ber", "has a signed record with its lengths in long form", FirstUse, authFailed, 0, false,
		signed(func(s *stage) []byte {
			return slices.Concat([]byte{0xDF, 0x11, 0x81, 0x08}, s.born(), object(0xDF12, s.cvKey(&s.key.PublicKey)))
		})},
	{"record-signed-in-another-encoding", "has a record whose signature is over the same objects with their lengths in long form", FirstUse, authFailed, 0, false,
		record(func(s *stage) ([]byte, []byte) {
			key := object(0xDF12, s.cvKey(&s.key.PublicKey))
			signature, err := s.Authority.MisissueRecord(slices.Concat([]byte{0xDF, 0x11, 0x81, 0x08}, s.born(), key))
			s.fail(err)
			return slices.Concat(object(0xDF11, s.born()), key), signature
		})},
	{"record-with-a-key-of-1024-bits", "has a signed record of a key that can be factored, filled up with zeros", FirstUse, authFailed, 0, false,
		signed(func(s *stage) []byte {
			modulus := slices.Concat(make([]byte, 128), s.key.N.Bytes()[:127], []byte{0x01})
			return age(s.born(), slices.Concat(object(0x90, []byte{0x01, 0x00, 0x01}), object(0x91, modulus)))
		})},
	{"record-with-exponent-1", "has a signed record of a key with exponent 1, and answers with the padded challenge itself", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			objects := age(s.born(), slices.Concat(object(0x90, []byte{0x00, 0x00, 0x01}), object(0x91, s.key.N.Bytes())))
			signature, err := s.Authority.MisissueRecord(objects)
			s.fail(err)
			card := s.emulator(object(0xFF10, objects, object(0xDF13, signature)), s.signerOf(s.Newcomer), s.key)
			return assisted(card, on(sign, makes(func(c command) []byte { return ff(c.data) })))
		}},
	{"record-by-the-foreign-authority", "has the trusted signer's certificate, and a record that the foreign authority signed", FirstUse, authFailed, 0, false,
		record(func(s *stage) ([]byte, []byte) {
			objects := age(s.born(), s.cvKey(&s.key.PublicKey))
			signature, err := s.Foreign.MisissueRecord(objects)
			s.fail(err)
			return objects, signature
		})},
	{"record-ends-early", "accepts the birth date, and has no more than the beginning of a record", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			part := s.recordOf(s.Newcomer)[:200]
			return s.liar(s.emulator(s.recordOf(s.Newcomer), s.signerOf(s.Newcomer), s.key),
				on(after(readRecord), status(0x6B00)), on(readRecord, say(part, 0x9000)))
		}},
	{"keeps-its-record", "accepts the birth date, and answers 6982 to the read of the record all the same", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.emulator(s.recordOf(s.Newcomer), s.signerOf(s.Newcomer), s.key), on(readRecord, status(0x6982)))
		}},
	{"twin-of-a-registered-card", "is the genuine card of somebody born on the victim's day, with the head of the victim, whose card key is registered", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.follow(s.copied(s.Victim), s.genuine(s.Twin), selectSurface) }},
	{"foreign-certificate-at-first-use", "has a certificate of the foreign authority with the newcomer's head, to be told the birth date", FirstUse, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			c := s.take(s.Newcomer.AuthenticationCertificate())
			c.tbs[publicKey] = s.spki(&s.key.PublicKey)
			c.sign(s.Foreign)
			return s.emulate(s.withCertificate(s.Newcomer, c.assemble()))
		}},
}

// signers lie in the certificate of who signed the record, EF 0004.
var signers = []Adversary{
	{"signer-of-the-foreign-authority", "has record and signer's certificate of an authority with the same key ids", FirstUse, certUntrusted, 0, false,
		signer(func(s *stage, body []byte) ([]byte, []byte) {
			signature, err := s.Foreign.MisissueSigner(body)
			s.fail(err)
			return body, signature
		})},
	{"signer-certified-by-itself", "names the trusted authority as its signer's issuer, and signed the certificate itself", FirstUse, certUntrusted, 0, false,
		signer(func(s *stage, body []byte) ([]byte, []byte) {
			sum := sha256.Sum256(body)
			return body, s.signature(s.key, sum[:])
		})},
	{"signer-with-other-padding", "names an issuer that differs from the trusted one in the four padding bytes alone", FirstUse, certUntrusted, 0, false,
		misissuedSigner(func(_ *stage, body []byte) []byte { body[15] ^= 0x01; return body })},
	{"signer-by-the-record-key", "names the record's key as the issuer of its signer: one level more than there is", FirstUse, certUntrusted, 0, false,
		signer(func(s *stage, body []byte) ([]byte, []byte) {
			copy(body, body[16:32])
			signature, err := s.Authority.MisissueRecord(body)
			s.fail(err)
			return body, signature
		})},
	{"signer-is-a-terminal", "shows the terminal's own certificate, which everybody may see, for that of a signer", FirstUse, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			return s.emulator(s.recordOf(s.Newcomer), s.TerminalCertificates[0], s.key)
		}},
	{"signer-with-exponent-1", "has a certified signer whose exponent is 1", FirstUse, certUntrusted, 0, false,
		misissuedSigner(func(_ *stage, body []byte) []byte { copy(body[34:], []byte{0x00, 0x00, 0x01}); return body })},
	{"signer-of-1024-bits", "has a certified signer whose key can be factored, filled up with zeros", FirstUse, certUntrusted, 0, false,
		misissuedSigner(func(_ *stage, body []byte) []byte { clear(body[41 : 41+128]); return body })},
	{"signer-with-trailing-data", "has a signer's certificate with a byte behind its signature", FirstUse, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			genuine := s.signerOf(s.Newcomer)
			return s.emulator(s.recordOf(s.Newcomer), object(0x7F21, genuine[5:], []byte{0x00}), s.key)
		}},
	{"signer-with-a-longer-body", "has a certified body with a byte behind the signer's key", FirstUse, certUntrusted, 0, false,
		misissuedSigner(func(_ *stage, body []byte) []byte { return append(body, 0x00) })},
	{"signer-in-ber", "writes the length of its signer's certificate with a leading zero", FirstUse, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			genuine := s.signerOf(s.Newcomer)
			return s.emulator(s.recordOf(s.Newcomer), slices.Concat([]byte{0x7F, 0x21, 0x83, 0x00, 0x02, 0x33}, genuine[5:]), s.key)
		}},
	{"signer-ends-early", "has no more than the beginning of a signer's certificate", FirstUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			part := s.signerOf(s.Newcomer)[:200]
			return s.liar(s.genuine(s.Newcomer), on(after(readSigner), status(0x6B00)), on(readSigner, say(part, 0x9000)))
		}},
}

// birthDates lie about the PIN that is the birth date: to pass without it, to be
// told it again and again, or to have it spend somebody's tries.
var birthDates = []Adversary{
	{"birth-date-to-another-card", "passes the newcomer's birth date on to the accomplice's genuine card", FirstUse, authFailed, 1, false,
		func(s *stage) vcard.Device {
			return s.follow(s.copied(s.Newcomer), s.genuine(s.Accomplice), selectSurface)
		}},
	{"wants-the-birth-date-again", "answers the birth date as if the command had not been carried out", FirstUse, authFailed, 0, true,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Newcomer), on(verify, inTurn(status(0x6F00), status(0x6C06), status(0x9000))))
		}},
	{"wants-the-birth-date-in-another-length", "answers the birth date with 6C06", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Newcomer), on(verify, status(0x6C06))) }},
	{"no-birth-date-is-right", "says to every birth date that 15 tries are left, to be told another", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.emulator(s.recordOf(s.Newcomer), s.signerOf(s.Newcomer), s.key), on(verifying, status(0x63CF)))
		}},
	{"says-that-one-try-is-left", "is genuine, and says that one more mistake would block it", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Newcomer), on(askTries, status(0x63C1)), on(verify, s.never("the birth date was presented for the last try")))
		}},
	{"says-that-it-is-blocked", "is genuine, and says that no try is left", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Newcomer), on(askTries, status(0x63C0)), on(verify, s.never("the birth date was presented to a blocked card")))
		}},
	{"says-6984-to-the-birth-date", "says that it was blocked between the question and the birth date", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Newcomer), on(verify, status(0x6984))) }},
	{"verified-without-a-birth-date", "answers 9000 to the question for its tries, as if it needed no birth date", FirstUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.emulator(s.recordOf(s.Newcomer), s.signerOf(s.Newcomer), s.key), on(askTries, status(0x9000)))
		}},
	{"one-answer-behind-at-the-birth-date", "answers the birth date with the number of its tries, and the record with 9000", FirstUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			var held []byte
			return s.liar(s.genuine(s.Newcomer), on(since(askTries), func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
				rapdu, err := card.Transmit(ctx, c.raw)
				if held == nil {
					held = bytes.Clone(rapdu)
					return rapdu, err
				}
				held, rapdu = rapdu, held
				return rapdu, err
			}))
		}},
}

// emulator is a card with the newcomer's certificate and a card-surface
// application of the attacker's making: any PIN is right, and record, signer's
// certificate and key are these.
func (s *stage) emulator(record, signer []byte, key *rsa.PrivateKey) vcard.Device {
	img := s.copyImage(s.Newcomer)
	s.withFile(img, vcard.AIDSurface(), 0x0001, record)
	s.withFile(img, vcard.AIDSurface(), 0x0004, signer)
	return assisted(s.emulate(img), on(verify, status(0x9000)), on(sign, s.signs(key)))
}

// record is an emulator whose record has these objects and this signature.
func record(make func(*stage) (objects, signature []byte)) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device {
		objects, signature := make(s)
		return s.emulator(object(0xFF10, objects, object(0xDF13, signature)), s.signerOf(s.Newcomer), s.key)
	}
}

// signed is an emulator whose record the true record key signed.
func signed(objects func(*stage) []byte) func(*stage) vcard.Device {
	return record(func(s *stage) ([]byte, []byte) {
		o := objects(s)
		signature, err := s.Authority.MisissueRecord(o)
		s.fail(err)
		return o, signature
	})
}

// signer is an emulator whose record the attacker's key signed; the certificate
// of that key has this body and this signature.
func signer(make func(s *stage, body []byte) (changed, signature []byte)) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device {
		body, signature := make(s, slices.Concat(s.signerOf(s.Newcomer)[10:42], s.cvKey(&s.key.PublicKey)))
		objects := age(s.born(), s.cvKey(&s.key.PublicKey))
		sum := sha256.Sum256(objects)
		own, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sum[:])
		s.fail(err)
		return s.emulator(object(0xFF10, objects, object(0xDF13, own)), object(0x7F21, object(0x5F4E, body), object(0x5F37, signature)), s.key)
	}
}

// misissuedSigner is a signer that the true card-surface authority certified.
func misissuedSigner(change func(s *stage, body []byte) []byte) func(*stage) vcard.Device {
	return signer(func(s *stage, body []byte) ([]byte, []byte) {
		body = change(s, body)
		signature, err := s.Authority.MisissueSigner(body)
		s.fail(err)
		return body, signature
	})
}

// age is what a record's signature covers.
func age(born, key []byte) []byte {
	return slices.Concat(object(0xDF11, born), object(0xDF12, key))
}

func (s *stage) born() []byte { return []byte(BirthDate.Format("20060102")) }

// cvKey is a public key as cards encode it: 90 exponent, 91 modulus.
func (s *stage) cvKey(pub *rsa.PublicKey) []byte {
	return slices.Concat(object(0x90, []byte{0x01, 0x00, 0x01}), object(0x91, pub.N.Bytes()))
}

func (s *stage) recordOf(img *vcard.Image) []byte { return s.surfaceFile(img, 0x0001) }
func (s *stage) signerOf(img *vcard.Image) []byte { return s.surfaceFile(img, 0x0004) }

func (s *stage) surfaceFile(img *vcard.Image, id vcard.FileID) []byte {
	return bytes.Clone(img.Application(vcard.AIDSurface()).File(id).Content)
}
