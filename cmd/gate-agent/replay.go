package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

func cardReplayCommand() *cobra.Command {
	var (
		asJSON  bool
		profile string
	)
	cmd := &cobra.Command{
		Use:   "replay FILE [--profile FILE] [--json]",
		Short: "Run a recorded session again, without a card",
		Long: `Replay has the dialogue of a trace with the recorded answers, and says whether it
ends as it did then. Where this program sends another command than the recorded
one it names the line and both. It needs no reader, card, list or key; a trace
that was recorded with a card profile of the operator needs that.

It ends with 0 when the session is the recorded one, and with 4 when it is not
or the file is no whole trace.`,
		Example: "  gate-agent card replay card.trace",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&profile, "profile", "", "card profile that the trace was recorded with, when it is not the built-in one")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		text, err := readFile(a[0])
		if err != nil {
			return err
		}
		p := jpki.DefaultProfile()
		if profile != "" {
			if p, err = readProfile(profile); err != nil {
				return err
			}
		}
		f, err := trace.ParseFile(bytes.NewReader(text))
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", a[0], err)}
		}
		report, err := replay(cmd.Context(), f, p)
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", a[0], err)}
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		} else {
			report.print(cmd.OutOrStdout())
		}
		if err == nil && !report.Same {
			err = cli.RefusedError{Err: fmt.Errorf("%s: this is not the session that was recorded", a[0])}
		}
		return err
	}
	return cmd
}

// A replayReport is what card replay prints. docs/cli.md lists its members.
type replayReport struct {
	Agent    string    `json:"agent"`
	Recorded time.Time `json:"recorded_at"`
	Reader   string    `json:"reader"`
	Dialogue string    `json:"dialogue"`
	Profile  string    `json:"profile"`
	Now      string    `json:"replayed_with"` // card profile

	Same bool `json:"same"`
	replayOutcome
	Then       *replayOutcome    `json:"recorded,omitempty"`
	Difference *replayDifference `json:"difference,omitempty"`
}

// A replayOutcome is how a session ended.
type replayOutcome struct {
	Reason   terminal.Reason `json:"reason,omitempty"` // "" where it left the recorded one
	Detail   string          `json:"detail,omitempty"`
	Commands int             `json:"commands"`
	Bytes    int             `json:"bytes"`
}

func (o replayOutcome) String() string {
	return fmt.Sprintf("%s, %d commands, %d bytes: %s", o.Reason, o.Commands, o.Bytes, o.Detail)
}

// A replayDifference is where the commands leave the recorded ones.
type replayDifference struct {
	Line     int    `json:"line,omitempty"`    // of the recorded command; none behind the last
	Recorded string `json:"command,omitempty"` // hexadecimal, secrets as XX; none behind the last
	Sent     string `json:"sent,omitempty"`    // none where nothing more was sent
}

// replay has the dialogue of a trace.
func replay(ctx context.Context, f trace.File, profile jpki.Profile) (replayReport, error) {
	r := replayReport{Agent: f.Agent, Recorded: f.Recorded, Reader: f.Reader, Dialogue: f.Dialogue, Profile: f.Profile, Now: profile.Name}
	if o := f.Outcome; o != nil {
		r.Then = &replayOutcome{terminal.Reason(o.Reason), o.Detail, o.Commands, o.Bytes}
	}
	if f.Unconnected != nil {
		bad := &nfc.CardError{Slot: f.Reader, Err: f.Unconnected}
		r.Reason, r.Detail = reasonOf(bad), bad.Error()
	} else {
		s, err := newReplaySpeaker(f, profile)
		if err != nil {
			return r, err
		}
		card := &trace.Replay{Pairs: f.Pairs, Secret: profile.IsTerminalSignature}
		said := s.speak(ctx, f.Reader, card)
		r.replayOutcome = replayOutcome{said.reason, said.detail, said.stats.Commands, said.stats.Bytes}
		if d := card.Difference(); d != nil {
			r.Difference = &replayDifference{d.Line, d.Recorded, d.Sent}
			if d.Sent != "" { // what came of it is of no card
				r.Reason, r.Detail = "", ""
			}
		}
	}
	r.Same = r.Difference == nil && r.Then != nil && r.Then.Reason == r.Reason
	return r, ctx.Err()
}

