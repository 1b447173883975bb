package journal

import (
	"context"
	"database/sql"
	"errors"

	"github.com/gate-agent/gate-agent/terminal"
)

// A Standing is what has come of a reservation by now.
type Standing struct {
	Settled bool   // no more people will pass; also by Doubt
	Doubt   bool   // nobody can tell how many have
	People  uint32 // who passed, 0 when it was annulled; while it is open or in doubt, who may have
}

// Standing is how a reservation stands. The error is ErrSettled when there is none of
// that number, or retention has deleted it.
func (r *Reader) Standing(ctx context.Context, of terminal.Reservation) (s Standing, err error) {
	if r.version < schemaVersion {
		return s, fail(r.path, "looking at a reservation", ErrOlder)
	}
	var state int64
	err = r.db.QueryRowContext(ctx, `SELECT state, people FROM passages WHERE seq = ?`, int64(of)).Scan(&state, &s.People)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrSettled
	}
	if err != nil {
		return Standing{}, fail(r.path, "looking at a reservation", err)
	}
	s.Settled, s.Doubt = state != reserved, state == doubtful
	if state == annulled {
		s.People = 0
	}
	return s, nil
}
