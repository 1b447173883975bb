package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/gate-agent/gate-agent/nfc"
)

// scardMedium is a card that stays in a reader of the terminal, or a SIM in one,
// and that is spoken to without anything between.
type scardMedium struct {
	connect func(ctx context.Context, reader string) (Card, error) // nil: no readers
}

// A cardApplication is what cards of one sort do alike. It knows commands and
// forms; the session with the card is a cardSession's.
type cardApplication interface {
	// keys are those that such a card can have.
	keys() []cardKey

	// selection selects the application.
	selection() nfc.Command

	// presence is answered with success when the card has the key; INS 0 where
	// the certificate alone tells.
	presence(k cardKey) nfc.Command

	// certificate reads the DER of a key's certificate. The error is ErrNoKey
	// when there is none, nfc.ErrSecurityStatus when it is behind the PIN.
	certificate(ctx context.Context, ch *nfc.Channel, k cardKey) ([]byte, error)

	// signing is the command that signs what signable allows. The error is
	// ErrCannot or ErrWrongKeyType.
	signing(k cardKey, public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (nfc.Command, error)

	// signature takes the signature out of the answer to it.
	signature(answer []byte) ([]byte, error)

	// extraction are the commands that would read the private key.
	extraction(k cardKey) []nfc.Command
}

// A cardKey is a place for a key on a card.
type cardKey struct {
	ref   byte // as the URI names it
	label string

	pin  cardPIN
	free bool // signs without the PIN
	each bool // wants the PIN before every signature

	// file holds the certificate: an EF of JPKI-AP, or the tag of a data object.
	file uint32
}

// applicationOf finds the application and, where the URI names one, the key.
func applicationOf(u URI) (cardApplication, cardKey, error) {
	aid, err := hex.DecodeString(u.Get("aid"))
	if err != nil {
		return nil, cardKey{}, err
	}
	var app cardApplication
	switch {
	case bytes.Equal(aid, aidJPKI):
		app = jpkiApplication{}
	case bytes.HasPrefix(aid, aidPIV):
		app = pivApplication{aid}
	default:
		return nil, cardKey{}, fmt.Errorf("%w: application %X: want %X (JPKI-AP) or %X (PIV)", ErrCannot, aid, aidJPKI, aidPIV)
	}
	if u.Get("key") == "" {
		return app, cardKey{}, nil
	}
	ref, err := hex.DecodeString(u.Get("key"))
	if err != nil {
		return nil, cardKey{}, err
	}
	keys := app.keys()
	i := slices.IndexFunc(keys, func(k cardKey) bool { return k.ref == ref[0] })
	if i < 0 {
		var refs []string
		for _, k := range keys {
			refs = append(refs, fmt.Sprintf("%02X", k.ref))
		}
		return nil, cardKey{}, fmt.Errorf("%w: key %02X: this application has %q", ErrNoKey, ref[0], refs)
	}
	return app, keys[i], nil
}

// A cardSession is a powered card whose application is selected. It has no key
// before open has found it.
type cardSession struct {
	card Card
	ch   *nfc.Channel
	app  cardApplication
	name string // of the card, for people

	key    cardKey
	public crypto.PublicKey
	pins   *pinSource
}

// enter powers the card and selects the application.
func (m scardMedium) enter(ctx context.Context, u URI, app cardApplication) (*cardSession, error) {
	if m.connect == nil {
		return nil, fmt.Errorf("%w: this program has no readers", ErrCannot)
	}
	card, err := m.connect(ctx, u.Get("reader"))
	if err != nil {
		return nil, gone(err)
	}
	c := &cardSession{card: card, ch: nfc.NewChannel(card), app: app, name: fmt.Sprintf("the card in reader %q", u.Get("reader"))}
	if _, err := c.ch.Do(ctx, app.selection()); err != nil {
		_ = c.close() // it has failed already
		if missing(err) {
			return nil, fmt.Errorf("%w: the card has no application %s: %w", ErrNoKey, u.Get("aid"), err)
		}
		return nil, gone(fmt.Errorf("selecting the application: %w", err))
	}
	return c, nil
}

func (m scardMedium) open(ctx context.Context, u URI, _ Purpose, pins *pinSource) (session, error) {
	app, key, err := applicationOf(u)
	if err != nil {
		return nil, err
	}
	c, err := m.enter(ctx, u, app)
	if err != nil {
		return nil, err
	}
	c.key, c.pins = key, pins
	if err := c.find(ctx); err != nil {
		_ = c.close() // it has failed already
		return nil, err
	}
	return c, nil
}

// find reads the public half and unlocks the key. A card that shows another key
// than is looked for gets no PIN: it may be a person's, with tries to lose.
func (c *cardSession) find(ctx context.Context) error {
	if cmd := c.app.presence(c.key); cmd.INS != 0 {
		_, err := c.ch.Do(ctx, cmd)
		if missing(err) {
			return fmt.Errorf("%w: key %02X: %w", ErrNoKey, c.key.ref, err)
		}
		if err != nil {
			return gone(fmt.Errorf("looking for key %02X: %w", c.key.ref, err))
		}
	}
	public, err := c.readPublic(ctx, c.key)
	behind := errors.Is(err, nfc.ErrSecurityStatus)
	if err != nil && !behind {
		return gone(err)
	}
	if public != nil && c.pins.key != nil && !SameKey(c.pins.key, public) {
		return wrongKey(public, c.pins.key)
	}
	if err := c.unlock(ctx); err != nil {
		return err
	}
	if behind {
		if public, err = c.readPublic(ctx, c.key); err != nil {
			return gone(err)
		}
	}
	if _, err := TypeOf(public); err != nil {
		return err
	}
	// Better now than at the first tap.
	if _, err := c.app.signing(c.key, public, make([]byte, sha256.Size), crypto.SHA256); err != nil {
		return err
	}
	c.public = public
	return nil
}

// maxCertificate bounds a certificate, in bytes: those of JPKI have some 1600,
// and a PIV card need not hold more than 1856 (SP 800-73-4 part 1, table 7).
const maxCertificate = 4096

// readPublic is the public half of a key, from its certificate. Who signed the
// certificate does not matter: the key is known elsewhere, and Expect wants it.
func (c *cardSession) readPublic(ctx context.Context, k cardKey) (crypto.PublicKey, error) {
	der, err := c.app.certificate(ctx, c.ch, k)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of key %02X: %w", k.ref, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of key %02X: %w: %w", k.ref, nfc.ErrMalformed, err)
	}
	return cert.PublicKey, nil
}

