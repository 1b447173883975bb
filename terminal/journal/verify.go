package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// A Report is what Verify found.
type Report struct {
	Incarnation [16]byte  // random name of this journal
	Events      uint64    // number of the last event that the chain holds
	Head        Hash      // its hash
	Latest      time.Time // greatest instant, zero when there is no event
	Open        uint64    // passages that are neither committed nor annulled

	Pruned   uint64    // events that retention deleted, the first ones
	PrunedAt time.Time // when it did so last

	Checkpoints uint64 // signed heads in the chain, all checked
	Signed      uint64 // the last event that one of them vouches for
}

// Verify checks every event against the chain, and the index against the
// events. The error is a ChainError for the first event that does not fit;
// the report then covers the events before it.
//
// A journal that lost its tail, and was made to look whole by somebody who can
// write it, verifies: a checkpoint that was kept elsewhere shows it, see
// VerifyCheckpoint.
func (r *Reader) Verify(ctx context.Context) (Report, error) { return r.verify(ctx, nil) }

// VerifySigned is Verify, and also checks every checkpoint in the chain: that
// one of the keys signed it, and that it is of this journal at its place.
func (r *Reader) VerifySigned(ctx context.Context, keys sign1.Keys) (Report, error) {
	return r.verify(ctx, &keys)
}

func (r *Reader) verify(ctx context.Context, keys *sign1.Keys) (report Report, err error) {
	defer func() {
		if err != nil {
			err = fail(r.path, "verifying", err)
		}
	}()
	tx, err := r.db.BeginTx(ctx, nil) // one snapshot, however long it takes
	if err != nil {
		return report, err
	}
	defer tx.Rollback() // it only read
	if report.Incarnation, err = incarnationOf(ctx, tx); err != nil {
		return report, err
	}
	b, err := baseOf(ctx, tx)
	if err != nil {
		return report, err
	}
	report.Events, report.Head, report.Pruned = b.seq, b.hash, b.seq

	// The index is made again, in a table of this transaction alone, and compared.
	if _, err := tx.ExecContext(ctx, `CREATE TEMP TABLE again (`+passageColumns+`)`); err != nil {
		return report, err
	}
	s, err := refold(ctx, tx, "temp.again", func(l link) error {
		if l.event.Seq == b.event {
			report.PrunedAt = l.event.At.Time
		}
		if l.event.Kind != KindCheckpoint || keys == nil {
			return nil
		}
		c, err := parseCheckpoint(*keys, l.event.Checkpoint)
		if err == nil {
			err = c.inside(ctx, tx, report.Incarnation, b, l.event)
		}
		if err != nil {
			return fmt.Errorf("event %d: %w", l.event.Seq, err)
		}
		report.Checkpoints, report.Signed = report.Checkpoints+1, max(report.Signed, c.Seq)
		return nil
	})
	if s.seq > 0 {
		report.Events, report.Head = s.seq, s.hash
	}
	if s.latest > 0 {
		report.Latest = time.UnixMilli(s.latest).UTC()
	}
	if err != nil {
		return report, err
	}
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM temp.again WHERE state IN (1, 4)`).Scan(&report.Open); err != nil {
		return report, err
	}
	return report, r.compare(ctx, tx, s)
}

// compare checks the index against the one that was made again. Version 1 had
// another one.
func (r *Reader) compare(ctx context.Context, q querier, want state) error {
	got, err := loadState(ctx, q)
	if err != nil {
		return err
	}
	if got.seq > want.seq {
		return &ChainError{want.seq + 1, fmt.Sprintf("it is missing; there were %d events", got.seq)}
	}
	if r.version < schemaVersion {
		return nil
	}
	var differs int64
	err = q.QueryRowContext(ctx, `SELECT coalesce(min(seq), 0) FROM (
		SELECT seq FROM temp.again a WHERE NOT EXISTS (SELECT 1 FROM passages p WHERE p.seq = a.seq
			AND (p.entitlement, p.zone, p.direction, p.at, p.until, p.state, p.people, p.reentry, p.passed, p.last)
			 IS (a.entitlement, a.zone, a.direction, a.at, a.until, a.state, a.people, a.reentry, a.passed, a.last))
		UNION ALL
		SELECT seq FROM passages WHERE seq NOT IN (SELECT seq FROM temp.again))`).Scan(&differs)
	if err != nil {
		return err
	}
	const remedy = "opening the journal for writing makes it again"
	if differs > 0 {
		return fmt.Errorf("%w: the index does not fit event %d; %s", ErrCorrupt, differs, remedy)
	}
	if ok, err := sumsAgree(ctx, q, 0); err != nil {
		return err
	} else if !ok || got != want {
		return fmt.Errorf("%w: the index does not fit the events; %s", ErrCorrupt, remedy)
	}
	return nil
}