// newReplaySpeaker is the terminal of a trace, as far as it was recorded.
func newReplaySpeaker(f trace.File, profile jpki.Profile) (*speaker, error) {
	if !slices.Contains(dialogues, f.Dialogue) {
		return nil, fmt.Errorf("its dialogue is %q, this version replays %q", f.Dialogue, dialogues)
	}
	if f.Profile != profile.Name && !(isBuiltin(f.Profile) && isBuiltin(profile.Name)) {
		return nil, fmt.Errorf("it was recorded with card profile %q, this is %q: give the one with --profile", f.Profile, profile.Name)
	}
	s := &speaker{dialogue: f.Dialogue, at: f.Recorded}
	if f.Dialogue != dialogueRead && f.Nonce == nil {
		return nil, errors.New("its header has no challenge")
	}
	var key *jpki.TerminalKey
	var err error
	if f.Dialogue == string(jpki.ExternalAuth) {
		if key, err = standInKey(f.TerminalCertificates); err != nil {
			return nil, err
		}
	}
	known := trace.Known{}
	if f.Known != nil {
		known = *f.Known
	}
	s.Prover = terminal.Prover{
		Scope: f.Scope, Terminal: f.Terminal, Methods: []jpki.Method{jpki.Method(f.Dialogue)},
		FirstUse: known.FirstUse, Refusals: refusedBefore(f.BirthDate == trace.BirthDateRefused),
		Rand: bytes.NewReader(f.Nonce),
	}
	if s.Dialogue, err = jpki.NewDialogue(profile, key, rand.Reader); err != nil {
		return nil, err
	}
	for _, der := range known.Anchors {
		a, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("anchor: %w", err)
		}
		s.Anchors = append(s.Anchors, a)
	}
	for _, b := range known.SurfaceAuthorities {
		var a cardauth.CVAuthority
		n := copy(a.ID[:], b)
		if a.Key, err = cardkey.Parse(b[n:]); err != nil {
			return nil, fmt.Errorf("surface-authority: %w", err)
		}
		s.SurfaceAuthorities = append(s.SurfaceAuthorities, a)
	}
	row, err := replayedRow(f, known)
	if err != nil {
		return nil, err
	}
	s.list = &sheet{tapUse: f.Dialogue == string(jpki.TapUse), find: func(context.Context, []byte) (whitelist.Row, trace.RowState, error) {
		switch {
		case f.Known == nil:
			return row, "", errors.New("what the list has for the card was not recorded")
		case known.Row == trace.RowUnreadable:
			return row, known.Row, errors.New("the row was unreadable")
		}
		return row, known.Row, nil
	}}
	return s, nil
}

// isBuiltin knows the profiles that this program had and has. A trace of an
// older one may be replayed: that is how a change of it shows.
func isBuiltin(profile string) bool { return strings.HasPrefix(profile, "jpki-builtin-") }

// replayedRow is the card's row, as far as it was recorded.
func replayedRow(f trace.File, known trace.Known) (row whitelist.Row, err error) {
	for _, k := range []struct {
		name string
		spki []byte
		key  *cardkey.Key
	}{
		{"card-key", known.CardKey, &row.CardKey},
		{"authentication-key", known.AuthenticationKey, &row.AuthKey},
	} {
		if k.spki == nil {
			continue
		}
		if *k.key, err = cardkey.Parse(k.spki); err != nil {
			return row, fmt.Errorf("%s: %w", k.name, err)
		}
	}
	if known.FirstUse {
		// The card took the row's birth date or it did not, which is recorded.
		// Any will do that the age record agrees with, or does not.
		row.BirthDate = "20000101"
		switch born := recordedBirthDate(f.Pairs); {
		case born != "" && f.BirthDate != trace.BirthDateOther:
			row.BirthDate = born
		case born == row.BirthDate:
			row.BirthDate = "20000102"
		}
	}
	return row, nil
}

// recordedBirthDate is what an age record among the answers says, which may have
// come in pieces; "" without one that a check would come to the date of.
func recordedBirthDate(pairs []trace.Pair) string {
	var data []byte
	for _, p := range pairs {
		data = append(data, p.Response[:max(0, len(p.Response)-2)]...)
	}
	for ; len(data) >= cardauth.AgeRecordSize; data = data[1:] {
		if r, err := cardauth.ParseAgeRecord(data[:cardauth.AgeRecordSize]); err == nil {
			return r.BirthDate().YYYYMMDD()
		}
	}
	return ""
}

// refusedBefore implements terminal.Refusals.
type refusedBefore bool

// BirthDateRefused implements terminal.Refusals.
func (r refusedBefore) BirthDateRefused(context.Context, string) (bool, error) { return bool(r), nil }

// standInKey has the terminal's certificates and signs nothing: what it would
// have signed is masked in the trace.
func standInKey(raw [][]byte) (*jpki.TerminalKey, error) {
	if len(raw) == 0 {
		return nil, errors.New("its header has no terminal-certificate")
	}
	var certificates []cardauth.CVCertificate
	for _, b := range raw {
		c, err := cardauth.ParseCVCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("terminal-certificate: %w", err)
		}
		certificates = append(certificates, c)
	}
	public, err := x509.ParsePKIXPublicKey(certificates[len(certificates)-1].PublicKey().SPKI())
	if err != nil {
		return nil, fmt.Errorf("terminal-certificate: %w", err)
	}
	return jpki.NewTerminalKey(standIn{public}, certificates...)
}

type standIn struct{ public crypto.PublicKey }

func (s standIn) Public() crypto.PublicKey { return s.public }

// Sign gives as many bytes as an RSA-2048 signature has.
func (s standIn) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 256), nil
}

// print writes the report for a person.
func (r replayReport) print(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-9s %s\n", name, shown(value)) }
	line("trace", fmt.Sprintf("%s, %s, of gate-agent %s", r.Dialogue, r.Recorded.Format(time.RFC3339), r.Agent))
	if r.Now != r.Profile {
		line("profile", fmt.Sprintf("recorded with %s, now %s", r.Profile, r.Now))
	}
	if r.Then != nil {
		line("recorded", r.Then.String())
	} else {
		line("recorded", "no outcome: the trace breaks off")
	}
	if r.Reason != "" {
		line("now", r.replayOutcome.String())
	}
	if d := r.Difference; d != nil {
		if d.Recorded == "" {
			line("differs", "behind the last recorded command")
		} else {
			line("differs", fmt.Sprintf("in line %d", d.Line))
			line("", "recorded "+d.Recorded)
		}
		if d.Sent == "" {
			line("", "now      nothing more")
		} else {
			line("", "now      "+d.Sent)
		}
	}
	line("same", map[bool]string{true: "yes", false: "no"}[r.Same])
}
