package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// What the operator of a fleet tells a running agent, and the lease that it is sent.

// errRestart ends a run after which the program begins anew, in the same process: in
// another scope, or to wipe the terminal.
var errRestart = errors.New("restart")

// restart begins this program anew, with the arguments of before. Nothing of its
// memory is left, and its supervisor sees the same process.
func restart() error {
	return fmt.Errorf("beginning anew: %w", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}

// An operator carries out the commands for a running agent.
type operator struct {
	c      *config
	log    *slog.Logger
	record *journal.Journal
	lanes  []station
	clock  *sureClock
	keeper *leaseKeeper  // nil where the scope key is in a file
	source *fetch.Source // nil: nowhere
	stop   func(error)   // ends the run

	file   []byte       // of commands, in which something may be left to do; else nil
	coming *preparation // of a change of scope; nil: none

	reported map[string]bool
	lost     string // why the source was not reached, as it was told last
	leased   time.Time
}

// newOperator puts the lanes as the last commands say, and takes over the lease that is
// stored. stop ends the run.
func (c *config) newOperator(log *slog.Logger, source *fetch.Source, list *listSwitch, record *journal.Journal, lanes []station, now func() time.Time, stop func(error)) (*operator, error) {
	o := &operator{
		c: c, log: log, source: source, record: record, lanes: lanes, stop: stop, reported: make(map[string]bool),
		clock: newSureClock(c.memory.State().Seen, now, record.Latest, uptime()),
	}
	if err := c.forgetOtherScopes(); err != nil {
		log.Warn("data of other scopes not removed", "error", err)
	}
	if c.ScopeKey.Lease {
		o.keeper = &leaseKeeper{c: c, log: log, list: list, at: o.at}
		if err := o.keeper.begin(); err != nil {
			return nil, err
		}
	}
	if h := c.memory.State().Halted; h.Number > 0 {
		log.Warn("out of order by command", "number", h.Number, "message", h.Message)
		o.halt(context.Background())
	}
	return o, nil
}

// status is what people are told of it.
func (o *operator) status() api.Operator {
	state := o.c.memory.State()
	s := api.Operator{Scope: o.c.Scope, Command: state.Of(o.c.Scope).Number}
	if h := state.Halted; h.Number > 0 {
		s.OutOfOrder = &api.Ordered{Command: h.Number, Message: h.Message, Since: h.Since}
	}
	if o.keeper != nil {
		s.Lease = o.keeper.status()
	}
	return s
}

const (
	watchEvery  = time.Second      // the end of a lease
	rememberAt  = time.Hour        // the time that surely has passed, for a board without a clock
	renewEvery  = time.Hour        // how often a lease is looked for that has long to go
	slowestPoll = 15 * time.Minute // after failures
)

// follow does what commands say, and keeps the lease, until ctx ends.
func (o *operator) follow(ctx context.Context) {
	every, failures, next := o.c.List.Every.Duration, 0, time.Now()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	defer o.giveUp()
	if o.keeper != nil {
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			o.keeper.watch(ctx)
		}()
		defer func() { <-watching }()
	}
	for {
		o.remember()
		if o.source != nil && !time.Now().Before(next) {
			wait := time.Duration(0)
			if err := o.poll(ctx); err == nil {
				failures = 0
			} else if ctx.Err() == nil {
				wait = max(fetch.Backoff{Base: every, Cap: max(every, slowestPoll)}.Next(failures, rand.Int64N), fetch.RetryAfter(err))
				failures++
			}
			next = fetch.Slot(time.Now().Add(wait), every, fetch.Phase(o.c.Terminal, every))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// remember keeps a time that surely has passed for the next start.
func (o *operator) remember() {
	at, accepted := o.clock.read()
	seen := o.c.memory.State().Seen
	if !accepted && at.Sub(seen) < rememberAt {
		return
	}
	if err := o.c.memory.Update(func(s *command.State) { s.Seen = at.Truncate(time.Second) }); err != nil {
		o.once("time not remembered", err)
	}
}

func (o *operator) at() time.Time {
	at, _ := o.clock.read()
	return at
}

// poll looks at the source once. The error is one of reaching it: a lease that is not
// there, or is refused, keeps nobody from looking for a wipe as often as before.
func (o *operator) poll(ctx context.Context) error {
	var hurt, failed error
	if o.c.commanded() {
		hurt = o.pollCommands(ctx)
		failed = hurt
	}
	if o.keeper != nil && ctx.Err() == nil {
		err := o.pollLease(ctx)
		if failed = errors.Join(failed, err); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLeaseRefused) {
			hurt = errors.Join(hurt, err)
		}
	}
	switch {
	case ctx.Err() != nil:
	case failed == nil:
		o.lost = ""
	case failed.Error() != o.lost:
		o.lost = failed.Error()
		o.log.Warn("commands or lease not fetched", "error", failed)
	}
	return hurt
}

func (o *operator) pollLease(ctx context.Context) error {
	o.keeper.recover()
	if !o.keeper.needs() && time.Since(o.leased) < renewEvery {
		return nil
	}
	err := o.keeper.fetch(ctx, o.source)
	switch {
	case err == nil:
		o.leased = time.Now()
	case errors.Is(err, syscall.ENOTDIR): // one list file: it has no leases
		return nil
	}
	return err
}

func (o *operator) pollCommands(ctx context.Context) error {
	answer, err := o.source.Get(ctx, command.File(o.c.Terminal), command.MaxFile)
	switch {
	case errors.Is(err, fetch.ErrUnchanged):
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil // none was ever given
	case err != nil:
		return err
	default:
		answer.Keep()
		o.file = answer.Body
	}
	if o.file != nil && o.obey(ctx, o.file) {
		o.file = nil
	}
	return nil
}

// obey carries out the commands of a file. done says that nothing in it is left to do,
// also when the clock is set: what has expired by a wrong one has not.
func (o *operator) obey(ctx context.Context, file []byte) (done bool) {
	trust, err := o.c.roleTrust(sign1.RoleCommand, o.c.Scope, "commands.keys", o.c.Commands.Keys)
	if err != nil {
		o.once("commands refused", err)
		return false
	}
	state := o.c.memory.State()
	seen := state.Of(o.c.Scope)
	all, delegation, err := command.Terminal{
		Scope: o.c.Scope, Hierarchy: o.c.Mode.String(), Name: o.c.Terminal,
		Trust: trust, Delegation: seen.Delegation, Floor: seen.Number, At: o.at(),
	}.Read(file)
	if err != nil {
		o.once("commands refused", err)
		return !errors.Is(err, roles.ErrExpired)
	}
	if delegation > seen.Delegation {
		if err := o.c.memory.Update(func(s *command.State) { s.See(command.Scope{Name: o.c.Scope, Delegation: delegation}) }); err != nil {
			o.once("commands not carried out", err)
			return false
		}
	}
	done = true
	for i, r := range all {
		if r.Err != nil {
			o.refused(r, r.Err)
			done = done && !errors.Is(r.Err, roles.ErrExpired) && !errors.Is(r.Err, command.ErrExpired)
			continue
		}
		if err := o.carryOut(ctx, r.Command); err != nil {
			if errors.Is(err, errRestart) || ctx.Err() != nil {
				return false
			}
			o.refused(r, err)
			if !superseded(all[i+1:]) {
				return false
			}
		}
	}
	return done
}

// superseded is whether a later command can be carried out in the place of one that
// cannot, now.
func superseded(later []command.Received) bool {
	for _, r := range later {
		if r.Err == nil {
			return true
		}
	}
	return false
}

// refused says, once, why a command is not carried out. Those that were stay in the file
// until they expire: that is no fault.
func (o *operator) refused(r command.Received, err error) {
	level := slog.LevelWarn
	if errors.Is(err, command.ErrNumber) {
		level = slog.LevelInfo
	}
	o.tell(level, fmt.Sprintf("command %d (%s) not carried out", r.Number, r.Action), err)
}

func (o *operator) once(what string, err error) { o.tell(slog.LevelWarn, what, err) }

// mostReported bounds what a hostile file makes an agent remember and say.
const mostReported = 1000

func (o *operator) tell(level slog.Level, what string, err error) {
	text := what + ": " + err.Error()
	if o.reported[text] || len(o.reported) >= mostReported {
		return
	}
	o.reported[text] = true
	o.log.Log(context.Background(), level, what, "error", err)
}

// carryOut carries out one command: once it is durable, its number with it, it has its
// effect. After a crash before that it is carried out again.
func (o *operator) carryOut(ctx context.Context, cmd command.Command) error {
	var move command.Move
	var there command.Scope // what was seen in the new scope
	if cmd.Action == command.ChangeScope {
		var err error
		if there, err = o.prepare(ctx, cmd); err != nil {
			return err
		}
		if cmd.NewScope != o.c.home {
			move = command.Move{Number: cmd.Number, From: o.c.home, To: cmd.NewScope}
		}
	}
	at := o.at()
	err := o.record.Commanded(context.WithoutCancel(ctx), at, o.c.Terminal, cmd.Scope, cmd.Number, string(cmd.Action), cmd.Message)
	if err != nil {
		o.once("command not recorded", err)
		if cmd.Action != command.OutOfOrder && cmd.Action != command.Wipe { // what shuts the gate needs no record
			return err
		}
	}
	if err := o.c.memory.Update(func(s *command.State) {
		s.See(command.Scope{Name: cmd.Scope, Number: cmd.Number})
		switch cmd.Action {
		case command.OutOfOrder:
			s.Halted = command.Halt{Number: cmd.Number, Message: cmd.Message, Since: at.Truncate(time.Second)}
		case command.InOrder:
			s.Halted = command.Halt{}
		case command.ChangeScope:
			s.Moved = move
			s.See(there)
		case command.Wipe:
			s.Wiped = command.Wiping{Number: cmd.Number, Scope: cmd.Scope, RescueKey: cmd.RescueKey, Since: at.Truncate(time.Second)}
		}
	}); err != nil {
		return err
	}
	o.log.Warn("command carried out", "number", cmd.Number, "action", string(cmd.Action), "message", cmd.Message, "new_scope", cmd.NewScope)
	switch cmd.Action {
	case command.OutOfOrder, command.InOrder:
		o.halt(ctx)
	case command.ChangeScope, command.Wipe:
		o.stop(errRestart)
		return errRestart
	}
	return nil
}

// halt puts all lanes out of order, or back, as the last command says.
func (o *operator) halt(ctx context.Context) {
	h := o.c.memory.State().Halted
	for _, l := range o.lanes {
		if err := l.Command(ctx, h.Message, h.Number > 0); err != nil {
			o.once("incident not recorded", err)
		}
	}
}
