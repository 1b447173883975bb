package vcard

// verify is VERIFY (ISO/IEC 7816-4:2020 §11.6.6, and card-facts §3). Without
// data it tells the tries left, also when the PIN is verified or blocked.
func (c *Card) verify(cmd command) statusWord {
	if cmd.p1 != 0 {
		return swP1P2
	}
	if cmd.p2 != 0x80 { // 80 is the current EF
		if sw := c.selectShort(cmd.p2); sw != swOK {
			return sw
		}
	}
	switch {
	case c.ef == nil:
		return swNoCurrentEF
	case c.ef.pin == nil:
		return swFileStructure
	}
	pin := c.ef.pin
	switch {
	case cmd.data == nil:
		return pin.triesLeft()
	case cmd.ne != 0:
		return swLength
	case pin.Limit > 0 && pin.Left == 0:
		return swBlocked
	case string(cmd.data) != pin.Value: // a wrong length counts as wrong
		c.app.status[pin.ID] = false
		if pin.Limit > 0 {
			pin.Left--
		}
		return pin.triesLeft()
	}
	pin.Left = pin.Limit
	c.app.status[pin.ID] = true
	return swOK
}

// triesLeft is 63Cx, or 6300 where there is no limit.
func (p *PIN) triesLeft() statusWord {
	if p.Limit == 0 {
		return swAuthFailed
	}
	return swTriesLeft | statusWord(p.Left)
}
