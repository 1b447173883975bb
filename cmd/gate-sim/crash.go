package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/whitelist"
)

func crashGateCommand() *cobra.Command {
	c := crash{program: itself}
	cmd := &cobra.Command{
		Use:   "crash-gate [--cuts N] [--seed N] [--json]",
		Short: "Kill a gate at every state, and let people try again",
		Long: `Crash-gate runs lanes in a process of its own, on a real journal and a real list,
and kills it: at every point where the lane writes to the journal or moves the
relay, twice, and at --cuts random times. The gates and the people are with this
process, so that they outlive it. Then the lanes are started again on the same
journal, and the same people try again, with staff who can see who stands
outside. It fails when somebody cannot get in who has a ticket and is not inside,
when anybody gets in beyond them, when somebody cannot get out, when the relay
does not rest or the journal is not whole.`,
		Example: "  gate-sim crash-gate\n  gate-sim crash-gate --cuts 1000 --seed 7 --json",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&c.random, "cuts", 40, "cuts at random times, beyond those at every point")
	cmd.Flags().Uint64Var(&c.seed, "seed", 1, "of the random times")
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object for each cut and one at the end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if c.random < 0 {
			return cli.UsageError("--cuts: want 0 or more")
		}
		c.scenes, c.out, c.say = scenes, cmd.OutOrStdout(), cmd.ErrOrStderr()
		return c.run(cmd.Context())
	}
	return cmd
}

// itself runs this program again.
func itself(args ...string) *exec.Cmd { return exec.Command("/proc/self/exe", args...) }

// A crash kills gates.
type crash struct {
	scenes   []scene
	random   int
	seed     uint64
	json     bool
	program  func(args ...string) *exec.Cmd
	out, say io.Writer

	furnished string // the folder of a terminal before its first tap; "": a new one
	dir       string

	states, cuts, failed int
	faults               []string
	err                  error // the first of writing
}

// justAfter is how long a lane may go on behind a point before it is killed, at
// the second cut there.
const justAfter = 300 * time.Microsecond

func (c *crash) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "gate-sim-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(c.say, "Making a test authority, cards and a signed list …")
	if c.furnished == "" {
		c.furnished = filepath.Join(dir, "terminal")
		if err := furnish(ctx, c.furnished); err != nil {
			return err
		}
	}
	c.dir = dir
	if !c.json {
		c.printf("%-34s %-34s %6s  %s\n", "people", "killed", "inside", "after the start")
	}
	var took []time.Duration
	for _, s := range c.scenes {
		start := time.Now()
		o, err := c.cut(ctx, s, &outside{})
		if err != nil {
			return err
		}
		took = append(took, time.Since(start))
		c.states += len(o.steps)
		for at, step := range o.steps {
			for _, lag := range []time.Duration{0, justAfter} {
				if _, err := c.cut(ctx, s, &outside{cutAt: at + 1, lag: lag}); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, step, err)
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(c.seed, 0))
	for range c.random {
		i := random.IntN(len(c.scenes))
		at := time.Duration(random.Int64N(int64(took[i]))) + time.Millisecond
		if _, err := c.cut(ctx, c.scenes[i], &outside{after: at}); err != nil {
			return fmt.Errorf("%s, after %v: %w", c.scenes[i].name, at, err)
		}
	}
	return c.close()
}

// furnish makes dir that of a terminal with a list and no journal.
func furnish(ctx context.Context, dir string) error {
	w, err := world.New(time.Now())
	if err != nil {
		return err
	}
	f := crashWorld{ScopeSecret: w.ScopeSecret, ListKey: w.ListKey, Cards: map[string][]byte{}}
	var rows []whitelist.Listed
	for card, size := range sizes {
		img, err := w.Card(perso.CardOptions{})
		if err != nil {
			return err
		}
		row, err := w.Row(img, card)
		if err != nil {
			return err
		}
		e := &row.Row.Entitlements[0]
		e.Uses, e.Party, e.Attention = 1, uint32(size), card == lookedCard
		if card == againCard {
			e.ReEntry = whitelist.ReEntryAfterExit
		}
		rows = append(rows, row)
		if f.Cards[card], err = img.Encode(); err != nil {
			return err
		}
	}
	w.Manifest.Venue = venue(1, 1)
	w.Manifest.Venue.Rules = ""
	list, err := w.List(rows...)
	if err != nil {
		return err
	}
	site, err := w.Open(dir)
	if err != nil {
		return err
	}
	_, err = site.Store.Import(ctx, bytes.NewReader(list), time.Now(), nil)
	if err = errors.Join(err, site.Close()); err != nil {
		return err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, crashWorldFile), b, 0o600)
}

