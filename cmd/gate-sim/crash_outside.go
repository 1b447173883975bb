package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// errCut says that the process is gone.
var errCut = errors.New("the process was killed")

// An outside is what a crash leaves as it is: two gates with their relay lines,
// and the people of one ticket. A relay line is held by the process alone: it
// falls to rest when the process is gone, whatever it was doing.
type outside struct {
	dir     string
	program func(args ...string) *exec.Cmd

	card   string // of the ticket
	size   int    // people of the ticket
	inside int    // of them

	open  [2]bool       // the relay lines: entry, exit
	alarm bool          // the building's
	cutAt int           // the point at which the process is killed, from 1; 0 is none
	lag   time.Duration // between the leave to go on there and the kill
	after time.Duration // kill then, wherever it is; 0 is never
	steps []string      // points that the process went through

	process *exec.Cmd
	in      io.WriteCloser
	signs   chan sign
	pending []sign
}

// start starts the process. With points it can be cut.
func (o *outside) start(ctx context.Context, points bool) error {
	o.process = o.program("crash-lane", o.dir, fmt.Sprintf("--points=%t", points))
	o.process.Stderr = os.Stderr
	o.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if o.in, err = o.process.StdinPipe(); err != nil {
		return err
	}
	out, err := o.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := o.process.Start(); err != nil {
		return err
	}
	signs := make(chan sign, 64)
	o.signs, o.pending, o.steps = signs, nil, nil
	go func() {
		defer close(signs)
		for dec := json.NewDecoder(out); ; {
			var s sign
			if dec.Decode(&s) != nil {
				return
			}
			signs <- s
		}
	}()
	if o.after > 0 && points {
		process := o.process.Process
		time.AfterFunc(o.after, func() { _ = process.Kill() }) // it may have ended
	}
	return nil
}

// stop ends the process in order.
func (o *outside) stop() error {
	err := o.in.Close()
	for s := range o.signs {
		o.see(s)
	}
	return errors.Join(err, o.process.Wait())
}

// kill is a power cut: the lines fall.
func (o *outside) kill() error {
	_ = o.process.Process.Kill()
	return o.gone()
}

// gone is after the process.
func (o *outside) gone() error {
	for range o.signs {
	}
	err := o.process.Wait()
	_ = o.in.Close() // Wait may have done so
	o.open = [2]bool{}
	if status, ok := o.process.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		return fmt.Errorf("the process ended by itself: %w", err)
	}
	return errCut
}

func (o *outside) order(do order) error {
	if json.NewEncoder(o.in).Encode(do) != nil {
		return o.gone()
	}
	return nil
}

func side(exit bool) int {
	if exit {
		return 1
	}
	return 0
}

func (o *outside) see(s sign) {
	if s.What == "relay" {
		o.open[side(s.Exit)] = s.On
	}
}

// expect waits for a sign of a lane, and gives leave at the points on the way.
func (o *outside) expect(exit bool, what ...string) (sign, error) {
	wanted := func(s sign) bool { return s.Exit == exit && slices.Contains(what, s.What) }
	if i := slices.IndexFunc(o.pending, wanted); i >= 0 {
		s := o.pending[i]
		o.pending = slices.Delete(o.pending, i, i+1)
		return s, nil
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case s, more := <-o.signs:
			switch o.see(s); {
			case !more:
				return s, o.gone()
			case s.What == "point":
				if err := o.point(s); err != nil {
					return s, err
				}
			case wanted(s):
				return s, nil
			case s.What != "relay":
				o.pending = append(o.pending, s)
			}
		case <-timeout.C:
			return sign{}, fmt.Errorf("%w: waiting for %s", errMute, strings.Join(what, ", "))
		}
	}
}

func (o *outside) point(s sign) error {
	name := s.Point
	if s.Exit {
		name += ", exit"
	}
	o.steps = append(o.steps, name)
	if len(o.steps) == o.cutAt && o.lag == 0 {
		return o.kill()
	}
	if err := o.order(order{Do: "go", N: s.N}); err != nil {
		return err
	}
	if len(o.steps) == o.cutAt {
		time.Sleep(o.lag)
		return o.kill()
	}
	return nil
}

// tap presents the card, and takes it away when the lane has answered.
func (o *outside) tap(exit bool) (sign, error) {
	if err := o.order(order{Exit: exit, Do: "tap", Card: o.card}); err != nil {
		return sign{}, err
	}
	d, err := o.decision(exit)
	if err == nil {
		err = o.order(order{Exit: exit, Do: "remove"})
	}
	return d, err
}

// decision is that of a tap, with the gate open when it says so.
func (o *outside) decision(exit bool) (sign, error) {
	d, err := o.expect(exit, "decision")
	if err == nil && d.Verdict == terminal.Admit && !d.Settled {
		_, err = o.expect(exit, "waits")
	}
	return d, err
}

// press is what staff answers, once asked.
func (o *outside) press(yes bool) (sign, error) {
	if err := o.order(order{Do: "press", On: yes}); err != nil {
		return sign{}, err
	}
	return o.decision(false)
}

func (o *outside) override(people int) error {
	if err := o.order(order{Do: "override", N: uint32(people)}); err != nil {
		return err
	}
	_, err := o.decision(false)
	return err
}

// walk is one after the other through an open gate.
func (o *outside) walk(exit bool, people int) error {
	for range people {
		if !o.open[side(exit)] {
			return errors.New("the gate is shut in front of somebody who was let in")
		}
		if exit {
			o.inside--
		} else {
			o.inside++
		}
		if err := o.sense(exit, terminal.SensedPassage); err != nil {
			return err
		}
		if _, err := o.expect(exit, "waits"); err != nil {
			return err
		}
	}
	return nil
}

func (o *outside) sense(exit bool, what terminal.Sensed) error {
	return o.order(order{Exit: exit, Do: "sense", N: uint32(what)})
}

// settled waits until the lane is done with those who were let in.
func (o *outside) settled(exit bool) error {
	for {
		if d, err := o.expect(exit, "decision"); err != nil || d.Settled {
			if err == nil && o.open[side(exit)] {
				err = errors.New("the relay is not at rest behind them")
			}
			return err
		}
	}
}

// burn is the fire alarm, or its end.
func (o *outside) burn(on bool) error {
	o.alarm = on
	what := terminal.SensedAllClear
	if on {
		what = terminal.SensedAlarm
	}
	return o.sense(false, what)
}

// giveUp is when the rest does not come: the time to pass is over, and the grace
// for whoever is on the way.
func (o *outside) giveUp(exit bool) error {
	err := o.order(order{Exit: exit, Do: "over"})
	if err == nil {
		err = o.closing(exit)
	}
	return err
}

// closing ends the grace of a gate that shuts.
func (o *outside) closing(exit bool) error {
	if _, err := o.expect(exit, "waits"); err != nil {
		return err
	}
	if err := o.order(order{Exit: exit, Do: "over"}); err != nil {
		return err
	}
	return o.settled(exit)
}
