package adversary

import (
	"bytes"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// statuses lie in status words: they promise more, ask again, warn, or refuse in
// the hope of something weaker.
var statuses = []Adversary{
	{"more-data-for-ever", "gives the signature byte by byte and announces 255 more each time", TapUse, cardUnsupported, 0, true,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(since(sign), say([]byte{0xAA}, 0x61FF)))
		}},
	{"more-data-and-none", "announces more data, and has none to give", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(since(sign), status(0x6100))) }},
	{"more-data-than-asked-for", "gives all 256 bytes of a signature and announces that many again", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(since(sign), say(make([]byte, 256), 0x6100)))
		}},
	{"wrong-length-for-ever", "names another length each time it is asked with the one it named", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(reading, inTurn(status(0x6C20), status(0x6C30), status(0x6C40), status(0x6C50))))
		}},
	{"length-beyond-the-question", "offers 255 bytes of challenge where 32 were asked for", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(getChallenge, status(0x6CFF))) }},
	{"warning-in-place-of-success", "is the genuine card, and warns with 6282 that the data may be corrupt", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			der := s.Victim.AuthenticationCertificate()
			return s.liar(s.genuine(s.Victim), on(readHead, say(der[:256], 0x6282)))
		}},
	{"signature-with-a-warning", "is the genuine card, and gives its true signature with 6300", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device {
			key := s.keys[s.Victim].card
			return s.liar(s.genuine(s.Victim), on(sign, ending(0x6300, s.signs(key))))
		}},
	{"answer-nobody-asked-for", "answers SELECT with file control information that was not asked for", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(selectJPKI, say(object(0x6F, object(0x84, vcard.AIDJPKI())), 0x9000)))
		}},
	{"says-it-is-a-phone", "wants a PIN before it shows its certificate, so that the gate asks somebody for one", TapUse, pinRequired, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(readHead, status(0x6982))) }},
	{"hides-its-card-key", "says that it has no card-surface application, so that the gate falls back to something weaker", TapUse, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(selectSurface, status(0x6A82))) }},
	{"refuses-to-sign", "says 6985 to the signature command, so that the gate makes do with what it has", TapUse, authFailed, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(sign, status(0x6985))) }},
}

// terminals lie to the terminal about who it is: they want its signature, more
// than one of them, or that it gives up the stronger method.
var terminals = []Adversary{
	{"refuses-the-terminal", "says that it knows no terminal certificates, so that the gate falls back to the other method", ExternalAuth, cardUnsupported, 0, true,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(presenting, status(0x6D00))) }},
	{"has-no-terminal-key", "says that it has no file for the terminal's authority", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(selectTerminalCA, status(0x6A82))) }},
	{"no-challenge", "has the terminal sign no byte at all", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.copied(s.Victim), on(getChallenge, status(0x9000))) }},
	{"short-challenge", "has the terminal sign a challenge of 16 bytes", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(getChallenge, bent(func(data []byte) []byte { return data[:16] })))
		}},
	{"long-challenge", "has the terminal sign a document of 200 bytes that it calls a challenge", ExternalAuth, cardUnsupported, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(getChallenge, say(bytes.Repeat([]byte("I owe.. "), 25), 0x9000)))
		}},
	{"zero-challenge", "gives 32 zero bytes for a challenge, whose answer is the same for ever", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(getChallenge, say(make([]byte, 32), 0x9000)), on(authenticate, status(0x9000)), on(sign, s.signs(s.key)))
		}},
	{"challenge-of-a-stranger", "brings the challenge of another person's card, to show it the terminal's answer", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(getChallenge, relay(s.genuine(s.Accomplice))), on(authenticate, status(0x9000)), on(sign, s.signs(s.key)))
		}},
	{"asks-for-a-second-signature", "answers EXTERNAL AUTHENTICATE as if it had not been carried out", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(authenticate, inTurn(status(0x6F00), status(0x9000))), on(sign, s.signs(s.key)))
		}},
	{"wrong-length-of-a-signature", "asks for EXTERNAL AUTHENTICATE again with another length", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.copied(s.Victim), on(authenticate, inTurn(status(0x6C80), status(0x9000))), on(sign, s.signs(s.key)))
		}},
	{"signs-for-an-unknown-terminal", "answers 6300 to the terminal's signature, and would sign all the same", ExternalAuth, authFailed, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(authenticate, status(0x6300)), on(sign, s.signs(s.keys[s.Victim].authentication)))
		}},
}

