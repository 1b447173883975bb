package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/staff"
)

func runCommand() *cobra.Command {
	var events string
	cmd := &cobra.Command{
		Use:   "run --config FILE [--events FILE|-]",
		Short: "Serve the lanes until SIGINT or SIGTERM",
		Long: `Run serves the lanes until SIGINT or SIGTERM.

With --events it writes one JSON object for each decision to a file, or to
standard output for "-" (docs/events.md). A simulated gate is worked from standard
input: a line "c" confirms the person, "p" passes, "2 p" at the second lane
(docs/configuration.md).`,
		Example: "  gate-agent run --config /etc/gate-agent/config.toml --events -",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&events, "events", "", "write one JSON object for each decision to this file, or - for standard output")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		// Whoever reads events or log may go away: no reason to shut the gate.
		signal.Ignore(syscall.SIGPIPE)
		log, flush := newLogger(cmd.ErrOrStderr())
		defer flush()
		out, err := openEvents(events, cmd.OutOrStdout(), log)
		if err != nil {
			return err
		}
		err = run(cmd.Context(), c, log, out, cmd.InOrStdin())
		return errors.Join(err, out.Close())
	})
	serve := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := serve(cmd, args)
		if errors.Is(err, errRestart) { // all is closed
			err = restart()
		}
		return err
	}
	return cmd
}

// newLogger writes text on a terminal and JSON elsewhere. flush ends it; that
// lines were lost is not told, to whom.
func newLogger(w io.Writer) (log *slog.Logger, flush func()) {
	out := newOutlet(w, nil)
	flush = func() { _ = out.Close() }
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return slog.New(slog.NewTextHandler(out, nil)), flush
		}
	}
	return slog.New(slog.NewJSONHandler(out, nil)), flush
}

// A station is one lane with its reader.
type station struct {
	laneConfig
	*terminal.Lane
	reader *pcsc.Lane
	log    *slog.Logger
}

// run wires the parts of a terminal together and serves its lanes.
func run(ctx context.Context, c *config, log *slog.Logger, events *eventLog, keys io.Reader) (err error) {
	closing := func(f func() error) { err = errors.Join(err, f()) }
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	if c.memory.State().Wiped.Number > 0 {
		return runWiped(ctx, c, log, keys)
	}
	roster, err := c.openRoster()
	if err != nil {
		return err
	}
	store := newListSwitch()
	defer closing(store.Close)
	if err := c.openLists(store); err != nil {
		return err
	}
	c.keys.patient, c.keys.lenient = true, true
	proof, err := c.openProof()
	if err != nil {
		return err
	}
	var lanes []station
	now := func() time.Time { // that of the first lane, as all of them have it
		if len(lanes) > 0 {
			return lanes[0].Time() // a clock that is set while people pass raises no floor
		}
		return time.Now()
	}
	record, err := c.openJournal(now)
	if err != nil {
		return err
	}
	defer closing(record.Close)
	checkpointKey, err := c.openCheckpointKey()
	if err != nil {
		return err
	}
	source, err := c.openSource()
	if err != nil {
		return err
	}
	live := newHubLink()
	if err := live.open(ctx, c, log, record); err != nil {
		return err
	}
	defer closing(live.close)
	doors, shut, err := openGates(c.lanes(), log, keys)
	if err != nil {
		return err
	}
	defer closing(shut)
	parts := terminal.Parts{
		Dialogue: proof.dialogue, List: store, Journal: record,
		Rand: rand.Reader, Now: time.Now, Elapsed: uptime(), After: time.After,
	}
	if live.claims != nil {
		parts.Claims = live.claims
	}
	shift := staff.NewShift(record, now)
	var members *api.Staff
	if roster != nil {
		members = &api.Staff{Roster: roster, Shift: shift}
		parts.OnDuty = shift.OnDuty
	}
	quiet := newLull()
	var made []station
	var owners slotOwners
	for i, l := range c.lanes() {
		reader, err := l.openReader()
		if err != nil {
			return err
		}
		defer closing(reader.Close)
		log := log.With("lane", l.label())
		parts.Reader, parts.Gate, parts.Checker = owners.reader(l.label(), reader), doors[i], doors[i]
		if members != nil {
			parts.Checker = shift.Checker(doors[i])
		}
		parts.Incidents = func(i terminal.Incident) { logIncident(log, i) }
		parts.Observe = func(d terminal.Decision) {
			quiet.end()
			events.add(d)
			live.add(d)
			logDecision(log, d)
		}
		lane, err := terminal.NewLane(c.lane(l, proof), parts)
		if err != nil {
			return cli.ConfigError{Err: err}
		}
		made = append(made, station{l, lane, reader, log})
	}
	lanes = made

	if record.Fresh() {
		log.Warn("new journal: entries recorded before are not known here")
	}
	if record.Reindexed() {
		log.Warn("journal index was rebuilt from its events")
	}
	if err := record.Started(ctx, time.Now(), c.Terminal, c.Scope, version()); err != nil {
		return fmt.Errorf("recording the start: %w", err)
	}
	said, err := c.custody()
	if err != nil {
		return cli.ConfigError{Err: err}
	}
	log.Info("starting", "version", version(), "mode", c.Mode.String(), "scope", c.Scope, "terminal", c.Terminal, "lanes", len(lanes), "methods", c.Methods)
	if c.TapUse.FirstUse {
		log.Warn("first use is on", "note", firstUseWarning)
	}
	for _, s := range said {
		log.Info("key custody", "medium", s)
	}

	operator, err := c.newOperator(log, source, store, record, lanes, now, cancel)
	if err != nil {
		return err
	}

	// What runs beside the lanes ends before the parts are closed.
	beside, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	follow, err := c.followLists(beside, log, source, store, operator.keeper, now, live.wake)
	if err != nil {
		return err
	}
	about := c.asked(lanes, api.Parts{Journal: record, List: store, Staff: members, Operator: operator.status, Checkpoint: c.checkpoints(record, checkpointKey, now)})
	live.shows(beside, c, &about)
	serve, err := c.serveAPI(beside, log, about)
	if err != nil {
		return err
	}
	// The lanes end after what staff asks: nothing opens a gate that was shut.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	wg.Go(func() {
		serve()
		<-beside.Done()
		end()
	})
	for _, l := range lanes {
		wg.Go(func() { watchReaders(beside, l.log, l.reader, l.Reader.Slots) })
	}
	wg.Go(func() { c.keys.watch(beside, log) })
	wg.Go(func() { c.renewCertificates(beside, log) })
	wg.Go(func() { live.run(beside) })
	wg.Go(func() { c.followRotation(beside, log, proof.keys, now) })
	wg.Go(func() { watchList(beside, log, store, record, now) })
	wg.Go(func() { c.deleteOld(beside, log, record, now, func() uint64 { return live.mayDelete(beside) }) })
	wg.Go(func() {
		signEvery(beside, log, c.Journal.Checkpoint.Duration, c.checkpoints(record, checkpointKey, now))
	})
	wg.Go(func() {
		if store.wait(beside) {
			follow()
		}
	})
	wg.Go(func() { operator.follow(beside) })
	wg.Go(func() { mergeWhenIdle(beside, log, store, quiet) })
	err = serveLanes(serving, end, lanes)
	log.Info("stopped")
	if cause := context.Cause(ctx); errors.Is(cause, errRestart) {
		err = errors.Join(err, cause)
	}
	return err
}

