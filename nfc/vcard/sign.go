package vcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
)

// sign is `80 2A P1 P2` (card-facts §3): with a key EF of the JPKI-AP, or, as
// `80 2A 00 00` in the card-surface AP, with the card's own key and no PIN.
func (c *Card) sign(cmd command) result {
	if c.app == nil {
		return only(swNotFound)
	}
	if key := c.app.internalKey; key != nil {
		// An RSA key takes its DigestInfo as 80 2A 00 00 alone; a P-384 key, which
		// knows no DigestInfo, a P1 of signECDSA.
		if cmd.p2 != 0 || cmd.p1 != 0 && key.RSA() != nil {
			return only(swP1P2)
		}
		return c.signWith(key, cmd)
	}
	if cmd.p2 != 0x80 {
		if sw := c.selectShort(cmd.p2); sw != swOK {
			return only(sw)
		}
	}
	switch {
	case c.ef == nil:
		return only(swNoCurrentEF)
	case c.ef.key == nil:
		return only(swFileStructure)
	case !c.app.allows(c.ef.key.Use):
		return only(swSecurityStatus)
	}
	return c.signWith(c.ef.key.Private, cmd)
}

// pssSaltSize is our model's salt (card-facts §10), in bytes.
const pssSaltSize = 32

// signWith signs as the kind of key does. What does not fit answers 6700.
func (c *Card) signWith(key *PrivateKey, cmd command) result {
	if len(cmd.data) == 0 || cmd.ne == 0 {
		return only(swLength)
	}
	if key := key.ECDSA(); key != nil {
		return c.signECDSA(key, cmd)
	}
	return c.signRSA(key.RSA(), cmd)
}

// signECDSA is our model of the next generation, whose commands nobody has
// published: P1 keeps its meaning, SHA-384 takes the place of SHA-256, and what
// only RSA has (a DigestInfo that is padded, PSS) answers 6A86. The answer is an
// ASN.1 DER Ecdsa-Sig-Value (RFC 3279 §2.2.3). The card draws no random numbers
// for it (RFC 6979), so that its answers can be foretold in a test.
func (c *Card) signECDSA(key *ecdsa.PrivateKey, cmd command) result {
	digest := cmd.data
	switch cmd.p1 {
	case 0x01, 0x02: // a bare hash is a digest here
		if len(digest) != sha512.Size384 {
			return only(swLength)
		}
	case 0x03:
		sum := sha512.Sum384(cmd.data)
		digest = sum[:]
	default:
		return only(swP1P2)
	}
	c.work += c.opt.Clock.keyOperation()
	signature, err := key.Sign(nil, digest, crypto.SHA384)
	if err != nil {
		return only(swUnknown)
	}
	return result{signature, swOK}
}

// signRSA pads as P1 says.
func (c *Card) signRSA(key *rsa.PrivateKey, cmd command) result {
	var (
		message   = cmd.data
		hash      crypto.Hash // 0: PKCS #1 v1.5 padding around message as it is
		pss       bool
		isDigest  = cmd.p1 == 0x02 || cmd.p1 == 0x04
		isMessage = cmd.p1 == 0x03 || cmd.p1 == 0x05
	)
	switch cmd.p1 {
	case 0x00: // the data as given: a DigestInfo
		if len(message) > key.Size()-11 { // RFC 8017 §9.2
			return only(swLength)
		}
	case 0x01: // a bare hash
		switch len(message) {
		case 20, 28, 32, 48, 64:
		default:
			return only(swLength)
		}
	case 0x02, 0x03: // SHA-256 DigestInfo around a digest, or of a message
		hash = crypto.SHA256
	case 0x04, 0x05: // PSS, of a digest or a message
		hash, pss = crypto.SHA256, true
	default:
		return only(swP1P2)
	}
	if isDigest && len(message) != sha256.Size {
		return only(swLength)
	}
	if isMessage {
		digest := sha256.Sum256(message)
		message = digest[:]
	}

	c.work += c.opt.Clock.keyOperation()
	var signature []byte
	var err error
	if pss {
		opts := &rsa.PSSOptions{SaltLength: pssSaltSize}
		signature, err = rsa.SignPSS(c.opt.Rand, key, hash, message, opts)
	} else {
		signature, err = rsa.SignPKCS1v15(nil, key, hash, message)
	}
	if err != nil { // the generator failed: a card has no better words
		return only(swUnknown)
	}
	return result{signature, swOK}
}
