package vcard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Options choose how a card behaves where real cards and readers differ. The
// zero value is a plain good card without a clock.
type Options struct {
	Clock *Clock    // nil: no time is modelled
	Rand  io.Reader // challenges and PSS salts; nil: crypto/rand

	// FirstCommandFails answers 6F00 to the first command after power-up, not
	// after warm reset, and does not execute it (card-facts §10).
	FirstCommandFails bool
	// NoExtendedLength answers 6700 to every command in extended form.
	NoExtendedLength bool
	// ExactLe answers 6Cxx to a READ BINARY that asks for more than is left.
	ExactLe bool
	// GetResponse keeps the data of a case 4 command back: 61xx without data,
	// then GET RESPONSE, as through a T=0 reader.
	GetResponse bool
	// ResponsePart, when above 0, cuts longer answers into parts of that many
	// bytes: the first part comes at once, with 61xx.
	ResponsePart int
}

// Card is a virtual card on a reader. What it remembers, and for how long:
//
//	for ever           PIN tries left
//	until PowerOff     security status: PINs verified, terminal authenticated
//	until warm Reset   selected DF and EF, challenge, certified keys, 61xx remainder
//	until SELECT DF    selected EF, challenge, certified keys
//	until next command 61xx remainder
//
// A card serves one user at a time, as a card in a reader does: its methods
// must not run concurrently.
type Card struct {
	atr   []byte
	apps  []*application
	mute  *statusWord // the answer to everything; nil: commands are executed
	opt   Options
	power power
	fresh bool // no command since power-up
	session
}

type power byte

const (
	neverPowered power = iota // the first Transmit powers up
	poweredOn
	poweredOff
)

// session is what a warm reset ends.
type session struct {
	app  *application
	rest result // waits for GET RESPONSE
	dfState
	chain        chain         // PIV: the parts of a command so far
	justVerified bool          // PIV: by the command before
	work         time.Duration // modelled work of the command that runs
}

// dfState is what SELECT DF ends too.
type dfState struct {
	ef        *ef
	challenge []byte // nil: none outstanding
	trust     terminalTrust
}

// application is a DF with the state of its PINs.
type application struct {
	aid         []byte
	efs         []*ef
	internalKey *PrivateKey
	piv         bool
	root        *cvKey          // from EF 0016; nil: no terminal authentication
	status      map[FileID]bool // PINs verified, and 0016 for an authenticated terminal
}

// ef is a file, a PIN or a key: exactly one of the three pointers is set.
type ef struct {
	id   FileID
	file *File
	pin  *PIN
	key  *Key
}

// ErrUnpowered is what Transmit returns after PowerOff.
var ErrUnpowered = errors.New("card is not powered")

// New makes a card from an image, which it does not change. The card is not
// powered yet.
func New(img *Image, opt Options) (*Card, error) {
	if err := img.check(); err != nil {
		return nil, err
	}
	if opt.Rand == nil {
		opt.Rand = rand.Reader
	}
	c := &Card{atr: bytes.Clone(img.ATR), opt: opt}
	if img.Answer != nil {
		sw := statusWord(binary.BigEndian.Uint16(img.Answer))
		c.mute = &sw
	}
	for _, a := range img.Applications {
		app := &application{
			aid:         bytes.Clone(a.AID),
			internalKey: a.InternalKey,
			piv:         isPIV(a.AID),
			status:      make(map[FileID]bool),
		}
		for _, f := range a.Files {
			f.Content = bytes.Clone(f.Content)
			if f.ID == efTerminalCA {
				root, err := parseCVKey(f.Content)
				if err != nil {
					return nil, fmt.Errorf("card image: terminal CA: %w", err)
				}
				app.root = root
			}
			app.efs = append(app.efs, &ef{id: f.ID, file: &f})
		}
		for _, p := range a.PINs {
			app.efs = append(app.efs, &ef{id: p.ID, pin: &p})
		}
		for _, k := range a.Keys {
			app.efs = append(app.efs, &ef{id: k.ID, key: &k})
		}
		c.apps = append(c.apps, app)
	}
	return c, nil
}

// PowerOn powers the card up. On a powered card it does nothing.
func (c *Card) PowerOn() {
	if c.power == poweredOn {
		return
	}
	c.power, c.fresh, c.session = poweredOn, true, session{}
}

// PowerOff takes the field away: nothing is left but the PIN tries.
func (c *Card) PowerOff() {
	c.power, c.session = poweredOff, session{}
	for _, app := range c.apps {
		clear(app.status)
	}
}

