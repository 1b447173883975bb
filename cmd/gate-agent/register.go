package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/registration"
)

func cardRegisterCommand() *cobra.Command {
	var (
		readers     []string
		wait        time.Duration
		out, ticket string
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "register --config FILE --out FILE [--ticket REF] [--reader NAME]... [--json]",
		Short: "Register the card on the reader with its PIN, and write a signed record",
		Long: `Register waits for a card and asks its holder, at the terminal where the command
runs, for the PIN of the user-authentication certificate, and for the birth date
where the card has a key of its own. In one session with the card it verifies
certificate, authentication key and card key, and writes a record that a hub can
verify again.

PIN and birth date are typed, do not show, and are taken from nowhere else. The
tries left are told before; with one left nothing is asked. A wrong PIN ends the
command, with one try spent.

The record names a credential and its holder's birth date: it is personal data.`,
		Example: "  gate-agent card register --config /etc/gate-agent/config.toml --out /run/registration/0001.cose --ticket T-000123",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringArrayVar(&readers, "reader", nil, "PC/SC reader, a name or a pattern; default those of the configuration")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a card")
	cmd.Flags().StringVar(&out, "out", "", "file to write the record to; it must not exist")
	cmd.Flags().StringVar(&ticket, "ticket", "", "reference of what the card is registered for, which the card signs too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		switch {
		case out == "":
			return cli.UsageError("--out is missing: name the file to write the record to")
		case wait <= 0:
			return cli.UsageError(fmt.Sprintf("--wait %v: want more than 0", wait))
		}
		person, err := openTTY()
		if err != nil {
			return cli.UsageError(err.Error() + ": run the command where the holder can type, through ssh with -t")
		}
		defer func() { err = errors.Join(err, person.Close()) }()
		d, err := c.openDesk(person, readers, ticket)
		if err != nil {
			return err
		}
		file, err := createDraft(out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Discard()) }()

		record, report, err := d.register(cmd.Context(), wait)
		if err != nil {
			said := registerWords(err)
			d.tty.say("%s\n%s", said.JA, said.EN)
			return registerError(err)
		}
		if err := file.Keep(record); err != nil {
			return err
		}
		if report.File = out; asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		}
		report.print(cmd.OutOrStdout())
		return nil
	})
	return cmd
}

// typing is how long a person may take to type.
const typing = 2 * time.Minute

// errNotTyped ends a question that nobody answers.
var errNotTyped = fmt.Errorf("nothing was typed within %v", typing)

// A desk is where a card is registered: what a configuration names for it.
type desk struct {
	tty      tty
	slots    []string
	dialogue *jpki.Dialogue
	identity crypto.Signer
	scopeKey cardid.ScopeKey
	anchors  anchor.Set
	surface  []cardauth.CVAuthority
	record   registration.Record // what is known of it before there is a card
}

func (c *config) openDesk(person tty, slots []string, ticket string) (d *desk, err error) {
	d = &desk{tty: person, slots: slots}
	if len(slots) == 0 {
		d.slots = c.Reader.Slots
	}
	d.record = registration.Record{Scope: c.Scope, Hierarchy: c.Mode.String(), Terminal: c.Terminal, Ticket: ticket}
	if err := d.record.CheckNames(); err != nil {
		return d, cli.UsageError(err.Error())
	}
	if d.identity, err = c.openIdentity(); err != nil {
		return d, err
	}
	if d.scopeKey, err = c.openScopeKey(); err != nil {
		return d, err
	}
	if d.anchors, err = c.openAnchors(); err != nil {
		return d, err
	}
	if d.surface, err = c.openSurfaceKeys(); err != nil {
		return d, err
	}
	profile, err := c.openProfile()
	if err != nil {
		return d, err
	}
	// Without the terminal's key: a registration proves the card by its PIN.
	d.dialogue, err = jpki.NewDialogue(profile, nil, rand.Reader)
	return d, err
}

// A registerReport is what card register prints. docs/cli.md lists its members.
type registerReport struct {
	File      string    `json:"file"`
	Terminal  string    `json:"terminal"`
	Scope     string    `json:"scope"`
	Hierarchy string    `json:"hierarchy"`
	Ticket    string    `json:"ticket,omitempty"`
	At        time.Time `json:"at"`
	CardID    string    `json:"card_id"`
	Token     string    `json:"token"`
	AuthKey   string    `json:"auth_key"`           // its kind
	CardKey   string    `json:"card_key,omitempty"` // its kind
	Commands  int       `json:"commands"`
	Bytes     int       `json:"bytes"`
}

