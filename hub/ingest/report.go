package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// A Minute is how many people passed a gate in one step of time.
type Minute struct {
	Gate    string
	Start   time.Time
	Entered uint64 // people
	Left    uint64 // people
	InDoubt uint64 // people of whom nobody can tell, or not yet
}

// Entries counts the people who passed the gates of a scope from since until before
// until, in steps of time from since on; steps in which nobody passed are left out.
// They are ordered by time and gate.
func (s *Store) Entries(ctx context.Context, scope string, since, until time.Time, step time.Duration) (all []Minute, err error) {
	width := step.Milliseconds()
	if width <= 0 {
		return nil, fmt.Errorf("counting entries: steps of %v, want at least 1ms", step)
	}
	rows, err := s.query(ctx, `SELECT (at - ?2) / ?4, gate,
			CAST(sum(CASE WHEN way = 0 AND state = 2 THEN people ELSE 0 END) AS BIGINT),
			CAST(sum(CASE WHEN way = 1 AND state = 2 THEN people ELSE 0 END) AS BIGINT),
			CAST(sum(CASE WHEN state = 2 THEN 0 ELSE people END) AS BIGINT)
		FROM passages WHERE scope = ?1 AND at >= ?2 AND at < ?3 AND state <> 3 GROUP BY 1, 2 ORDER BY 1, 2`,
		scope, since.UnixMilli(), until.UnixMilli(), width)
	err = each(rows, err, func() error {
		var m Minute
		var n int64
		if err := rows.Scan(&n, &m.Gate, &m.Entered, &m.Left, &m.InDoubt); err != nil {
			return err
		}
		m.Start = time.UnixMilli(since.UnixMilli() + n*width).UTC()
		all = append(all, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting entries: %w", err)
	}
	return all, nil
}

// A Terminal is what the hub knows of one from what it sent.
type Terminal struct {
	Name    string
	Contact time.Time     // when it was last heard
	Offset  time.Duration // how far its clock was ahead of the hub's then; negative is behind
	Agent   string        // version of its program, "" when no batch came

	Events  uint64    // that are held, of all its journals
	Refused uint64    // of them, those that cannot be read
	Missing uint64    // that it had deleted before they were sent
	Clone   time.Time // when one of its journals first was another than is held; zero: never

	HealthAt time.Time // when the last heartbeat came; zero: none did
	Health   Health
}

// Terminals are those of a scope from which something came, ascending by name.
func (s *Store) Terminals(ctx context.Context, scope string) (all []Terminal, err error) {
	rows, err := s.query(ctx, `SELECT h.terminal, h.at, h.offset_ms, h.agent, h.health_at, h.health,
			(SELECT count(*) FROM events e JOIN journals j ON j.id = e.journal WHERE j.scope = h.scope AND j.terminal = h.terminal),
			(SELECT count(*) FROM refused r JOIN journals j ON j.id = r.journal WHERE j.scope = h.scope AND j.terminal = h.terminal),
			(SELECT CAST(coalesce(sum(g.last - g.first + 1), 0) AS BIGINT) FROM gaps g JOIN journals j ON j.id = g.journal WHERE j.scope = h.scope AND j.terminal = h.terminal),
			(SELECT coalesce(min(j.clone_at), 0) FROM journals j WHERE j.scope = h.scope AND j.terminal = h.terminal AND j.clone_at > 0)
		FROM heard h WHERE h.scope = ?1 ORDER BY h.terminal`, scope)
	err = each(rows, err, func() error {
		var t Terminal
		var at, offset, healthAt, clone int64
		var health []byte
		if err := rows.Scan(&t.Name, &at, &offset, &t.Agent, &healthAt, &health, &t.Events, &t.Refused, &t.Missing, &clone); err != nil {
			return err
		}
		t.Contact, t.Offset, t.HealthAt, t.Clone = fromMillis(at), time.Duration(offset)*time.Millisecond, fromMillis(healthAt), fromMillis(clone)
		if t.HealthAt.IsZero() {
			all = append(all, t)
			return nil
		}
		var err error
		if t.Health, err = parseHealth(health); err == nil {
			all = append(all, t)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading terminals: %w", err)
	}
	return all, nil
}

// A Refused is an event for people to look at.
type Refused struct {
	Terminal    string
	Incarnation upload.Incarnation
	Seq         uint64
	Hash        upload.Hash
	Received    time.Time
	Why         string
	Bytes       []byte // nil where they stayed at the terminal
}

// WhyClone is why an event is listed that was kept beside another one of its number.
const WhyClone = "another event of this number is held: the terminal was copied, or restored from a copy"

// Refused lists the events of a scope that cannot be read, and those of clones, by
// terminal and number.
func (s *Store) Refused(ctx context.Context, scope string) (all []Refused, err error) {
	rows, err := s.query(ctx, `SELECT j.terminal, j.incarnation, e.seq, e.hash, e.received, r.why, e.bytes
			FROM refused r JOIN journals j ON j.id = r.journal JOIN events e ON e.journal = r.journal AND e.seq = r.seq WHERE j.scope = ?1
		UNION ALL SELECT j.terminal, j.incarnation, f.seq, f.hash, f.received, ?2, f.bytes
			FROM forks f JOIN journals j ON j.id = f.journal WHERE j.scope = ?1
		ORDER BY 1, 2, 3, 4`, scope, WhyClone)
	err = each(rows, err, func() error {
		var r Refused
		var id, hash []byte
		var seq, received int64
		if err := rows.Scan(&r.Terminal, &id, &seq, &hash, &received, &r.Why, &r.Bytes); err != nil {
			return err
		}
		copy(r.Incarnation[:], id)
		copy(r.Hash[:], hash)
		r.Seq, r.Received = uint64(seq), fromMillis(received)
		all = append(all, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading refused events: %w", err)
	}
	return all, nil
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