// cut plays a scene on a terminal of its own until it is killed, if it is, and
// lets people try again. It fails when the scene itself goes wrong.
func (c *crash) cut(ctx context.Context, s scene, o *outside) (_ *outside, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if o.dir, err = os.MkdirTemp(c.dir, "cut-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	if err := os.CopyFS(o.dir, os.DirFS(c.furnished)); err != nil {
		return nil, err
	}
	o.program, o.card, o.size = c.program, s.card, sizes[s.card]
	if s.setup != nil {
		if err := s.setup(ctx, o); err != nil {
			return nil, err
		}
	}
	if err := o.start(ctx, true); err != nil {
		return nil, err
	}
	switch err := s.play(o); {
	case errors.Is(err, errCut):
	case err != nil:
		return nil, errors.Join(err, o.kill())
	default: // it was to be killed behind its last point, or not at all
		if err := o.kill(); !errors.Is(err, errCut) {
			return nil, err
		}
	}
	steps := slices.Clone(o.steps)
	a, err := o.recover(ctx)
	o.steps = steps
	if err != nil {
		a.fault("%v", err)
	}
	c.add(s, o, a)
	return o, nil
}

func (c *crash) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(c.out, format, args...); err != nil && c.err == nil {
		c.err = err
	}
}

// add shows what came of a cut.
func (c *crash) add(s scene, o *outside, a aftermath) {
	c.cuts++
	killed := "after the last"
	switch {
	case o.cutAt > 0 && len(o.steps) >= o.cutAt:
		killed = o.steps[o.cutAt-1]
	case o.after > 0 && len(o.steps) > 0:
		killed = "at a random time"
	case o.after > 0:
		killed = "at a random time, early"
	}
	if o.lag > 0 {
		killed += ", later"
	}
	fault := strings.Join(a.faults, "; ")
	if fault != "" {
		c.failed++
		c.faults = append(c.faults, fmt.Sprintf("%s, killed %s: %s", s.name, killed, fault))
	}
	if c.json {
		err := json.NewEncoder(c.out).Encode(struct {
			Scene  string   `json:"scene"`
			Killed string   `json:"killed"`
			Inside int      `json:"inside"`
			After  []string `json:"after"`
			Fault  string   `json:"fault,omitempty"`
		}{s.name, killed, a.inside, a.said, fault})
		if err != nil && c.err == nil {
			c.err = err
		}
		return
	}
	said := a.String()
	if fault != "" {
		said += "  WRONG: " + fault
	}
	c.printf("%-34s %-34s %4d/%d  %s\n", s.name, killed, a.inside, o.size, said)
}

// close shows the sums, and fails when anything went wrong.
func (c *crash) close() error {
	if c.json {
		err := json.NewEncoder(c.out).Encode(struct {
			States   int `json:"states"`
			Cuts     int `json:"cuts"`
			Failures int `json:"failures"`
		}{c.states, c.cuts, c.failed})
		if err != nil && c.err == nil {
			c.err = err
		}
	} else {
		c.printf("\n%d states, killed %d times: %d failures.\n", c.states, c.cuts, c.failed)
	}
	if c.failed > 0 {
		return fmt.Errorf("%d of %d cuts went wrong:\n%s", c.failed, c.cuts, strings.Join(c.faults, "\n"))
	}
	return c.err
}
