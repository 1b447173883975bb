package pcscd

import (
	"context"
	"fmt"
	"net"
	"syscall"
)

// Dial puts a card into the slot at addr: while the connection is open the
// slot holds a card, which answers on it.
//
// The protocol (vsmartcard, vpcd.c) is one message after the other, each a
// big-endian 16-bit length before that many bytes. A message of one byte is a
// control: 0 power off, 1 power on, 2 reset (none of them is answered),
// 4 answer with the ATR, which must not be empty. Everything else is a
// command APDU, answered with a response APDU.
//
// The daemon looks for cards every 400 ms: so long may it take until it
// notices that the connection was opened or closed.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("putting a card into the slot at %s: %w", addr, err)
	}
	tcp := conn.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("putting a card into the slot at %s: %w", addr, err)
	}
	return &quickConn{TCPConn: tcp, raw: raw}, nil
}

// A quickConn acknowledges at once. vpcd writes length and payload apart, and
// with Nagle's algorithm the second waits for the acknowledgement of the
// first, which the kernel likes to delay by 40 ms. The kernel forgets the
// option as it sees fit (tcp(7)), so it is set before each read.
type quickConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

func (c *quickConn) Read(p []byte) (int, error) {
	// Without the option the card is slow, no more: the error is not worth
	// a broken session.
	_ = c.raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
	return c.TCPConn.Read(p)
}
