package vcard

import (
	"bytes"
	"encoding/binary"
)

// selectFile is SELECT (card-facts §3).
func (c *Card) selectFile(cmd command) result {
	// Only "first or only occurrence" with FCI or without (ISO/IEC 7816-4:2020 §11.2.2).
	wantFCI := cmd.p2 == 0x00
	if !wantFCI && cmd.p2 != 0x0C {
		return only(swP1P2)
	}
	var fci []byte
	switch cmd.p1 {
	case 0x04: // by DF name, in full, save that of a PIV application
		app := c.findApplication(cmd.data)
		if app == nil {
			return only(swNotFound)
		}
		c.app, c.dfState = app, dfState{}
		if app.piv && wantFCI && cmd.ne > 0 {
			return result{propertyTemplate(app.aid), swOK}
		}
		fci = append([]byte{0x84, byte(len(app.aid))}, app.aid...)
	case 0x02: // EF under the current DF
		if len(cmd.data) != 2 {
			return only(swLength)
		}
		e := c.findEF(FileID(binary.BigEndian.Uint16(cmd.data)))
		if e == nil {
			return only(swNotFound)
		}
		c.ef = e
		if e.file != nil {
			fci = binary.BigEndian.AppendUint16([]byte{0x80, 0x02}, uint16(e.file.Size))
		}
		fci = append(fci, 0x83, 0x02, byte(e.id>>8), byte(e.id))
	case 0x00:
		// The trap: refused on a cold card, later accepted without effect.
		if c.app == nil {
			return only(swP1P2)
		}
		return only(swOK)
	default:
		return only(swP1P2)
	}
	if !wantFCI || cmd.ne == 0 {
		return only(swOK)
	}
	return result{append([]byte{0x6F, byte(len(fci))}, fci...), swOK}
}

// readBinary is READ BINARY with even INS (ISO/IEC 7816-4:2020 §11.3.3). An
// answer ends with the file or with Le, whichever comes first.
func (c *Card) readBinary(cmd command) result {
	if cmd.data != nil || cmd.ne == 0 {
		return only(swLength)
	}
	offset := int(cmd.p1)<<8 | int(cmd.p2)
	if cmd.p1&0x80 != 0 { // by short EF identifier, which selects
		if sw := c.selectShort(cmd.p1); sw != swOK {
			return only(sw)
		}
		offset = int(cmd.p2)
	}
	switch {
	case c.ef == nil:
		return only(swNoCurrentEF)
	case c.ef.file == nil: // keys and PINs
		return only(swFileStructure)
	case !c.app.allows(c.ef.file.Read):
		return only(swSecurityStatus)
	}
	f := c.ef.file
	if offset >= f.Size {
		return only(swOffset)
	}
	n := min(cmd.ne, f.Size-offset)
	if c.opt.ExactLe && n < cmd.ne && n < 256 {
		return only(swWrongLe | statusWord(n))
	}
	data := bytes.Repeat([]byte{0xFF}, n) // filler
	if offset < len(f.Content) {
		copy(data, f.Content[offset:])
	}
	return result{data, swOK}
}

// selectShort makes the EF of p, which is 80 | short identifier, current.
func (c *Card) selectShort(p byte) statusWord {
	sfi := p & 0x1F
	if p&0xE0 != 0x80 || sfi == 0 || sfi == 0x1F {
		return swP1P2
	}
	if c.app != nil {
		for _, e := range c.app.efs {
			if e.id.shortID() == sfi {
				c.ef = e
				return swOK
			}
		}
	}
	return swNotFound
}

func (c *Card) findApplication(aid []byte) *application {
	for _, app := range c.apps {
		if bytes.Equal(app.aid, aid) || app.piv && isPIV(aid) && bytes.HasPrefix(app.aid, aid) {
			return app
		}
	}
	return nil
}

func (c *Card) findEF(id FileID) *ef {
	if c.app != nil {
		for _, e := range c.app.efs {
			if e.id == id {
				return e
			}
		}
	}
	return nil
}

// allows says whether any one of the conditions is met; none means free.
func (a *application) allows(conditions []FileID) bool {
	for _, id := range conditions {
		if a.status[id] {
			return true
		}
	}
	return len(conditions) == 0
}
