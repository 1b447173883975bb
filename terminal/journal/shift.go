package journal

import (
	"context"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// KindShift says that somebody of the staff began or ended a shift.
const KindShift Kind = "shift"

// Shift writes that somebody's shift begins or ends.
func (j *Journal) Shift(ctx context.Context, at time.Time, by terminal.Staff, begins bool) error {
	e := &Event{Kind: KindShift, At: instant(at), State: terminal.Ends, Staff: by.Name, Role: by.Role}
	if begins {
		e.State = terminal.Begins
	}
	return j.append(ctx, "recording a shift", e, nil)
}

// Recall reads what a decision needs to know, of one moment: what is known of
// each of these entitlements, and the greatest instant of any event.
func (r *Reader) Recall(ctx context.Context, entitlements ...string) (histories []terminal.History, latest time.Time, err error) {
	if histories, latest, err = r.recall(ctx, entitlements); err != nil {
		err = fail(r.path, "reading histories", err)
	}
	return histories, latest, err
}

func (r *Reader) recall(ctx context.Context, entitlements []string) (histories []terminal.History, latest time.Time, err error) {
	tx, err := r.db.BeginTx(ctx, nil) // one snapshot
	if err != nil {
		return nil, latest, err
	}
	defer tx.Rollback() // it only read
	for _, e := range entitlements {
		h, err := history(ctx, tx, e)
		if err != nil {
			return nil, latest, err
		}
		histories = append(histories, h)
	}
	s, err := loadState(ctx, tx)
	if err == nil && s.latest > 0 {
		latest = time.UnixMilli(s.latest).UTC()
	}
	return histories, latest, err
}

// Unsettled counts the reservations that are open, and those that are in doubt.
// An index has them, however long the journal is.
func (r *Reader) Unsettled(ctx context.Context) (open, inDoubt uint64, err error) {
	err = r.db.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 4)
		FROM passages WHERE state IN (1, 4)`).Scan(&open, &inDoubt)
	if err != nil {
		return 0, 0, fail(r.path, "counting open entries", err)
	}
	return open, inDoubt, nil
}
