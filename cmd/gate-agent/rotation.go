package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/nfc/jpki"
)

// The external-authentication key is replaced while the gate works: the new key
// and its certificates lie beside the old ones until an instant, from which on
// every tap uses them. Until the configuration names the new key, one command
// goes back. docs/keys.md tells how, and describes the file.

// rotationFormat is the version of the file.
const rotationFormat = 1

// A rotation is the file rotation.toml in the state folder.
//
//	(no file) ──schedule──▶ scheduled ──from──▶ switched ──finish──▶ (no file)
//	    ▲                       │                │    ▲
//	    └────────finish─────────┴──── back ◀─────┘    └── schedule, anew
type rotation struct {
	Format       int        `toml:"format"`
	Key          string     `toml:"key"`          // URI
	From         time.Time  `toml:"from"`         // the instant of the switch
	Back         bool       `toml:"back"`         // the old key is in force again
	Certificates []cvObject `toml:"certificates"` // as external_auth.certificates, the files themselves
}

// A cvObject is a card-verifiable certificate, in base64.
type cvObject []byte

// UnmarshalText reads base64.
func (o *cvObject) UnmarshalText(b []byte) (err error) {
	if *o, err = base64.StdEncoding.DecodeString(string(b)); err != nil {
		return errors.New("a certificate is not base64")
	}
	return nil
}

// inForce reports whether the new key is, at an instant.
func (r rotation) inForce(at time.Time) bool { return !r.Back && !at.Before(r.From) }

func (c *config) rotationPath() string { return filepath.Join(c.path(c.State), "rotation.toml") }

// readRotation gives nil where none is going on.
func (c *config) readRotation() (*rotation, error) {
	text, err := smallfile.Read(c.rotationPath(), maxFile, 0o022)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("rotation of the external-authentication key: %w", err)}
	}
	r, err := parseRotation(text)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w: schedule it anew with gate-agent key rotate schedule, or remove the file to stay with external_auth.key", c.rotationPath(), err)}
	}
	return r, nil
}

func parseRotation(text []byte) (*rotation, error) {
	r := new(rotation)
	if err := stricttoml.Decode(text, r); err != nil {
		return nil, err
	}
	switch {
	case r.Format != rotationFormat:
		return nil, fmt.Errorf("format is %d, this program reads %d", r.Format, rotationFormat)
	case len(r.Certificates) == 0:
		return nil, errors.New("certificates are missing")
	case r.From.IsZero():
		return nil, errors.New("from is missing")
	}
	if _, err := keystore.ParseURI(r.Key); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return r, nil
}

// text is the file, for a person as well.
func (r *rotation) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by gate-agent key rotate, which alone changes it.\nformat = %d\nkey    = %q\nfrom   = %s\nback   = %t\n",
		r.Format, r.Key, r.From.UTC().Format(time.RFC3339Nano), r.Back)
	b.WriteString("certificates = [\n")
	for _, c := range r.Certificates {
		fmt.Fprintf(&b, "\t%q,\n", base64.StdEncoding.EncodeToString(c))
	}
	b.WriteString("]\n")
	return b.Bytes()
}

