package adversary

import (
	"crypto"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// Controls are no adversaries: genuine cards, cards made with the adversaries'
// own tools and without their fault, and the one limit of first use. Each is
// admitted. If it were not, the tools would be wrong, and whoever is denied with
// them would prove nothing.
func Controls() []Adversary {
	const ok = "ok"
	return []Adversary{
		Honest(TapUse), Honest(ExternalAuth), Honest(FirstUse),
		{"own-padding", "pads by itself, as it should be", TapUse, ok, 0, false, padded(ff)},
		{"other-chip-with-the-same-key", "is swapped for another chip with the same keys", TapUse, ok, 0, false,
			func(s *stage) vcard.Device { return s.follow(s.genuine(s.Victim), s.genuine(s.Victim), selectSurface) }},
		{"certificate-put-together-again", "has the victim's certificate, taken apart and put together", ExternalAuth, ok, 0, false,
			func(s *stage) vcard.Device {
				c := s.take(s.Unregistered.AuthenticationCertificate())
				return s.emulate(s.withFile(s.clone(s.Unregistered), vcard.AIDJPKI(), 0x000A, c.assemble()))
			}},
		{"certificate-issued-by-the-authority", "has a certificate of the trusted authority for its own key", ExternalAuth, ok, 0, false,
			misissued(func(s *stage, c *certificate) { c.sign(s.Authority) })},
		{"certificate-with-a-further-extension", "has a certificate with a further extension, which is not critical", ExternalAuth, ok, 0, false,
			misissued(func(s *stage, c *certificate) {
				c.extend(object(0x06, []byte{0x2A, 0x03, 0x04}), object(0x04, []byte{0x05, 0x00}))
				c.sign(s.Authority)
			})},
		{"certificate-with-an-rsa-key-written-by-hand", "has a certified key of 2048 bits and exponent 65537", ExternalAuth, ok, 0, false, weak(2048, 65537)},
		{"certificate-over-sha-256", "has a certificate whose signature was made apart", ExternalAuth, ok, 0, false,
			misissued(func(s *stage, c *certificate) {
				var err error
				c.signature, err = s.Authority.MisissueCertificate(c.tbsDER(), crypto.SHA256)
				s.fail(err)
			})},
		{"record-of-its-own-key", "has a record of its own key that the true record key signed", FirstUse, ok, 0, false,
			signed(func(s *stage) []byte { return age(s.born(), s.cvKey(&s.key.PublicKey)) })},
		{"signer-of-its-own", "has a signer of its own that the true authority certified", FirstUse, ok, 0, false,
			misissuedSigner(func(_ *stage, body []byte) []byte { return body })},
		{"twin-at-first-use", "is the genuine card of somebody born on the newcomer's day, behind a copy of the newcomer's certificate", FirstUse, ok, 0, false,
			func(s *stage) vcard.Device { return s.follow(s.copied(s.Newcomer), s.genuine(s.Twin), selectSurface) }},
	}
}

// Honest is the genuine card of a listed person.
func Honest(method string) Adversary {
	return Adversary{"honest-card-for-" + method, "nothing", method, "ok", 0, false, func(s *stage) vcard.Device {
		if method == FirstUse {
			return s.genuine(s.Newcomer)
		}
		return s.genuine(s.Victim)
	}}
}
