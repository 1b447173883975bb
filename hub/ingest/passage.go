package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// States of a passage, as in docs/journal.md.
//
//	reserved ──commit──▶ committed ──annul, by staff─▶ annulled
//	    ├──────annul───▶ annulled
//	    └──────doubt───▶ doubtful ───commit, annul───▶ either
const (
	reserved  = 1
	committed = 2
	annulled  = 3
	doubtful  = 4
)

// Ways of a passage.
const (
	entry = 0
	exit  = 1
)

// A passage is what the events of one reservation come to.
type passage struct {
	entitlement, gate, zone string

	way, at, state          int64
	people, reentry, passed uint32
}

// A folding turns events of one journal, in sequence, into passages.
type folding struct {
	*tx
	journal int64
	scope   string
	changed map[uint64]*passage
}

// read folds an event. why says what about it could not be read, "" for nothing.
func (f *folding) read(ctx context.Context, l link) (why string, err error) {
	if l.bytes == nil {
		return "too long: its bytes stayed at the terminal", nil
	}
	e, err := readEvent(l.seq, l.bytes)
	if err != nil {
		return err.Error(), nil
	}
	switch e.Kind {
	case "reserve":
		p := &passage{entitlement: e.Entitlement, gate: e.Gate, zone: e.Zone, at: e.at, state: reserved, people: max(1, e.People)}
		p.reentry = min(e.Reentry, p.people)
		if e.Direction == "exit" {
			p.way = exit
		}
		f.changed[l.seq] = p
		return "", nil
	case "passed", "commit", "annul", "doubt":
	default:
		return "", nil
	}
	p, err := f.passage(ctx, e.Reservation)
	if err != nil {
		return "", err
	}
	if p == nil {
		return fmt.Sprintf("event %d, which it is about, is not here", e.Reservation), nil
	}
	switch e.Kind {
	case "passed":
		p.passed = e.People
	case "commit":
		if e.People > 0 {
			p.people = e.People
		}
		p.state, p.reentry, p.passed = committed, min(p.reentry, p.people), p.people
	case "annul":
		p.state = annulled
	case "doubt":
		p.state = doubtful
	}
	return "", nil
}

// passage is that of a reservation, nil when there is none.
func (f *folding) passage(ctx context.Context, seq uint64) (*passage, error) {
	if p, ok := f.changed[seq]; ok {
		return p, nil
	}
	p := new(passage)
	err := f.queryRow(ctx, `SELECT entitlement, gate, zone, way, at, state, people, reentry, passed FROM passages WHERE journal = ?1 AND seq = ?2`, f.journal, int64(seq)).
		Scan(&p.entitlement, &p.gate, &p.zone, &p.way, &p.at, &p.state, &p.people, &p.reentry, &p.passed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f.changed[seq] = p
	return p, nil
}

// store writes what changed.
func (f *folding) store(ctx context.Context) error {
	var args []any
	for seq, p := range f.changed {
		args = append(args, f.journal, int64(seq), f.scope, p.entitlement, p.gate, p.zone, p.way, p.at, p.state, int64(p.people), int64(p.reentry), int64(p.passed))
	}
	err := f.insert(ctx, `INSERT INTO passages VALUES `, 12, ` ON CONFLICT (journal, seq) DO UPDATE SET
		state = excluded.state, people = excluded.people, reentry = excluded.reentry, passed = excluded.passed`, args)
	if err != nil {
		return fmt.Errorf("keeping passages: %w", err)
	}
	return nil
}