func (c *cardSession) Public() crypto.PublicKey { return c.public }

// sign has the card sign, and verifies what it gives. A terminal would otherwise
// spend a tap on a wrong signature; and a card that computes wrongly in the middle
// of an RSA signature with CRT gives its key away to whoever sees it (Boneh,
// DeMillo and Lipton, 1997).
func (c *cardSession) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	cmd, err := c.app.signing(c.key, c.public, digest, opts)
	if err != nil {
		return nil, err
	}
	if c.key.each {
		if err := c.unlock(ctx); err != nil {
			return nil, err
		}
	}
	answer, err := c.ch.Do(ctx, cmd)
	if errors.Is(err, nfc.ErrSecurityStatus) {
		return nil, fmt.Errorf("%w: it was reset, or the PIN does not open key %02X: %w", ErrAbsent, c.key.ref, err)
	}
	if missing(err) {
		return nil, fmt.Errorf("%w: key %02X: %w", ErrNoKey, c.key.ref, err)
	}
	if err != nil {
		return nil, gone(fmt.Errorf("signing: %w", err))
	}
	signature, err := c.app.signature(answer)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if !verifies(c.public, digest, opts, signature) {
		return nil, fmt.Errorf("%s gave a signature that is not of the key in its certificate", c.name)
	}
	return signature, nil
}

// alive asks for the tries of the PIN. That does not touch the selected
// application, and a card that was reset does not answer it as before.
func (c *cardSession) alive(ctx context.Context) error {
	state, err := c.pinState(ctx)
	if _, locked := errors.AsType[*PINError](err); c.key.free && locked {
		return nil
	}
	if err == nil && c.key.pin.shows && !c.key.free && !state.verified {
		return fmt.Errorf("%w: it was reset", ErrAbsent)
	}
	return err
}

// exportable tries to read the key as what it is on such a card: a file or a data
// object. It leaves the application selected and the PIN verified; the commands
// of a session name their files themselves.
func (c *cardSession) exportable(ctx context.Context) (bool, error) {
	for _, cmd := range c.app.extraction(c.key) {
		data, err := c.ch.Do(ctx, cmd)
		clear(data)
		if len(data) > 0 {
			return true, nil
		}
		if _, refused := errors.AsType[*nfc.StatusError](err); err != nil && !refused {
			return false, gone(fmt.Errorf("trying to read the key: %w", err))
		}
	}
	return false, nil
}

func (c *cardSession) close() error { return c.card.Release() }

// list tells what the card shows without a PIN. A key whose certificate is behind
// one has no public half here.
func (m scardMedium) list(ctx context.Context, u URI, _ *pinSource) (entries []Entry, err error) {
	app, _, err := applicationOf(u)
	if err != nil {
		return nil, err
	}
	c, err := m.enter(ctx, u, app)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for _, k := range app.keys() {
		e := Entry{URI: u.With("key", fmt.Sprintf("%02X", k.ref)).String(), Label: k.label}
		switch e.Public, err = c.readPublic(ctx, k); {
		case errors.Is(err, ErrNoKey):
			continue
		case errors.Is(err, nfc.ErrSecurityStatus):
			e.Type = "behind its PIN"
		case err != nil:
			return nil, gone(err)
		default:
			t, err := TypeOf(e.Public)
			if err != nil {
				t = "of no use here"
			}
			e.Type = string(t)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// missing reports whether a card says that it has not what a command names: a
// file, or what the standard calls referenced data.
func missing(err error) bool {
	status, ok := errors.AsType[*nfc.StatusError](err)
	return ok && (status.SW == nfc.SWNotFound || status.SW == 0x6A88)
}

// gone makes ErrAbsent of every error in which the card has not answered: the
// card, the reader or pcscd is not there, and may come back.
func gone(err error) error {
	_, answered := errors.AsType[*nfc.StatusError](err)
	if answered || errors.Is(err, nfc.ErrMalformed) || errors.Is(err, ErrNoKey) || errors.Is(err, ErrAbsent) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAbsent, err)
}