// Reset is a warm reset. The security status survives it (card-facts §3, the
// session trap), save in a PIV application. It powers an unpowered card up.
func (c *Card) Reset() {
	if c.power != poweredOn {
		c.PowerOn()
		return
	}
	c.session = session{}
	for _, app := range c.apps {
		if app.piv {
			clear(app.status)
		}
	}
}

// ATR returns the answer to reset.
func (c *Card) ATR() []byte { return bytes.Clone(c.atr) }

// Transmit executes a command APDU and returns the response APDU, at least SW1
// SW2. The first Transmit powers the card up if nobody did; after PowerOff the
// error is ErrUnpowered. Any other error is that of ctx, which ends the modelled
// wait: the command has then taken place and its answer is lost, as when a
// person takes the card away.
func (c *Card) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	switch c.power {
	case neverPowered:
		c.PowerOn()
	case poweredOff:
		return nil, ErrUnpowered
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("virtual card: %w", err)
	}
	if c.opt.Clock == nil {
		return c.execute(capdu).bytes(), nil
	}
	start := time.Now()
	rapdu := c.execute(capdu).bytes()
	if err := c.opt.Clock.spend(ctx, start, len(capdu), len(rapdu), c.work); err != nil {
		return nil, fmt.Errorf("virtual card: %w", err)
	}
	return rapdu, nil
}

// execute runs one command and shapes its response.
func (c *Card) execute(capdu []byte) result {
	c.work = 0
	if c.mute != nil {
		return only(*c.mute)
	}
	fresh := c.fresh
	c.fresh = false
	if fresh && c.opt.FirstCommandFails {
		return only(swUnknown)
	}
	cmd, err := parseCommand(capdu)
	if err != nil || cmd.extended && c.opt.NoExtendedLength {
		c.rest = result{}
		return only(swLength)
	}
	if cmd.cla == 0x00 && cmd.ins == 0xC0 {
		return c.getResponse(cmd)
	}
	c.rest = result{}
	r := c.dispatch(cmd)
	if len(r.data) == 0 {
		return r
	}
	if len(r.data) > cmd.ne && c.app != nil && c.app.piv && cmd.ne > 0 {
		c.rest = result{r.data[cmd.ne:], r.sw} // a PIV card has long answers, and most readers short lengths
		return result{r.data[:cmd.ne], c.moreData()}
	}
	if len(r.data) > cmd.ne {
		return only(swWrongLe | statusWord(min(len(r.data), 256)&0xFF))
	}
	if c.opt.GetResponse && cmd.data != nil {
		c.rest = r
		return only(c.moreData())
	}
	if part := c.opt.ResponsePart; part > 0 && len(r.data) > part {
		c.rest = result{r.data[part:], r.sw}
		return result{r.data[:part], c.moreData()}
	}
	return r
}

// dispatch finds the command of card-facts §3. What is not there answers 6D00,
// whatever its class: software that probes for other cards asks for a clean no.
func (c *Card) dispatch(cmd command) result {
	if c.app != nil && c.app.piv && cmd.ins != 0xA4 {
		return c.piv(cmd)
	}
	switch uint16(cmd.cla)<<8 | uint16(cmd.ins) {
	case 0x00A4:
		return c.selectFile(cmd)
	case 0x00B0:
		return c.readBinary(cmd)
	case 0x0020:
		return only(c.verify(cmd))
	case 0x0084:
		return c.getChallenge(cmd)
	case 0x0082:
		return only(c.externalAuthenticate(cmd))
	case 0x80A2:
		return only(c.setPublicKey(cmd))
	case 0x802A:
		return c.sign(cmd)
	}
	return only(swINS)
}

// moreData is the 61xx for what waits.
func (c *Card) moreData() statusWord {
	return swMoreData | statusWord(min(len(c.rest.data), 256)&0xFF)
}

// getResponse is GET RESPONSE (ISO/IEC 7816-4:2020 §11.8.1).
func (c *Card) getResponse(cmd command) result {
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0:
		return only(swP1P2)
	case cmd.data != nil || cmd.ne == 0:
		return only(swLength)
	case len(c.rest.data) == 0:
		return only(swConditions)
	}
	n := min(len(c.rest.data), cmd.ne)
	if part := c.opt.ResponsePart; part > 0 {
		n = min(n, part)
	}
	r := result{c.rest.data[:n], c.rest.sw}
	c.rest.data = c.rest.data[n:]
	if len(c.rest.data) > 0 {
		r.sw = c.moreData()
	}
	return r
}