// register waits for a card, registers it, and returns the signed record once
// it was verified as a hub verifies it.
func (d *desk) register(ctx context.Context, wait time.Duration) (record []byte, report registerReport, err error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: d.slots, Present: true})
	if err != nil {
		return nil, report, cli.UsageError(err.Error())
	}
	defer func() { err = errors.Join(err, lane.Close()) }()
	d.tty.say("カードを置いて、終わるまでそのままにしてください。\nPut the card on the reader and leave it there to the end.")
	card, err := awaitCard(ctx, lane, wait, d.slots)
	if err != nil {
		return nil, report, err
	}
	defer func() { err = errors.Join(err, card.Release()) }()

	channel := nfc.NewChannel(card)
	record, err = d.read(ctx, card, channel)
	if err != nil {
		return nil, report, err
	}
	reg, err := d.verify(record)
	if err != nil {
		return nil, report, refusedError{err}
	}
	stats := channel.Stats()
	report = registerReport{
		Terminal: reg.Terminal(), Scope: reg.Scope(), Hierarchy: d.record.Hierarchy, Ticket: reg.Ticket(), At: reg.At(),
		CardID: d.scopeKey.ID(reg.Head().Bytes()).String(), Token: reg.Token(), AuthKey: reg.AuthKey().String(),
		Commands: stats.Commands, Bytes: stats.Bytes,
	}
	if !reg.CardKey().IsZero() {
		report.CardKey = reg.CardKey().String()
	}
	return record, report, nil
}

// awaitCard waits for a card, and for no second one.
func awaitCard(ctx context.Context, lane *pcsc.Lane, wait time.Duration, slots []string) (nfc.Card, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w within %v", errNoCard, wait))
	defer cancel()
	card, err := lane.Next(waiting)
	if errors.Is(err, errNoCard) {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, fmt.Errorf("%w (readers: %s)", err, describeReaders(bound, lane, slots).text)
	}
	return card, err
}

var errMultipleCards = errors.New("more than one card on the readers")

