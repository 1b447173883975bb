package pcscd

import (
	"bytes"
	"errors"
	"net"
)

// ErrPulled ends the service of a card that was pulled away.
var ErrPulled = errors.New("card pulled away")

// Pulled is the connection of a card with that ATR, which a person pulls away
// in the middle of a command: the connection closes itself in the place of the
// card's answer to that command, counted from 1 since the card was put in.
func Pulled(conn net.Conn, atr []byte, command int) net.Conn {
	return &pulledConn{Conn: conn, atr: bytes.Clone(atr), commands: command}
}

type pulledConn struct {
	net.Conn
	atr      []byte
	commands int // until the card leaves
}

// Write is called once with each message of the card: an ATR, which vpcd asks
// for now and then, or a response APDU, behind a length of two bytes.
func (c *pulledConn) Write(message []byte) (int, error) {
	if !bytes.Equal(message[2:], c.atr) {
		if c.commands--; c.commands == 0 {
			return 0, errors.Join(ErrPulled, c.Close())
		}
	}
	return c.Conn.Write(message)
}
