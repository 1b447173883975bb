package vcard

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"math/big"
	"slices"
)

// The PIV card application (NIST SP 800-73-4 part 2), as far as somebody who
// signs with such a card needs it: no administration, no secure messaging, no
// unblocking. An application of an image is one by its name, and its parts have
// these identifiers:
//
//	PINs   0080                    the application PIN, VERIFY's reference 80
//	keys   009A, 009C, 009D, 009E  by their references
//	files  C105 for the data object 5FC105, and so on; its content is the object

// aidPIV is how the name of the application begins. SELECT finds it by any part
// from there on (part 2 §3.1.1).
var aidPIV = []byte{0xA0, 0x00, 0x00, 0x03, 0x08}

const (
	pivPIN          = 0x0080
	pivSignatureKey = 0x009C // wants the PIN each time (part 1, table 4b)
	pivPINSize      = 8      // bytes of VERIFY, FF behind the PIN (part 2 §2.4.3)
	maxChain        = 4096   // bytes of a chained command, our model's
)

func isPIV(aid []byte) bool { return bytes.HasPrefix(aid, aidPIV) }

// A chain is the beginning of a command that comes in parts (ISO/IEC 7816-4:2020
// §5.3.3). Any other command ends it.
type chain struct {
	ins, p1, p2 byte
	data        []byte
}

// piv runs a command while the application is selected.
func (c *Card) piv(cmd command) result {
	just := c.justVerified
	c.justVerified = false
	begun := c.chain
	c.chain = chain{}
	if len(begun.data) > 0 && (begun.ins != cmd.ins || begun.p1 != cmd.p1 || begun.p2 != cmd.p2) {
		begun = chain{}
	}
	if len(begun.data)+len(cmd.data) > maxChain {
		return only(swLength)
	}
	data := slices.Concat(begun.data, cmd.data)
	switch cmd.cla {
	case 0x10: // more follows
		c.chain = chain{cmd.ins, cmd.p1, cmd.p2, data}
		c.justVerified = just
		return only(swOK)
	case 0x00:
	default:
		return only(swINS)
	}
	switch cmd.ins {
	case 0x20:
		return only(c.pivVerify(cmd))
	case 0xCB:
		cmd.data = data
		return c.getData(cmd)
	case 0x87:
		cmd.data = data
		return c.generalAuthenticate(cmd, just)
	}
	return only(swINS)
}

// propertyTemplate answers SELECT (part 2, table 3): the end of the name, and the
// authority that gave it.
func propertyTemplate(aid []byte) []byte {
	pix := aid[len(aidPIV):]
	body := slices.Concat([]byte{0x4F, byte(len(pix))}, pix,
		[]byte{0x79, byte(2 + len(aidPIV)), 0x4F, byte(len(aidPIV))}, aidPIV)
	return append([]byte{0x61, byte(len(body))}, body...)
}

// pivVerify is VERIFY (part 2 §3.2.1). Without data it tells the tries, or 9000
// when there is nothing to verify.
func (c *Card) pivVerify(cmd command) statusWord {
	e := c.findEF(pivPIN)
	switch {
	case cmd.p1 != 0:
		return swP1P2
	case cmd.p2 != pivPIN || e == nil || e.pin == nil:
		return swReferenceNotFound
	case cmd.data == nil && c.app.status[pivPIN]:
		return swOK
	case e.pin.Limit > 0 && e.pin.Left == 0:
		return swMethodBlocked
	case cmd.data == nil:
		return e.pin.triesLeft()
	case len(cmd.data) != pivPINSize:
		return swWrongData // which is not counted
	}
	value := append([]byte(e.pin.Value), bytes.Repeat([]byte{0xFF}, max(0, pivPINSize-len(e.pin.Value)))...)
	if !bytes.Equal(cmd.data, value) {
		c.app.status[pivPIN] = false
		if e.pin.Limit > 0 {
			e.pin.Left--
		}
		return e.pin.triesLeft()
	}
	e.pin.Left = e.pin.Limit
	c.app.status[pivPIN], c.justVerified = true, true
	return swOK
}

