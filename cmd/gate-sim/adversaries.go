package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/adversary"
	"github.com/gate-agent/gate-agent/terminal"
)

func adversariesCommand() *cobra.Command {
	var (
		b    battle
		pcsc bool
		only []string
	)
	cmd := &cobra.Command{
		Use:   "adversaries [--only NAME,…] [--deadline DURATION] [--pcsc] [--json]",
		Short: "Let lying cards come to a gate",
		Long: `Adversaries lets a library of lying cards come to gates with a real list and a
real journal, many at once: cards that lie about lengths, never answer or never
end, replay, swap, substitute certificates and records, or want a PIN. Each must
be denied for its own reason within the deadline. It fails when one is admitted,
denied for another reason or answered too late, or when it got what it must not
get: a second signature of the terminal, a PIN too many, an entry.

With --pcsc a dozen of them are presented through a private PC/SC daemon with
virtual readers.`,
		Example: "  gate-sim adversaries\n  gate-sim adversaries --only copied-card,echo --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&b.json, "json", false, "print one JSON object for each adversary and one at the end")
	cmd.Flags().BoolVar(&pcsc, "pcsc", false, "present a dozen of them through a private pcscd with vpcd")
	cmd.Flags().StringSliceVar(&only, "only", nil, "names of adversaries; default all")
	cmd.Flags().DurationVar(&b.deadline, "deadline", terminal.DefaultDeadline, "of the gate, 100ms to 10s")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if b.deadline < 100*time.Millisecond || b.deadline > 10*time.Second {
			return cli.UsageError(fmt.Sprintf("--deadline %v: want 100ms to 10s", b.deadline))
		}
		all := adversary.All()
		for _, name := range only {
			if !slices.ContainsFunc(all, func(a adversary.Adversary) bool { return a.Name == name }) {
				return cli.UsageError(fmt.Sprintf("--only: nobody is called %q (docs/adversaries.md)", name))
			}
		}
		for _, a := range all {
			if (len(only) == 0 || slices.Contains(only, a.Name)) && (!pcsc || a.Short) {
				b.adversaries = append(b.adversaries, a)
			}
		}
		if len(b.adversaries) == 0 {
			return cli.UsageError("--only: none of these goes through PC/SC (docs/adversaries.md)")
		}
		b.out, b.say = cmd.OutOrStdout(), cmd.ErrOrStderr()
		if !pcsc {
			b.lanes, b.post = 8, world.InProcess
			return b.run(cmd.Context())
		}
		// A lane for each method: vpcd is slow to see cards come and go.
		field, err := newThroughPCSC(cmd.Context(), 3)
		if err != nil {
			return err
		}
		next := 0
		b.lanes, b.post = 1, func() world.Post { next++; return pcscPost{field, next - 1} }
		return errors.Join(b.run(cmd.Context()), field.close())
	}
	return cmd
}

// A pcscPost is a slot of a private pcscd.
type pcscPost struct {
	field *throughPCSC
	slot  int
}

func (p pcscPost) Reader() (terminal.Reader, error) { return p.field.reader(p.slot) }
func (p pcscPost) Lag() time.Duration               { return 2 * look }

func (p pcscPost) Present(ctx context.Context, card vcard.Device) (func() error, error) {
	return p.field.present(ctx, p.slot, card, 0)
}

// A battle lets adversaries come to gates, and shows what comes of it.
type battle struct {
	adversaries []adversary.Adversary
	deadline    time.Duration
	json        bool
	lanes       int // for each method
	post        func() world.Post
	out, say    io.Writer

	sums   sums
	faults []string
	err    error // the first of writing
}

// sums is the last line.
type sums struct {
	Adversaries int `json:"adversaries"`
	Denied      int `json:"denied_with_expected_reason"`
	Wrong       int `json:"wrong_reason"`
	Admitted    int `json:"admitted"`
	Late        int `json:"deadline_exceeded"`
}

func (b *battle) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "gate-sim-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	fmt.Fprintln(b.say, "Making a test authority, cards, keys and a signed list …")
	w, err := world.New(time.Now())
	if err != nil {
		return err
	}
	siege, err := w.NewSiege(b.deadline, b.adversaries...)
	if err != nil {
		return err
	}
	list, err := w.List(siege.Rows...)
	if err != nil {
		return err
	}
	site, err := w.Open(filepath.Join(dir, "state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if _, err := site.Store.Import(ctx, bytes.NewReader(list), time.Now(), nil); err != nil {
		return err
	}
	if !b.json {
		b.printf("%d adversaries, a deadline of %v.\n\n%4s  %-40s %-14s %-17s %8s\n", len(b.adversaries), b.deadline, "", "adversary", "method", "reason", "time")
	}
	return errors.Join(site.Besiege(ctx, siege, b.lanes, b.post, b.add), b.close())
}

func (b *battle) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(b.out, format, args...); err != nil && b.err == nil {
		b.err = err
	}
}

// add shows one outcome.
func (b *battle) add(o world.Outcome) {
	b.sums.Adversaries++
	switch {
	case o.Admitted():
		b.sums.Admitted++
	case o.Expected():
		b.sums.Denied++
	default:
		b.sums.Wrong++
	}
	if o.Late {
		b.sums.Late++
	}
	fault := o.Fault()
	if fault != "" {
		b.faults = append(b.faults, o.Name+": "+fault)
	}
	if b.json {
		err := json.NewEncoder(b.out).Encode(struct {
			Name       string  `json:"name"`
			Lie        string  `json:"lie"`
			Method     string  `json:"method"`
			Expected   string  `json:"expected_reason"`
			Verdict    string  `json:"verdict"`
			Reason     string  `json:"reason"`
			Elapsed    float64 `json:"elapsed_ms"`
			Commands   int     `json:"commands"`
			Signatures int     `json:"terminal_signatures"`
			PINs       int     `json:"pins_presented"`
			Fault      string  `json:"fault,omitempty"`
		}{
			o.Name, o.Lie, o.Method, o.Reason, fmt.Sprint(o.Decision.Verdict), string(o.Decision.Reason),
			milliseconds(o.Decision.Elapsed), o.Commands(), o.Signatures(), o.PINs(), fault,
		})
		if err != nil && b.err == nil {
			b.err = err
		}
		return
	}
	said := "ok"
	if fault != "" {
		said = "WRONG: " + fault
	}
	b.printf("%4d  %-40s %-14s %-17s %5d ms  %s\n", b.sums.Adversaries, o.Name, o.Method, o.Decision.Reason, o.Decision.Elapsed.Milliseconds(), said)
}

// close shows the sums, and fails when anything was wrong.
func (b *battle) close() error {
	if b.json {
		if err := json.NewEncoder(b.out).Encode(b.sums); err != nil && b.err == nil {
			b.err = err
		}
	} else {
		s := b.sums
		b.printf("\n%d adversaries came: %d denied for their reason, %d for another, %d admitted, %d answered after the deadline.\n",
			s.Adversaries, s.Denied, s.Wrong, s.Admitted, s.Late)
	}
	if len(b.faults) > 0 {
		return fmt.Errorf("%d of %d adversaries were answered wrongly:\n%s", len(b.faults), b.sums.Adversaries, strings.Join(b.faults, "\n"))
	}
	return b.err
}