// writeRotation replaces the file, or removes it for nil; either survives a power cut.
func (c *config) writeRotation(r *rotation) error {
	path := c.rotationPath()
	if r != nil {
		return wholefile.Replace(path, r.text())
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return wholefile.SyncFolder(filepath.Dir(path))
}

// A terminalKey is a key of method A with its certificates.
type terminalKey struct {
	*jpki.TerminalKey
	medium *keystore.Key
}

// newTerminalKey ties a key, which nobody has looked for yet, to its certificates.
func (r *keyring) newTerminalKey(name, uri string, profile jpki.Profile, certificates []cvObject) (k terminalKey, err error) {
	chain := make([]cardauth.CVCertificate, len(certificates))
	for i, b := range certificates {
		if chain[i], err = cardauth.ParseCVCertificate(b); err != nil {
			return k, cli.ConfigError{Err: fmt.Errorf("%s: certificate %d: %w", name, i+1, err)}
		}
	}
	if k.medium, err = r.lost(name, uri, keystore.ExternalAuth); err != nil {
		return k, err
	}
	certified, err := publicKey(chain[len(chain)-1].PublicKey())
	if err == nil {
		err = k.medium.Expect(certified)
	}
	if err == nil {
		k.TerminalKey, err = jpki.NewTerminalKey(k.medium, chain...)
	}
	if err == nil {
		err = profile.Check(k.TerminalKey)
	}
	return k, k.told(name, err)
}

// found looks for a terminal key. A medium that is absent is no error where the
// program is patient: its certificate says which key it has to come back with.
func (r *keyring) found(name string, k terminalKey) error {
	err := k.medium.Check(r.ctx)
	if r.patient && errors.Is(err, keystore.ErrAbsent) {
		err = nil
	}
	if err != nil {
		return k.told(name, err)
	}
	return r.apart(name, k.medium)
}

// told names the place of a key to an error about it, which may be nil.
func (k terminalKey) told(name string, err error) error {
	switch {
	case errors.Is(err, keystore.ErrWrongKey):
		return cli.ConfigError{Err: fmt.Errorf("%s: the last certificate certifies another key: %w", name, err)}
	case err != nil:
		return cli.ConfigError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

// publicKey is the key in the form of the standard library.
func publicKey(k cardkey.Key) (any, error) { return x509.ParsePKIXPublicKey(k.SPKI()) }

// terminalKeys are the key of the configuration and, while it is replaced, the
// one that follows it. They implement jpki.TerminalKeys.
type terminalKeys struct {
	profile jpki.Profile
	now     atomic.Pointer[keysNow] // never nil
}

// A keysNow is what terminalKeys are until a rotation goes a step further.
type keysNow struct {
	configured terminalKey
	rotating   *rotating // nil: no rotation
}

// A rotating is a rotation with its key.
type rotating struct {
	rotation
	next terminalKey
}

// At implements jpki.TerminalKeys.
func (k *terminalKeys) At(t time.Time) *jpki.TerminalKey { return k.at(t).TerminalKey }

func (k *terminalKeys) at(t time.Time) terminalKey {
	now := k.now.Load()
	if r := now.rotating; r != nil && r.inForce(t) {
		return r.next
	}
	return now.configured
}

// openTerminalKeys opens the external-authentication key when a configured
// method uses it, and the one that a rotation puts in its place; nil when none does.
func (c *config) openTerminalKeys(profile jpki.Profile) (*terminalKeys, error) {
	if !c.withMethodA() {
		return nil, nil
	}
	certificates, err := c.terminalCertificates()
	if err != nil {
		return nil, err
	}
	const name = "external_auth.key"
	configured, err := c.keys.newTerminalKey(name, c.ExternalAuth.Key, profile, certificates)
	if err == nil {
		err = c.keys.found(name, configured)
	}
	if err != nil {
		return nil, err
	}
	k := &terminalKeys{profile: profile}
	k.now.Store(&keysNow{configured: configured})
	r, err := c.readRotation()
	if err != nil {
		return nil, err
	}
	err = c.takeOver(k, r)
	if err != nil && c.keys.lenient && !r.inForce(time.Now()) {
		err = nil
	}
	return k, err
}

// terminalCertificates are those of external_auth.
func (c *config) terminalCertificates() (certificates []cvObject, err error) {
	for _, name := range c.ExternalAuth.Certificates {
		b, err := readFile(c.path(name))
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("external_auth.certificates: %w", err)}
		}
		if _, err := cardauth.ParseCVCertificate(b); err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("external_auth.certificates: %s: %w", name, err)}
		}
		certificates = append(certificates, b)
	}
	return certificates, nil
}