// serveLanes serves all lanes until ctx ends. One that cannot work any more ends the
// others: whoever supervises the agent starts all of them again.
func serveLanes(ctx context.Context, end func(), lanes []station) error {
	failed := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, l := range lanes {
		wg.Go(func() {
			defer end()
			if err := l.Run(ctx); err != nil {
				failed[i] = fmt.Errorf("lane %s: %w", l.label(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// logDecision tells the operator what happened, without a card identifier.
func logDecision(log *slog.Logger, d terminal.Decision) {
	attrs := []any{"verdict", d.Verdict.String(), "reason", string(d.Reason), "method", string(d.Method), "elapsed_ms", d.Elapsed.Milliseconds()}
	if d.HolderCheck != "" {
		attrs = append(attrs, "holder_check", d.HolderCheck)
	}
	if len(d.Warnings) > 0 {
		attrs = append(attrs, "warnings", d.Warnings)
	}
	if u := d.Event().Used; u != nil {
		attrs = append(attrs, "used_at", u.At, "used_gate", u.Gate)
		if u.Terminal != "" {
			attrs = append(attrs, "used_terminal", u.Terminal)
		}
	}
	if d.Claim != "" {
		attrs = append(attrs, "claim", string(d.Claim))
	}
	if d.Cause != nil {
		attrs = append(attrs, "cause", d.Cause.Error())
	}
	log.Info("tap", attrs...)
}

// logIncident tells the operator what happens without a card.
func logIncident(log *slog.Logger, i terminal.Incident) {
	attrs := []any{"reason", string(i.Reason)}
	if i.State != "" {
		attrs = append(attrs, "state", string(i.State))
	}
	if i.Staff.Name != "" {
		attrs = append(attrs, "staff", i.Staff.Name, "role", string(i.Staff.Role))
	}
	if i.Cause != nil {
		attrs = append(attrs, "cause", i.Cause.Error())
	}
	log.Warn("gate", attrs...)
}
