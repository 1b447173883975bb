package keystore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// tpmDevices are the TPMs that a Store talks to. All keys on one share a
// connection: /dev/tpm0 lets only one in, and whatever objects several
// connections load compete for the three places that a TPM has for them.
type tpmDevices struct {
	mu    sync.Mutex
	conns map[string]*tpmConn // by path
}

// connect gives the connection to a device, to be released. One that broke is
// replaced by a new one.
func (d *tpmDevices) connect(path string) (*tpmConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.conns[path]; c != nil && c.whole() {
		c.users++
		return c, nil
	}
	t, err := openTPM(path)
	if err != nil {
		return nil, err
	}
	if d.conns == nil {
		d.conns = make(map[string]*tpmConn)
	}
	c := &tpmConn{devices: d, path: path, users: 1, turn: make(turn, 1), transport: t}
	d.conns[path] = c
	return c, nil
}

// use runs f with the device, for what needs it only once.
func (d *tpmDevices) use(ctx context.Context, path string, f func(*tpmConn) error) error {
	c, err := d.connect(path)
	if err != nil {
		return err
	}
	err = c.do(ctx, func() error { return f(c) })
	return errors.Join(err, c.release())
}

// close closes what keys have left open. A device that hangs is left alone, and so
// is the program: it ends.
func (d *tpmDevices) close() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), signTimeout, errSlow)
	defer cancel()
	_, err := within(ctx, func(ctx context.Context) (_ struct{}, err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for path, c := range d.conns {
			select {
			case c.turn <- struct{}{}:
				err = errors.Join(err, c.close())
				<-c.turn
			case <-ctx.Done():
				err = errors.Join(err, fmt.Errorf("letting %s go: %w", path, context.Cause(ctx)))
			}
		}
		clear(d.conns)
		return struct{}{}, err
	})
	return err
}

// openTPM opens a character device of the kernel (/dev/tpmrm0, where the kernel
// keeps apart what several programs load, or /dev/tpm0), or the Unix socket of an
// emulator.
func openTPM(path string) (transport.TPMCloser, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	var t transport.TPMCloser
	switch mode := fi.Mode(); {
	case mode&os.ModeSocket != 0:
		t, err = linuxudstpm.Open(path)
	case mode&os.ModeCharDevice != 0:
		t, err = linuxtpm.Open(path)
	default:
		return nil, fmt.Errorf("%w: %s is neither a character device nor a Unix socket", ErrAbsent, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	return t, nil
}

// A tpmConn is a connection to a TPM, which runs one command at a time.
type tpmConn struct {
	devices *tpmDevices
	path    string
	users   int // guarded by devices.mu

	turn      turn                // taken while the device is used
	transport transport.TPMCloser // belongs to whoever has the turn
	primary   *tpmObject          // the same; the storage key, nil: not asked for yet

	mu     sync.Mutex
	broken error // wraps ErrAbsent; nil: the device answers
}

// do runs a sequence of commands when it is its turn. A command that runs is not
// cut short, ctx is for the waiting: the driver in the kernel has deadlines of its
// own. Once the connection is broken it stays so: whoever needs it opens its key
// anew.
func (c *tpmConn) do(ctx context.Context, f func() error) error {
	if err := c.turn.take(ctx); err != nil {
		return err
	}
	defer c.turn.leave()
	if err := c.why(); err != nil {
		return err
	}
	err := f()
	if err != nil {
		c.dropPrimary() // perhaps it is what failed: a TPM that was reset has lost it
	}
	return err
}

// Send implements transport.TPM, for whoever has the turn.
func (c *tpmConn) Send(command []byte) ([]byte, error) {
	if err := c.why(); err != nil {
		return nil, err
	}
	response, err := c.transport.Send(command)
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrAbsent, c.path, err)
		c.mu.Lock()
		c.broken = err
		c.mu.Unlock()
		_ = c.transport.Close() // it has failed already; /dev/tpm0 opens once only
	}
	return response, err
}

func (c *tpmConn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

func (c *tpmConn) whole() bool { return c.why() == nil }

// release lets the connection go; the last one closes it.
func (c *tpmConn) release() error {
	c.devices.mu.Lock()
	defer c.devices.mu.Unlock()
	if c.users--; c.users > 0 {
		return nil
	}
	if c.devices.conns[c.path] == c {
		delete(c.devices.conns, c.path)
	}
	return c.close()
}

// close is for when nobody uses the connection any more.
func (c *tpmConn) close() error {
	if !c.whole() {
		return nil // it is closed
	}
	c.dropPrimary()
	c.mu.Lock()
	c.broken = fmt.Errorf("%w: %s was closed", ErrAbsent, c.path)
	c.mu.Unlock()
	return c.transport.Close()
}

// storageKey is the owner's storage key: the one that is kept at the handle which
// the TCG reserves for it, or else one that the TPM derives anew from the owner's
// seed, always the same, and that stays loaded as long as the connection. Both are
// of the template in the TCG TPM v2.0 Provisioning Guidance.
func (c *tpmConn) storageKey() (*tpmObject, error) {
	if c.primary != nil {
		return c.primary, nil
	}
	o, err := readObject(c, srkHandle)
	switch {
	case err == nil && o.isStorageKey():
		c.primary = o
		return o, nil
	case err != nil && !errors.Is(err, ErrNoKey):
		return nil, err
	}
	// On P-256: an RSA key would take a TPM many seconds to derive.
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(c)
	if err != nil {
		return nil, owner("TPM2_CreatePrimary", err)
	}
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TPM2_CreatePrimary: %w", err), c.flush(rsp.ObjectHandle))
	}
	c.primary = &tpmObject{handle: rsp.ObjectHandle, name: rsp.Name, area: *area}
	return c.primary, nil
}

// dropPrimary forgets the storage key, and unloads it when it was loaded.
func (c *tpmConn) dropPrimary() {
	if o := c.primary; o != nil && o.handle != srkHandle {
		_ = c.flush(o.handle) // it may be gone already
	}
	c.primary = nil
}

func (c *tpmConn) flush(h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c); err != nil {
		return fmt.Errorf("TPM2_FlushContext: %w", err)
	}
	return nil
}

// authSession authorizes one command with an auth value, of which an HMAC goes
// over the bus. The key of that HMAC comes from a salt that only the TPM can read:
// whoever listens cannot even guess at the auth value.
func authSession(salt *tpmObject, auth []byte, more ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16,
		append([]tpm2.AuthOption{tpm2.Auth(auth), tpm2.Salted(salt.handle, salt.area)}, more...)...)
}

// tpmAES is the size of the key, in bits, that encrypts the parameter of a command
// which is secret: the one that every TPM has.
const tpmAES = 128

func encryptIn() tpm2.AuthOption  { return tpm2.AESEncryption(tpmAES, tpm2.EncryptIn) }
func encryptOut() tpm2.AuthOption { return tpm2.AESEncryption(tpmAES, tpm2.EncryptOut) }