// takeOver opens the key of a rotation, which may be nil. One whose key the
// configuration names already is over. One that was taken back needs no key: a new
// key that does not open is a reason to take it back.
func (c *config) takeOver(k *terminalKeys, r *rotation) error {
	configured := k.now.Load().configured
	if r == nil || sameURI(r.Key, configured.medium.URI().String()) {
		k.now.Store(&keysNow{configured: configured})
		return nil
	}
	name := "the key of " + c.rotationPath()
	next, err := c.keys.newTerminalKey(name, r.Key, k.profile, r.Certificates)
	if err != nil {
		return err
	}
	if err := c.keys.found(name, next); err != nil && !r.Back {
		return err
	}
	k.now.Store(&keysNow{configured, &rotating{*r, next}})
	return nil
}

// end takes over that key rotate finish has removed the file of a rotation. A running
// agent has the configuration of its start: when the one on the disk names the new
// key by now, that is the configured one from here on.
func (c *config) end(k *terminalKeys, known *rotating) error {
	onDisk, err := loadConfig(c.file)
	if err != nil {
		return err
	}
	if !sameURI(known.Key, onDisk.ExternalAuth.Key) {
		return c.takeOver(k, nil)
	}
	k.now.Store(&keysNow{configured: known.next})
	return nil
}

// describe says which keys there are.
func (k *terminalKeys) describe() []string {
	if k == nil {
		return nil
	}
	now := k.now.Load()
	said := []string{fmt.Sprintf("key %s, %s", kcvOf(now.configured.medium), now.configured.medium.URI().Scheme())}
	if r := now.rotating; r != nil {
		when := "in force from " + r.From.Local().Format("2006-01-02 15:04:05 MST")
		if r.Back {
			when = "taken back, not in force"
		}
		said = append(said, fmt.Sprintf("its successor %s, %s, %s", kcvOf(r.next.medium), r.next.medium.URI().Scheme(), when))
	}
	return said
}

// sameURI compares key URIs however they are written, and whatever opens the key.
func sameURI(a, b string) bool {
	x, errX := keystore.ParseURI(a)
	y, errY := keystore.ParseURI(b)
	return errX == nil && errY == nil && withoutSecrets(x) == withoutSecrets(y)
}

// followEvery is how often a running agent looks for a rotation that was
// scheduled or taken back, and whether keys that may come and go are there.
const followEvery = 2 * time.Second

// followRotation takes over what "key rotate" writes, and tells of the switch,
// until ctx ends.
func (c *config) followRotation(ctx context.Context, log *slog.Logger, k *terminalKeys, now func() time.Time) {
	if k == nil {
		return
	}
	inForce := k.at(now())
	log.Info("external-authentication key in use", "key", inForce.medium.URI().Scheme(), "kcv", kcvOf(inForce.medium))
	known, said := k.now.Load().rotating, ""
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r, err := c.readRotation()
		if err == nil && !r.same(known) {
			if r == nil {
				err = c.end(k, known)
			} else {
				err = c.takeOver(k, r)
			}
			if err == nil {
				known = k.now.Load().rotating
				if known != nil {
					log.Info("rotation of the external-authentication key", "kcv", kcvOf(known.next.medium), "from", known.From, "back", known.Back)
				} else {
					log.Info("no rotation of the external-authentication key any more")
				}
			}
		}
		switch { // told once
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			log.Error("rotation not taken over: the keys are those of before", "error", err)
		}
		if is := k.at(now()); is.medium != inForce.medium {
			inForce = is
			log.Warn("external-authentication key in use", "key", is.medium.URI().Scheme(), "kcv", kcvOf(is.medium))
		}
	}
}

// same reports whether r is what was taken over.
func (r *rotation) same(known *rotating) bool {
	if r == nil || known == nil {
		return r == nil && known == nil
	}
	return reflect.DeepEqual(*r, known.rotation)
}

// kcvOf is the key check value of a key, or why there is none.
func kcvOf(k *keystore.Key) string {
	kcv, err := keystore.KCV(k.Public())
	if err != nil {
		return "not known"
	}
	return kcv
}
