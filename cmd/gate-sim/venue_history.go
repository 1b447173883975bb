package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/gate-agent/gate-agent/terminal"
)

// A ticket that gates claim is a register: it can be taken once, and is free again
// when those who took it did not come in. What gates saw of it while they worked
// must be possible in some order of the operations, each between its call and its
// return (linearizability, Herlihy and Wing 1990).

// An operation on a ticket.
type operation struct {
	ticket int
	kind   opKind
	id     string // of the claim
	call   int64  // nanoseconds since the venue opened
	ret    int64  // math.MaxInt64: nobody knows
}

type opKind uint8

const (
	opTook       opKind = iota // a claim that was written
	opTaken                    // a claim that was refused: it had been taken before
	opUnanswered               // a claim that may have been written
	opLate                     // somebody came in while no one could be asked: it is taken, whoever has it
	opFree                     // a claim was given back
)

// A holding is the state of a ticket.
type holding struct {
	by   uint64 // a bit for each claim that has it
	ever bool
}

// A step is an operation as the model takes it.
type step struct {
	kind opKind
	bit  uint64
}

// next are the states that an operation can lead to; none, when it is impossible.
func (s holding) next(op step) []any {
	taken := holding{s.by | op.bit, true}
	switch {
	case op.kind == opTook && s.by == 0, op.kind == opLate:
		return []any{taken}
	case op.kind == opTaken && s.ever:
		return []any{s}
	case op.kind == opUnanswered && s.by == 0:
		return []any{s, taken}
	case op.kind == opUnanswered:
		return []any{s}
	case op.kind == opFree && s.by&op.bit != 0:
		return []any{holding{s.by &^ op.bit, s.ever}}
	}
	return nil
}

// register is the model of one ticket.
func register() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{holding{}} },
		Step: func(state, input, _ any) []any { return state.(holding).next(input.(step)) },
	}
	return m.ToModel()
}

// checkTime bounds the search for an order, for each ticket.
const checkTime = 20 * time.Second

// impossible returns the tickets whose operations no order explains.
func impossible(history []operation) (tickets []int) {
	of := map[int][]operation{}
	for _, op := range history {
		of[op.ticket] = append(of[op.ticket], op)
	}
	for ticket, ops := range of {
		if !explained(ops) {
			tickets = append(tickets, ticket)
		}
	}
	slices.Sort(tickets)
	return tickets
}

func explained(ops []operation) bool {
	bits := map[string]uint64{}
	var all []porcupine.Operation
	for i, op := range ops {
		if _, known := bits[op.id]; !known {
			bits[op.id] = 1 << len(bits)
		}
		if len(bits) > 64 {
			return false // no ticket is tried so often
		}
		all = append(all, porcupine.Operation{ClientId: i, Input: step{op.kind, bits[op.id]}, Call: op.call, Return: op.ret})
	}
	return porcupine.CheckOperationsTimeout(register(), all, checkTime) == porcupine.Ok
}

// A recorder is the claims of a gate, with what it asked and was told.
type recorder struct {
	terminal.Claims
	now    func() int64
	ticket func(entitlement string) int

	mu  sync.Mutex
	ops []operation
}

// Claim implements terminal.Claims.
func (r *recorder) Claim(ctx context.Context, d terminal.Decision, next uint64) error {
	op := operation{ticket: r.ticket(d.Entitlement), id: d.ClaimID, call: r.now()}
	err := r.Claims.Claim(ctx, d, next)
	op.ret = r.now()
	switch {
	case err == nil:
	case errors.Is(err, terminal.ErrUsesChanged):
		op.kind = opTaken
	default:
		op.kind, op.ret = opUnanswered, math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	return err
}

// history is everything that happened to tickets: what gates claimed, who came in
// while a gate was apart, and what was given back. It may be called when everything
// is told.
func (v *venueRun) history() (all []operation) {
	began := map[string]int64{} // of a claim's tap
	for _, g := range v.gates {
		all = append(all, g.claims.ops...)
	}
	for _, op := range all {
		if at, known := began[op.id]; !known || op.call < at {
			began[op.id] = op.call
		}
	}
	for _, t := range v.tickets {
		for _, a := range t.admissions {
			if at, known := began[a.claim]; !known || a.call < at {
				began[a.claim] = a.call
			}
			if a.confirmed {
				continue
			}
			written, known := v.hub.log.entered[a.claim]
			if !known {
				v.disagree("%s: %s let somebody in while it was apart, and the log never heard of it", t.name, a.gate.name)
				continue
			}
			all = append(all, operation{t.number, opLate, a.claim, a.call, written})
		}
	}
	for id, free := range v.hub.log.freed {
		at, known := began[id]
		if !known {
			v.disagree("%s: the log gives back a claim that nobody made", v.tickets[free.ticket].name)
			continue
		}
		all = append(all, operation{free.ticket, opFree, id, at, free.at})
	}
	for _, op := range all {
		if _, written := v.hub.log.entered[op.id]; op.kind == opTook && !written {
			v.disagree("%s: a claim was confirmed, and is not in the log", v.tickets[op.ticket].name)
		}
	}
	return all
}

func (v *venueRun) linearizable() bool {
	broken := impossible(v.history())
	for _, n := range broken {
		v.disagree("%s: no order explains what gates were told: %s", v.tickets[n].name, fmt.Sprint(v.tickets[n].admissions))
	}
	return len(broken) == 0
}
