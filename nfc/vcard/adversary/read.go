package adversary

import (
	"bytes"
	"slices"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// heads lie in the first bytes of a certificate, where a reader learns how much
// there is to read. Every one of them is the victim's head with one fault.
var heads = []Adversary{
	{"certificate-of-4-gigabytes", "says in its first bytes that 4,294,967,295 more follow", TapUse, cardUnsupported, 0, true,
		head(func(b []byte) []byte { return slices.Concat([]byte{0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF}, b[4:]) })},
	{"certificate-of-64-kilobytes", "says that 65,535 bytes follow, the most that two bytes can say", TapUse, cardUnsupported, 0, false,
		head(func(b []byte) []byte { b[2], b[3] = 0xFF, 0xFF; return b })},
	{"indefinite-length", "leaves the length open, as BER may and DER may not", TapUse, cardUnsupported, 0, false,
		head(func(b []byte) []byte { return slices.Concat([]byte{0x30, 0x80}, b[4:]) })},
	{"length-with-a-leading-zero", "writes its length in three bytes where two suffice", TapUse, cardUnsupported, 0, false,
		head(func(b []byte) []byte { return slices.Concat([]byte{0x30, 0x83, 0x00}, b[2:]) })},
	{"inner-longer-than-outer", "has a TBSCertificate that ends behind its certificate", TapUse, cardUnsupported, 0, false,
		head(func(b []byte) []byte { b[6] += 2; return b })},
	{"issuer-that-never-ends", "has an issuer's name of 60,000 bytes", TapUse, cardUnsupported, 0, false,
		headPart(issuer, func(der []byte) []byte { return slices.Concat([]byte{0x30, 0x82, 0xEA, 0x60}, der[2:]) })},
	{"serial-number-of-no-bytes", "has a serial number of length zero, and everything behind it moved", TapUse, notListed, 0, false,
		headPart(serial, func([]byte) []byte { return []byte{0x02, 0x00} })},
	{"serial-number-with-a-leading-zero", "writes the serial number with a zero byte before it, to be counted as somebody else", TapUse, notListed, 0, false,
		headPart(serial, func(der []byte) []byte { return object(0x02, []byte{0}, der[2:]) })},
	{"multi-byte-tag", "has a tag of two bytes where the serial number should be", TapUse, cardUnsupported, 0, false,
		headPart(serial, func(der []byte) []byte { return append([]byte{0x1F, 0x02}, der[1:]...) })},
	{"time-with-an-offset", "is valid by a local time", TapUse, cardUnsupported, 0, false,
		headPart(validity, func([]byte) []byte {
			return object(0x30, object(0x17, []byte("200101000000+0900")), object(0x17, []byte("400101000000Z")))
		})},
	{"day-that-does-not-exist", "is valid from 30 February", TapUse, cardUnsupported, 0, false,
		headPart(validity, func([]byte) []byte {
			return object(0x30, object(0x17, []byte("200230000000Z")), object(0x17, []byte("400101000000Z")))
		})},
	{"validity-turned-round", "ends before it begins, so that no instant or any could be inside", TapUse, cardUnsupported, 0, false,
		headPart(validity, func([]byte) []byte {
			return object(0x30, object(0x17, []byte("400101000000Z")), object(0x17, []byte("200101000000Z")))
		})},
	{"longer-life", "moves the end of its validity to 2049", TapUse, notListed, 0, false,
		headPart(validity, func(der []byte) []byte { copy(der[len(der)-13:], "49"); return der })},
	{"version-1", "is a certificate without a version and without extensions to be bound by", TapUse, cardUnsupported, 0, false,
		headPart(version, func([]byte) []byte { return nil })},
}

// head is a copy of the victim's card whose certificate begins differently.
func head(f func(certificate []byte) []byte) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device {
		return s.emulate(s.withCertificate(s.Victim, f(s.Victim.AuthenticationCertificate())))
	}
}

// headPart is a copy of the victim's card with one part of its TBSCertificate
// changed, and all lengths in accord.
func headPart(part int, f func(der []byte) []byte) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device {
		parts := s.take(s.Victim.AuthenticationCertificate())
		parts.tbs[part] = f(bytes.Clone(parts.tbs[part]))
		return s.emulate(s.withCertificate(s.Victim, parts.assemble()))
	}
}

// reads lie in how a file is read: how much comes, and from where.
var reads = []Adversary{
	{"one-byte-at-a-time", "gives one byte to every READ BINARY, whatever was asked for", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(reading, instead(func(c command) []byte { return apdu(c.cla, c.ins, c.p1, c.p2, nil, 1) })))
		}},
	{"half-as-much-each-time", "gives 128 bytes, then 64, then 32, and in the end none", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			ne := 256
			return s.liar(s.copied(s.Unregistered), on(reading, bent(func(data []byte) []byte { ne /= 2; return data[:min(ne, len(data))] })))
		}},
	{"empty-file", "answers READ BINARY with 9000 and no byte", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(reading, status(0x9000))) }},
	{"more-than-was-asked-for", "gives 257 bytes where 256 were asked for", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(reading, bent(func(data []byte) []byte { return append(data, 0) })))
		}},
	{"64-kilobytes-at-once", "gives as many bytes as no response can have", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(sign, say(make([]byte, 70000), 0x9000)))
		}},
	{"file-ends-early", "has no more of its certificate than the head", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Unregistered), on(readRest, status(0x6B00)))
		}},
	{"file-begins-again", "gives the beginning of the file for every offset", ExternalAuth, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Unregistered), on(readRest, instead(func(c command) []byte { return apdu(c.cla, c.ins, 0x8A, 0, nil, c.ne) })))
		}},
	{"certificate-of-zeros", "announces the longest certificate that is read, and gives zeros for as long as it is asked", ExternalAuth, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			der := s.Unregistered.AuthenticationCertificate()
			der[2], der[3] = 0x0F, 0xFC // 4,096 bytes with this header
			der[6], der[7] = 0x0E, 0xF0
			return s.liar(s.emulate(s.withCertificate(s.Unregistered, s.listed(der))), on(readRest, makes(func(c command) []byte { return make([]byte, c.ne) })))
		}},
}
