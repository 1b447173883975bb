package nfc

import (
	"errors"
	"fmt"
)

// SW is a status word, SW1 and SW2 (ISO/IEC 7816-4:2020 §5.6).
type SW uint16

// Status words that a caller acts on.
const (
	SWSuccess        SW = 0x9000
	SWWrongLength    SW = 0x6700
	SWSecurityStatus SW = 0x6982
	SWMethodBlocked  SW = 0x6983 // what the standard has for it
	SWBlocked        SW = 0x6984 // what JPKI cards answer (card-facts §3)
	SWNotFound       SW = 0x6A82
	SWUnknown        SW = 0x6F00
)

// What a status word means to a caller. A StatusError unwraps to one of them
// or to none.
var (
	ErrNotFound       = errors.New("file or application not found")
	ErrSecurityStatus = errors.New("security status not satisfied")
	ErrBlocked        = errors.New("authentication method blocked")
	ErrWrongLength    = errors.New("wrong length")
)

// A StatusError is a status word other than 9000.
type StatusError struct {
	INS byte // instruction of the command that was answered
	SW  SW
}

func (e *StatusError) Error() string {
	if cause := e.Unwrap(); cause != nil {
		return fmt.Sprintf("INS %02X: SW %04X (%v)", e.INS, uint16(e.SW), cause)
	}
	return fmt.Sprintf("INS %02X: SW %04X", e.INS, uint16(e.SW))
}

// Unwrap gives the meaning of the status word, nil when it has no name here.
func (e *StatusError) Unwrap() error {
	switch e.SW {
	case SWNotFound:
		return ErrNotFound
	case SWSecurityStatus:
		return ErrSecurityStatus
	case SWMethodBlocked, SWBlocked, 0x63C0: // the last: no tries left
		return ErrBlocked
	case SWWrongLength:
		return ErrWrongLength
	}
	return nil
}

// TriesLeft gives the number of further tries that a 63Cx announces, and
// whether the status word is one. 6300 gives no number.
func (e *StatusError) TriesLeft() (int, bool) {
	if e.SW&0xFFF0 != 0x63C0 {
		return 0, false
	}
	return int(e.SW & 0x000F), true
}
