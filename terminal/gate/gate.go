// Package gate is the hardware of a gate: relay, lamps, buzzer, and what
// watches the passage. GPIO is one on the pins of a board, Simulator one
// without hardware.
//
// It promises: the relay is at rest before anything else is done and when
// everything is over; it moves for a permit only, once or once for each
// person, and never on while nobody answers for it; whoever passes is counted
// once or reported as uncountable; and no signal is told by colour alone.
package gate

import (
	"errors"

	"github.com/gate-agent/gate-agent/terminal"
)

// Errors of Open. The permit is not spent then.
var (
	ErrAlarm  = errors.New("fire alarm: the gate is opened by hardware, the relay stays as it is")
	ErrClosed = errors.New("gate is closed down")

	errNobody = errors.New("gate opened for nobody")
	errNoKeys = errors.New("no staff key is configured (gate.confirm)")
)

var (
	_ terminal.Gate          = (*GPIO)(nil)
	_ terminal.HolderChecker = (*GPIO)(nil)
	_ terminal.Gate          = (*Simulator)(nil)
	_ terminal.HolderChecker = (*Simulator)(nil)
)
