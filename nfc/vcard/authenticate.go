package vcard

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"io"
)

// Method A, the external authentication of a terminal (card-facts §6, §10).
// What the commands mean is our model; that cards take them is known.

// challengeSize is the only challenge that EXTERNAL AUTHENTICATE accepts, in
// bytes.
const challengeSize = 32

// getChallenge is GET CHALLENGE (ISO/IEC 7816-4:2020 §11.6.3): 1 to 256 bytes.
func (c *Card) getChallenge(cmd command) result {
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0:
		return only(swP1P2)
	case cmd.data != nil || cmd.ne == 0:
		return only(swLength)
	case cmd.extended:
		return only(swConditions)
	}
	b := make([]byte, cmd.ne)
	if _, err := io.ReadFull(c.opt.Rand, b); err != nil {
		return only(swUnknown)
	}
	// One challenge is outstanding at most, and only one of the right size.
	c.challenge = nil
	if len(b) == challengeSize {
		c.challenge = b
	}
	return result{b, swOK}
}

// setPublicKey is `80 A2 06 C1` with a certificate's body, then `80 A2 00 C1`
// with its signature.
func (c *Card) setPublicKey(cmd command) statusWord {
	if cmd.p2 != 0xC1 || cmd.p1 != 0x06 && cmd.p1 != 0x00 {
		return swP1P2
	}
	if !c.terminalCACurrent() {
		return swConditions
	}
	if cmd.data == nil || cmd.ne != 0 {
		return swLength
	}
	if cmd.p1 == 0x06 {
		return c.trust.putBody(c.app.root, cmd.data)
	}
	sw := c.trust.putSignature(c.app.root, cmd.data)
	if sw == swOK || sw == swBadCertificate {
		c.work += c.opt.Clock.publicKeyOperation()
	}
	return sw
}

// externalAuthenticate is EXTERNAL AUTHENTICATE (ISO/IEC 7816-4:2020 §11.6.4)
// with RSASSA-PKCS1-v1_5 SHA-256 over the challenge. Whatever signature comes,
// the challenge is used up.
func (c *Card) externalAuthenticate(cmd command) statusWord {
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0x80:
		return swP1P2
	case !c.terminalCACurrent() || c.trust.terminal == nil || c.challenge == nil:
		return swConditions
	case len(cmd.data) != cvSignatureSize || cmd.ne != 0:
		return swLength
	}
	digest := sha256.Sum256(c.challenge)
	c.challenge = nil
	c.work += c.opt.Clock.publicKeyOperation()
	err := rsa.VerifyPKCS1v15(c.trust.terminal.key, crypto.SHA256, digest[:], cmd.data)
	c.app.status[efTerminalCA] = err == nil
	if err != nil {
		return swAuthFailed
	}
	return swOK
}

func (c *Card) terminalCACurrent() bool {
	return c.ef != nil && c.ef.id == efTerminalCA && c.app.root != nil
}
