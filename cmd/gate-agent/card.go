package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
)

func cardCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "card", Short: "Look at a card, or register it"},
		cardReadCommand(), cardRegisterCommand(), cardTraceCommand(), cardReplayCommand())
}

func cardReadCommand() *cobra.Command {
	var (
		readers []string
		wait    time.Duration
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "read [--reader NAME]... [--config FILE] [--json]",
		Short: "Read what registration needs of the card on the reader, without a PIN",
		Long: `Read waits for a card and prints what it gives away without a PIN: its
certificates, whether they chain to a trusted authority, and what the card can do.
No PIN is sent. With --config it uses that configuration's readers, anchors and
card profile, and tells the card's pseudonym; without, the built-in ones.

The output names a credential of a person: treat it as personal data.`,
		Example: "  gate-agent card read --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringArrayVar(&readers, "reader", nil, "PC/SC reader, a name or a pattern; default every reader")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a card")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if wait <= 0 {
			return cli.UsageError(fmt.Sprintf("--wait %v: want more than 0", wait))
		}
		w, err := builtinCardWith(readers)
		if path, _ := cmd.Flags().GetString("config"); path != "" {
			var c *config
			if c, err = loadConfig(path); err != nil {
				return err
			}
			w, err = c.cardWith(readers)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "Waiting for a card … / カードをかざしてください")
		report, err := w.read(cmd.Context(), wait)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		}
		report.print(cmd.OutOrStdout())
		return nil
	}
	return cmd
}

var errNoCard = errors.New("no card came")

// cardWith is what card read works with.
type cardWith struct {
	slots    []string
	dialogue *jpki.Dialogue
	anchors  anchor.Set
	cardID   func(head []byte) string // nil without a scope key
}

// builtinCardWith is what card read works with where nothing is configured: an
// authority is trusted when a card carries it and it matches a built-in pin.
func builtinCardWith(slots []string) (w cardWith, err error) {
	w.slots = slots
	if w.anchors, err = anchor.Load(anchor.Production, nil); err != nil {
		return w, err
	}
	w.dialogue, err = jpki.NewDialogue(jpki.DefaultProfile(), nil, rand.Reader)
	return w, err
}

// cardWith takes it from a configuration.
func (c *config) cardWith(slots []string) (cardWith, error) {
	w := cardWith{slots: slots}
	if len(slots) == 0 {
		w.slots = c.Reader.Slots
	}
	key, err := c.openScopeKey()
	if err != nil {
		return w, err
	}
	w.cardID = func(head []byte) string { return key.ID(head).String() }
	if w.anchors, err = c.openAnchors(); err != nil {
		return w, err
	}
	w.dialogue, _, err = c.openDialogue()
	return w, err
}

// A cardReport is what card read prints. docs/cli.md lists its members.
type cardReport struct {
	Reader             string     `json:"reader"`
	Token              string     `json:"token"`
	PINRequired        bool       `json:"pin_required"`
	CardSurface        bool       `json:"card_surface"`
	CertificatesMarked string     `json:"certificates_marked,omitempty"` // EF 0008, hexadecimal
	Certificate        []byte     `json:"certificate,omitempty"`         // DER, base64
	CACertificate      []byte     `json:"ca_certificate,omitempty"`      // DER, base64
	SurfaceCertificate []byte     `json:"surface_certificate,omitempty"`
	Serial             string     `json:"serial,omitempty"`
	NotBefore          *time.Time `json:"not_before,omitempty"`
	NotAfter           *time.Time `json:"not_after,omitempty"`
	CardID             string     `json:"card_id,omitempty"`
	Trusted            bool       `json:"trusted"`
	TrustError         string     `json:"trust_error,omitempty"`
	Commands           int        `json:"commands"`
	Bytes              int        `json:"bytes"`
}

