package adversary

import (
	"bytes"
	"context"
	"crypto/rand"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// copies are cards that somebody made without the keys of a genuine one, down to
// those that know no more than that a reader likes to hear 9000.
var copies = []Adversary{
	{"copied-card", "has every file of the victim's card, and another key", TapUse, authFailed, 0, true,
		func(s *stage) vcard.Device { return s.copied(s.Victim) }},
	{"copied-card-of-an-unregistered-key", "shows the victim's certificate whole, and signs with another key", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.copied(s.Unregistered) }},
	{"fishes-for-a-registration", "has every file of a person whose registration was withdrawn, to hear what the list says of her", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.copied(s.Accomplice) }},
	{"stranger-with-a-challenge", "is genuine and not on the list, and wants the terminal's signature over its challenge", ExternalAuth, notListed, 0, false,
		func(s *stage) vcard.Device { return s.genuine(s.Twin) }},
	{"accepts-any-terminal", "answers 9000 to the terminal's certificates and its signature, and signs with its own key", ExternalAuth, authFailed, 0, true,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(presenting, status(0x9000)), on(authenticate, status(0x9000)), on(sign, s.signs(s.key)))
		}},
	{"yes-card", "answers 9000 to everything, and nothing else", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(always, status(0x9000))) }},
	{"noise", "answers every command with as many random bytes as it asks for, and 9000", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(always, makes(noise))) }},
	{"noise-behind-a-true-head", "has the victim's head, and random bytes for a signature", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(sign, makes(noise))) }},
	{"no-precise-diagnosis", "answers 6F00 to everything, as some cards do to the first command", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(always, status(0x6F00))) }},
	{"echo", "answers every command with the command and 9000", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(always, makes(func(c command) []byte { return c.raw })))
		}},
	{"one-answer-behind", "is the genuine card, and answers each command from the second application on with the answer to the one before", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			held := response(nil, 0x9000)
			return s.liar(s.genuine(s.Victim), on(since(selectSurface), func(ctx context.Context, c command, card vcard.Device) ([]byte, error) {
				rapdu, err := card.Transmit(ctx, c.raw)
				held, rapdu = rapdu, held
				return rapdu, err
			}))
		}},
	{"no-answer-at-all", "answers the signature command with no byte, as a card that left does", TapUse, cardRemoved, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(sign, exactly(nil))) }},
	{"half-a-status-word", "answers the signature command with the byte 90", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(sign, exactly([]byte{0x90}))) }},
}

func noise(c command) []byte {
	b := make([]byte, c.ne)
	rand.Read(b)
	return b
}

// swaps bring two chips, or two keys, into one dialogue.
var swaps = []Adversary{
	{"swapped-after-the-head", "shows the victim's head, and is then the accomplice's genuine card", TapUse, authFailed, 0, true,
		func(s *stage) vcard.Device {
			return s.follow(s.copied(s.Victim), s.genuine(s.Accomplice), selectSurface)
		}},
	{"own-head-with-a-borrowed-signature", "shows the head of a revoked accomplice, and has a listed person's genuine card sign", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.follow(s.copied(s.Accomplice), s.genuine(s.Victim), selectSurface)
		}},
	{"relay-to-the-wrong-chip", "passes only the signature command on, to the accomplice's genuine card", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			other := s.genuine(s.Accomplice)
			return s.liar(s.copied(s.Victim), on(sign, func(ctx context.Context, c command, _ vcard.Device) ([]byte, error) {
				if !succeeded(other, apdu(0x00, 0xA4, 0x04, 0x0C, vcard.AIDSurface(), 0)) {
					return response(nil, 0x6A82), nil
				}
				return other.Transmit(ctx, c.raw)
			}))
		}},
	{"signs-with-the-certified-key", "answers with the victim's authentication key where the card key is registered", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, s.signs(s.keys[s.Victim].authentication)))
		}},
	{"signs-with-the-card-key", "answers with the victim's card key, which needs no terminal, where the authentication key is registered", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, s.signs(s.keys[s.Victim].card)))
		}},
	{"swapped-before-the-signature", "lets the victim's genuine card accept the terminal, and the accomplice's, unlocked by PIN, sign", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, s.signs(s.keys[s.Accomplice].authentication)))
		}},
	{"body-of-another-certificate", "continues the victim's head with the rest of the accomplice's certificate", ExternalAuth, certUntrusted, 0, false,
		func(s *stage) vcard.Device {
			return s.follow(s.copied(s.Unregistered), s.genuine(s.Accomplice), readRest)
		}},
	{"certificate-of-another-terminal", "gives the victim's genuine card the certificate of a terminal of the attacker's own", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			rogue, _, err := s.Foreign.TerminalCertificates(&s.key.PublicKey)
			s.fail(err)
			return s.liar(s.genuine(s.Victim),
				on(once(putBody), instead(func(c command) []byte { return apdu(c.cla, c.ins, c.p1, c.p2, rogue[:len(rogue)-261], 0) })),
				on(once(putSignature), instead(func(c command) []byte { return apdu(c.cla, c.ins, c.p1, c.p2, rogue[len(rogue)-261:], 0) })))
		}},
}

// replays answer with what was said at another time or place.
var replays = []Adversary{
	{"last-signature-again", "repeats the signature that the victim's card made at this gate before", TapUse, authFailed, 0, true,
		func(s *stage) vcard.Device {
			old := s.signature(s.keys[s.Victim].card, digest(s.Scope, s.Terminal, "gate", s.Setting.Challenge))
			return s.liar(s.copied(s.Victim), on(sign, say(old, 0x9000)))
		}},
	{"signature-for-the-next-gate", "shows what the victim's card has just signed for another terminal", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			other := s.signature(s.keys[s.Victim].card, digest(s.Scope, s.Terminal+"-other", "gate", s.Setting.Challenge))
			return s.liar(s.copied(s.Victim), on(sign, say(other, 0x9000)))
		}},
	{"digest-changed-on-its-way", "has the victim's genuine card sign a digest that differs in one bit", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, instead(func(c command) []byte {
				raw := bytes.Clone(c.raw)
				raw[len(raw)-2] ^= 1 // the last byte before Le
				return raw
			})))
		}},
	{"whole-session-again", "repeats a session that was overheard, the card's challenge included", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			old := s.signature(s.keys[s.Victim].authentication, digest(s.Scope, s.Terminal, "gate", s.Setting.Challenge))
			return s.liar(s.copied(s.Victim), on(presenting, status(0x9000)), on(getChallenge, say(s.Setting.Challenge[:], 0x9000)),
				on(authenticate, status(0x9000)), on(sign, say(old, 0x9000)))
		}},
	{"signature-for-a-purchase", "shows what the victim's card signed with its PIN at a kiosk, for another purpose", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			other := s.signature(s.keys[s.Victim].authentication, digest(s.Scope, s.Terminal, "purchase", s.Setting.Challenge))
			return s.liar(s.copied(s.Victim), on(sign, say(other, 0x9000)), on(presenting, status(0x9000)), on(authenticate, status(0x9000)))
		}},
	{"terminal-signature-again", "gives the victim's genuine card an old signature of the terminal in the place of the new one", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(authenticate, instead(func(c command) []byte {
				return apdu(c.cla, c.ins, c.p1, c.p2, s.Authentication, 0)
			})))
		}},
}