// stalls are too slow, at each step, or in sum. They measure themselves by the
// gate's deadline.
var stalls = []Adversary{
	{"mute-from-the-first-command", "never answers SELECT", TapUse, readTimeout, 0, false, mute(selectJPKI)},
	{"mute-at-the-head", "never answers READ BINARY", TapUse, readTimeout, 0, true, mute(readHead)},
	{"mute-at-the-second-application", "never answers the SELECT of the card-surface application", TapUse, readTimeout, 0, false, mute(selectSurface)},
	{"mute-at-the-signature", "never signs", TapUse, readTimeout, 0, false, mute(sign)},
	{"mute-at-the-rest", "never gives the rest of its certificate", ExternalAuth, readTimeout, 0, false,
		func(s *stage) vcard.Device { return s.liar(s.genuine(s.Unregistered), on(readRest, stall)) }},
	{"mute-at-the-terminal-authority", "never answers the SELECT of EF 0016", ExternalAuth, readTimeout, 0, false, mute(selectTerminalCA)},
	{"mute-at-a-certificate", "never answers the body of a terminal certificate", ExternalAuth, readTimeout, 0, false, mute(putBody)},
	{"mute-at-its-check", "never says whether it accepts a terminal certificate", ExternalAuth, readTimeout, 0, false, mute(putSignature)},
	{"mute-at-the-challenge", "never gives its challenge", ExternalAuth, readTimeout, 0, false, mute(getChallenge)},
	{"mute-at-the-terminal-signature", "takes the terminal's signature and never answers", ExternalAuth, readTimeout, 0, false, mute(authenticate)},
	{"mute-at-the-authentication-key", "accepts the terminal and never signs", ExternalAuth, readTimeout, 0, false, mute(sign)},
	{"mute-at-the-signer", "never gives the certificate of its record's signer", FirstUse, readTimeout, 0, false, muteNewcomer(readSigner)},
	{"mute-at-the-tries", "never says how many tries are left", FirstUse, readTimeout, 0, false, muteNewcomer(askTries)},
	{"mute-at-the-birth-date", "takes the birth date and never answers", FirstUse, readTimeout, 0, false, muteNewcomer(verify)},
	{"mute-at-the-record", "never gives its age record", FirstUse, readTimeout, 0, false, muteNewcomer(readRecord)},
	{"drip", "gives its certificate byte by byte, each just before a reader would give up", TapUse, readTimeout, 0, false,
		func(s *stage) vcard.Device {
			one := instead(func(c command) []byte { return apdu(c.cla, c.ins, c.p1, c.p2, nil, 1) })
			return s.liar(s.genuine(s.Victim), on(reading, slowly(s.Deadline/10, one)))
		}},
	{"drip-of-more-data", "gives its signature byte by byte, each announced by the one before", TapUse, readTimeout, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(since(sign), slowly(s.Deadline/10, say([]byte{0xAA}, 0x6101))))
		}},
	{"slow-at-every-command", "answers everything rightly, and each time after a fifth of the time that there is", ExternalAuth, readTimeout, 0, false,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(always, slowly(s.Deadline/5, pass)))
		}},
	{"right-answer-too-late", "gives its true signature just after the deadline", TapUse, readTimeout, 0, true,
		func(s *stage) vcard.Device {
			return s.liar(s.genuine(s.Victim), on(sign, late(s.Deadline)))
		}},
}

func mute(w when) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device { return s.liar(s.genuine(s.Victim), on(w, stall)) }
}

func muteNewcomer(w when) func(*stage) vcard.Device {
	return func(s *stage) vcard.Device { return s.liar(s.genuine(s.Newcomer), on(w, stall)) }
}