// read waits for a card and reads it.
func (w cardWith) read(ctx context.Context, wait time.Duration) (report cardReport, err error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: w.slots, Present: true})
	if err != nil {
		return report, cli.UsageError(err.Error())
	}
	defer func() { err = errors.Join(err, lane.Close()) }()
	waiting, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w within %v", errNoCard, wait))
	defer cancel()
	card, err := nextCard(waiting, lane, w.slots)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, card.Release()) }()

	ctx, cancel = context.WithTimeout(ctx, sessionLimit) // a card that came late is read to the end
	defer cancel()
	channel := nfc.NewChannel(card)
	info, err := w.dialogue.Inspect(ctx, card.Slot(), channel)
	if err != nil {
		return report, cli.RefusedError{Err: fmt.Errorf("reading the card: %w", err)}
	}
	stats := channel.Stats()
	report = cardReport{
		Reader: card.Slot(), Token: info.Token, PINRequired: info.PINRequired, CardSurface: info.CardSurface,
		CertificatesMarked: fmt.Sprintf("%X", info.CertificatesMarked),
		Certificate:        info.Certificate, CACertificate: info.CACertificate, SurfaceCertificate: info.SurfaceCertificate,
		Commands: stats.Commands, Bytes: stats.Bytes,
	}
	switch {
	case info.PINRequired:
		return report, nil
	case info.Certificate == nil:
		report.TrustError = noCertificate
		return report, nil
	}
	report.judge(w, info)
	return report, nil
}

// nextCard waits for a card. Where none comes it says which readers were looked
// at.
func nextCard(ctx context.Context, lane *pcsc.Lane, slots []string) (nfc.Card, error) {
	card, err := lane.Next(ctx)
	if errors.Is(err, errNoCard) {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, fmt.Errorf("%w (readers: %s)", err, describeReaders(bound, lane, slots).text)
	}
	return card, err
}

// noCertificate is said of a 住基カード, and of a My Number card whose holder
// wanted none.
const noCertificate = "the card has no user-authentication certificate, so no gate admits it"

// judge fills in what the certificate says, and whether to believe it.
func (r *cardReport) judge(w cardWith, info jpki.Info) {
	certificate, err := x509.ParseCertificate(info.Certificate)
	if err != nil {
		r.TrustError = err.Error()
		return
	}
	r.Serial = fmt.Sprintf("%X", certificate.SerialNumber)
	r.NotBefore, r.NotAfter = &certificate.NotBefore, &certificate.NotAfter
	head, err := cardauth.ParseHead(info.Certificate)
	if err != nil {
		r.TrustError = err.Error()
		return
	}
	if w.cardID != nil {
		r.CardID = w.cardID(head.Bytes())
	}
	anchors := w.anchors
	if learnt, err := anchors.Learn(info.CACertificate); err == nil {
		anchors = learnt // the card carries a pinned authority
	}
	if _, err := cardauth.VerifyCertificate(head, info.Certificate, anchors.Certificates(), time.Now()); err != nil {
		r.TrustError = err.Error()
		return
	}
	r.Trusted = true
}

// shown is text that a card, a reader or somebody's file may have chosen, as it
// is safe to show: a terminal does what control characters say.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// print writes the report for a person.
func (r cardReport) print(w io.Writer) {
	yes := map[bool]string{true: "yes", false: "no"}
	line := func(name, value string) { fmt.Fprintf(w, "%-22s %s\n", name, shown(value)) }
	line("reader", r.Reader)
	line("token", r.Token)
	line("certificates marked", r.CertificatesMarked)
	line("card-surface AP", yes[r.CardSurface])
	if r.PINRequired {
		line("certificate", "behind the PIN: a phone registers at a kiosk")
		return
	}
	if r.Certificate == nil {
		line("certificate", "none: "+noCertificate)
		return
	}
	line("certificate serial", r.Serial)
	if r.NotAfter != nil {
		line("valid", r.NotBefore.Format(time.DateOnly)+" to "+r.NotAfter.Format(time.DateOnly))
	}
	if r.CardID != "" {
		line("card id", r.CardID)
	}
	trusted := yes[r.Trusted]
	if r.TrustError != "" {
		trusted += ": " + r.TrustError
	}
	line("trusted", trusted)
	line("exchange", fmt.Sprintf("%d commands, %d bytes", r.Commands, r.Bytes))
}