// read has the dialogue with the card and signs what came of it.
func (d *desk) read(ctx context.Context, card nfc.Card, channel *nfc.Channel) ([]byte, error) {
	if alone, err := card.Alone(ctx); err != nil || !alone {
		return nil, errors.Join(err, errMultipleCards)
	}
	r := d.record
	r.At = time.Now().UTC().Truncate(time.Second)
	challenge := r.Challenge()
	if err := challenge.Fresh(rand.Reader); err != nil {
		return nil, err
	}
	r.Nonce = challenge.Nonce

	var authKey cardkey.Key
	var signer cardauth.CVCertificate
	var born cardauth.BirthDate
	got, err := d.dialogue.Register(ctx, card.Slot(), channel, challenge, jpki.Registrar{
		CheckCertificate: func(der, authority []byte) error {
			head, err := cardauth.ParseHead(der)
			if err != nil {
				return err
			}
			if learnt, err := d.anchors.Learn(authority); err == nil {
				d.anchors = learnt // the card carries a pinned authority
			}
			authKey, err = cardauth.VerifyCertificate(head, der, d.anchors.Certificates(), r.At)
			return err
		},
		CheckSigner: func(cvc []byte) (err error) {
			if len(d.surface) == 0 {
				return configError{fmt.Errorf("anchors.surface_keys is missing, and this card has a key of its own to verify: name a key file, or %q for the figures that are known in public, once you have confirmed them", builtinKeys)}
			}
			signer, err = cardauth.VerifyCVCertificate(cvc, d.surface)
			return err
		},
		Ask: func(ctx context.Context, q jpki.Question) (jpki.Answer, error) {
			a, err := d.ask(ctx, q)
			born = a.BirthDate
			return a, err
		},
		CheckProof: func(s jpki.Signed) error {
			if err := challenge.VerifiedBy(authKey, s.Scheme, s.Signature); err != nil {
				return fmt.Errorf("authentication key: %w: %w", cardauth.ErrNotGenuine, err)
			}
			return nil
		},
		CheckRecord: func(record []byte) error {
			_, err := cardauth.VerifyAgeRecord(record, signer, born)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	// A second card that came meanwhile is nobody's business but a mistake's.
	if alone, err := card.Alone(ctx); err != nil || !alone {
		return nil, errors.Join(err, errMultipleCards)
	}

	r.Token, r.Certificate = printable(got.Token), got.Certificate
	if len(got.CertificatesMarked) == 3 {
		r.Marked = got.CertificatesMarked
	}
	r.Authentication = registration.Signed(got.Authentication)
	if got.CardSurface {
		r.Surface = &registration.Surface{
			SignerCertificate: got.SurfaceCertificate, AgeRecord: got.AgeRecord, Card: registration.Signed(got.Card),
		}
	}
	return registration.Sign(rand.Reader, d.identity, r)
}

// verify does what a hub does with the record.
func (d *desk) verify(record []byte) (registration.Registration, error) {
	keys, err := sign1.NewKeys(sign1.Key{
		Public: d.identity.Public(), Role: sign1.RoleRegistration, Scope: d.record.Scope, Signer: d.record.Terminal,
	})
	if err != nil {
		return registration.Registration{}, configError{fmt.Errorf("identity.key: %w", err)}
	}
	return registration.Trust{
		Keys: keys, Hierarchy: d.record.Hierarchy, Anchors: d.anchors.Certificates(), SurfaceAuthorities: d.surface,
		MaxAge: 2 * typing,
	}.Verify(record, time.Now())
}

// printable is a card's label, or nothing when it is none that a record takes.
func printable(label string) string {
	if strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return label
}

// ask asks the holder at the terminal.
func (d *desk) ask(ctx context.Context, q jpki.Question) (a jpki.Answer, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, typing, errNotTyped)
	defer cancel()
	switch {
	case errors.Is(q.Again, jpki.ErrPINFormat):
		d.tty.say("暗証番号は数字4桁です。カードには送っていません。\nThe PIN is 4 digits. Nothing was sent to the card.")
	case q.Again != nil:
		d.tty.say("生年月日は西暦の8桁です。カードには送っていません。\nThe birth date is 8 digits, YYYYMMDD. Nothing was sent to the card.")
	case q.BirthDate:
		d.tty.say("残り回数: 暗証番号 %s、生年月日 %s。間違えると1回減ります。\nTries left: PIN %[1]s, birth date %[2]s. A mistake costs one.", tries(q.PINTries), tries(q.BirthDateTries))
	default:
		d.tty.say("残り回数: 暗証番号 %s。間違えると1回減ります。\nTries left: PIN %[1]s. A mistake costs one.", tries(q.PINTries))
	}
	if a.PIN, err = d.tty.ask(ctx, "利用者証明用電子証明書の暗証番号 (4桁、表示されません) / PIN (4 digits, not shown): "); err != nil || !q.BirthDate {
		return a, err
	}
	typed, err := d.tty.ask(ctx, "生年月日 (例 20010523、表示されません) / Birth date (YYYYMMDD, not shown): ")
	if err != nil {
		return a, err
	}
	defer clear(typed)
	a.BirthDate, _ = cardauth.ParseBirthDate(string(typed)) // none is asked for again
	return a, nil
}

func tries(n int) string {
	if n == jpki.Unlimited {
		return "∞"
	}
	return fmt.Sprint(n)
}

// print writes the report for a person.
func (r registerReport) print(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-22s %s\n", name, value) }
	line("registered", r.At.Local().Format("2006-01-02 15:04:05 MST"))
	line("by terminal", r.Terminal+", scope "+r.Scope+" ("+r.Hierarchy+")")
	if r.Ticket != "" {
		line("ticket", r.Ticket)
	}
	line("card id", r.CardID)
	line("token", r.Token)
	line("authentication key", r.AuthKey)
	if r.CardKey == "" {
		line("card key", "none: a phone or a SIM, which method B does not admit")
	} else {
		line("card key", r.CardKey)
	}
	line("exchange", fmt.Sprintf("%d commands, %d bytes", r.Commands, r.Bytes))
	line("record", r.File+": personal data, for the hub only")
}
