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
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
)

func demoCommand() *cobra.Command {
	var (
		d     demo
		clock clockFlags
		pcsc  bool
	)
	cmd := &cobra.Command{
		Use:   "demo [--taps N] [--bitrate 106|212|424] [--rsa DURATION] [--pcsc] [--json]",
		Short: "Let people of every sort come to a gate",
		Long: `Demo makes a test authority, cards, keys and a signed list in a temporary folder
and lets people of every sort come to two gates, one for each method. The cards
are virtual and take the time that real ones are modelled to take; reading,
checking, deciding and recording are the real agent's. It fails when the gate
answers anybody otherwise than it should.

With --pcsc the cards are presented through a private PC/SC daemon with virtual
readers, which sees a card come and go only every 400 ms.`,
		Example: "  gate-sim demo\n  gate-sim demo --taps 60 --bitrate 424 --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&d.taps, "taps", 0, "how many people come; default each of them once")
	cmd.Flags().BoolVar(&d.json, "json", false, "print one JSON object for each decision and one at the end")
	cmd.Flags().BoolVar(&pcsc, "pcsc", false, "present the cards through a private pcscd with vpcd")
	clock.add(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if d.taps < 0 {
			return cli.UsageError("--taps: want a positive number")
		}
		if d.clock, err = clock.clock(); err != nil {
			return err
		}
		d.out, d.say = cmd.OutOrStdout(), cmd.ErrOrStderr()
		d.japanese = cli.InJapanese()
		d.field = newInProcess(len(gates))
		if pcsc {
			if d.field, err = newThroughPCSC(cmd.Context(), len(gates)); err != nil {
				return err
			}
		}
		return errors.Join(d.run(cmd.Context()), d.field.close())
	}
	return cmd
}

// gates are the two gates of the demo: one for each method.
var gates = [...]jpki.Method{jpki.TapUse, jpki.ExternalAuth}

// A demo lets people come to the gates.
type demo struct {
	taps     int
	json     bool
	japanese bool
	clock    *vcard.Clock
	field    field
	out, say io.Writer
}

// run makes the world, runs the gates and sends the people there.
func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "gate-sim-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	fmt.Fprintln(d.say, "Making a test authority, cards, keys and a signed list …")
	w, people, list, err := newWorld()
	if err != nil {
		return err
	}
	site, err := w.Open(filepath.Join(dir, "state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	manifest, err := site.Store.Import(ctx, bytes.NewReader(list), time.Now(), nil)
	if err != nil {
		return err
	}

	decisions := make(chan terminal.Decision, 1)
	var lanes []*terminal.Lane
	for i, method := range gates {
		reader, err := d.field.reader(i)
		if err != nil {
			return err
		}
		lane, _, err := site.Lane(reader, func(c *terminal.Config, p *terminal.Parts) {
			c.Methods = []jpki.Method{method}
			p.Observe = func(d terminal.Decision) { decisions <- d }
		})
		if err != nil {
			return err
		}
		lanes = append(lanes, lane)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, len(lanes))
	for _, lane := range lanes {
		go func() { ended <- lane.Run(running) }()
	}
	defer func() {
		stop()
		for range lanes {
			err = errors.Join(err, <-ended)
		}
	}()

	report := newReport(d, manifest.Rows)
	if d.taps == 0 {
		d.taps = len(people)
	}
	for i := range d.taps {
		p := people[i%len(people)]
		got, err := d.tap(ctx, p, decisions)
		if err != nil {
			return fmt.Errorf("tap %d (%s): %w", i+1, p.Name, err)
		}
		report.add(p, got)
	}
	if err := report.close(); err != nil {
		return err
	}
	journalReport, err := site.Journal.Verify(ctx)
	if err != nil {
		return err
	}
	if !d.json {
		fmt.Fprintf(d.out, "\nJournal: %d events, every one in the hash chain.\n", journalReport.Events)
	}
	return nil
}

// tap presents a person's card and waits for the gate's decision.
func (d *demo) tap(ctx context.Context, p world.Person, decisions <-chan terminal.Decision) (got terminal.Decision, err error) {
	card, err := vcard.New(p.Image, vcard.Options{Clock: d.clock})
	if err != nil {
		return got, err
	}
	slot := 0
	if p.Method == gates[1] {
		slot = 1
	}
	remove, err := d.field.present(ctx, slot, card, p.PullAt)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	select {
	case got = <-decisions:
		return got, nil
	case <-time.After(2 * terminal.DefaultDeadline):
		return got, errors.New("the gate said nothing")
	case <-ctx.Done():
		return got, context.Cause(ctx)
	}
}

// encode writes one JSON object on a line.
func (d *demo) encode(v any) error { return json.NewEncoder(d.out).Encode(v) }
