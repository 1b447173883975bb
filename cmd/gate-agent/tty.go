package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A tty is the controlling terminal: where the person is who types a PIN,
// wherever the standard streams go.
//
// golang.org/x/term reads a password too, and was rejected: its read ends
// neither with a context, so that a card which leaves could not end the
// question, nor without copies of what was typed that nobody overwrites.
type tty struct{ f *os.File }

// openTTY opens the controlling terminal.
func openTTY() (tty, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return tty{}, fmt.Errorf("no terminal at which somebody could type a PIN: %w", err)
	}
	// Else a question could not be ended.
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return tty{}, errors.Join(fmt.Errorf("terminal: %w", err), f.Close())
	}
	return tty{f}, nil
}

func (t tty) Close() error { return t.f.Close() }

// say writes a line. That nobody sees it will show when nobody types.
func (t tty) say(format string, a ...any) { fmt.Fprintf(t.f, format+"\n", a...) }

// How long a line is that a person can type in answer to a question, in bytes.
const (
	longestSecret = 64
	longestName   = 256 // 64 characters
)

// ask reads one line that does not show; of a longer one it returns none of it.
// What was typed before it asked does not count. The caller overwrites the line.
func (t tty) ask(ctx context.Context, prompt string) (line []byte, err error) {
	return t.question(ctx, prompt, longestSecret, false)
}

// askName is ask for a line that shows, and that is no secret.
func (t tty) askName(ctx context.Context, prompt string) (string, error) {
	line, err := t.question(ctx, prompt, longestName, true)
	return string(line), err
}

func (t tty) question(ctx context.Context, prompt string, most int, shows bool) (line []byte, err error) {
	before, err := t.prepare(shows)
	if err != nil {
		return nil, fmt.Errorf("hiding what is typed: %w", err)
	}
	fmt.Fprint(t.f, prompt)
	line, err = t.line(ctx, most)
	if !shows || err != nil {
		fmt.Fprintln(t.f) // the one that was typed did not show either
	}
	if restored := t.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, before) }); restored != nil {
		clear(line)
		return nil, errors.Join(err, fmt.Errorf("showing what is typed again: %w", restored))
	}
	return line, err
}

// line reads a line of at most so many bytes, until ctx ends.
func (t tty) line(ctx context.Context, most int) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = t.f.SetReadDeadline(time.Unix(1, 0)) })
	buf := make([]byte, most+1)
	n, err := t.f.Read(buf) // of a terminal in canonical mode a line at a time
	if !stop() {
		clear(buf)
		return nil, context.Cause(ctx)
	}
	if err != nil { // io.EOF: ^D
		return nil, fmt.Errorf("reading from the terminal: %w", err)
	}
	line, whole := bytes.CutSuffix(buf[:n], []byte("\n"))
	if !whole && n == len(buf) {
		clear(buf)
		return nil, t.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
	}
	return line, nil
}

// prepare turns the echo on or off, forgets what was typed before, and returns how
// the terminal was.
func (t tty) prepare(echo bool) (before *unix.Termios, err error) {
	err = t.control(func(fd int) error {
		if before, err = unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			return err
		}
		during := *before
		during.Lflag = during.Lflag&^(unix.ECHO|unix.ECHONL) | unix.ICANON | unix.ISIG
		if echo {
			during.Lflag |= unix.ECHO
		}
		during.Iflag |= unix.ICRNL
		return unix.IoctlSetTermios(fd, unix.TCSETSF, &during)
	})
	return before, err
}

// control calls f with the descriptor, which stays one that a deadline works on.
func (t tty) control(f func(fd int) error) error {
	raw, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}