// getData is GET DATA (part 2 §3.1.2).
func (c *Card) getData(cmd command) result {
	tag, rest, ok := cutObject(0x5C, cmd.data)
	switch {
	case cmd.p1 != 0x3F || cmd.p2 != 0xFF:
		return only(swP1P2)
	case !ok || len(rest) > 0:
		return only(swWrongData)
	case len(tag) != 3 || tag[0] != 0x5F:
		return only(swNotFound)
	}
	e := c.findEF(FileID(tag[1])<<8 | FileID(tag[2]))
	switch {
	case e == nil || e.file == nil:
		return only(swNotFound)
	case !c.app.allows(e.file.Read):
		return only(swSecurityStatus)
	}
	return result{e.file.Content, swOK}
}

// generalAuthenticate is GENERAL AUTHENTICATE (part 2 §3.2.4) with a private key:
// the challenge of the template is what the key operates on, and its response the
// signature. just says that the PIN was verified by the command before.
func (c *Card) generalAuthenticate(cmd command, just bool) result {
	e := c.findEF(FileID(cmd.p2))
	if e == nil || e.key == nil {
		return only(swReferenceNotFound)
	}
	template, rest, ok := cutObject(0x7C, cmd.data)
	if !ok || len(rest) > 0 {
		return only(swWrongData)
	}
	var challenge []byte
	wanted := false
	for len(template) > 0 {
		value, rest, ok := cutObject(template[0], template)
		switch {
		case ok && template[0] == 0x81:
			challenge = value
		case ok && template[0] == 0x82 && len(value) == 0:
			wanted = true
		default:
			return only(swWrongData)
		}
		template = rest
	}
	if !wanted {
		return only(swWrongData)
	}
	if !c.app.allows(e.key.Use) || e.id == pivSignatureKey && !just {
		return only(swSecurityStatus)
	}
	c.work += c.opt.Clock.keyOperation()
	signature, sw := pivSign(e.key.Private, cmd.p1, challenge)
	if sw != swOK {
		return only(sw)
	}
	return result{object(0x7C, object(0x82, signature)), swOK}
}

// pivSign operates as the algorithm says (SP 800-78-4, table 6-2): an RSA key on a
// block that is padded already, a key on a curve on a digest of its size.
func pivSign(key *PrivateKey, algorithm byte, challenge []byte) ([]byte, statusWord) {
	if key := key.RSA(); key != nil {
		m := new(big.Int).SetBytes(challenge)
		if algorithm != 0x07 || len(challenge) != key.Size() || m.Cmp(key.N) >= 0 {
			return nil, swWrongData
		}
		return m.Exp(m, key.D, key.N).FillBytes(make([]byte, key.Size())), swOK
	}
	k := key.ECDSA()
	hash, want := crypto.SHA256, byte(0x11)
	if k.Curve == elliptic.P384() {
		hash, want = crypto.SHA384, 0x14
	}
	if algorithm != want || len(challenge) != hash.Size() {
		return nil, swWrongData
	}
	signature, err := k.Sign(nil, challenge, hash) // RFC 6979
	if err != nil {
		return nil, swUnknown
	}
	return signature, swOK
}

// object is a BER-TLV data object of a one-byte tag.
func object(tag byte, value []byte) []byte {
	head := []byte{tag, byte(len(value))}
	if len(value) > 0xFF {
		head = []byte{tag, 0x82, byte(len(value) >> 8), byte(len(value))}
	} else if len(value) > 0x7F {
		head = []byte{tag, 0x81, byte(len(value))}
	}
	return append(head, value...)
}

// cutObject takes a data object of that tag from the beginning of b.
func cutObject(tag byte, b []byte) (value, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, b := int(b[1]), b[2:]
	switch {
	case n == 0x81 && len(b) >= 1:
		n, b = int(b[0]), b[1:]
	case n == 0x82 && len(b) >= 2:
		n, b = int(b[0])<<8|int(b[1]), b[2:]
	case n >= 0x80:
		return nil, nil, false
	}
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
