package journal

import "context"

// CheckTail checks the chain over the last 256 events, as opening for writing does,
// and returns the number of the last one, 0 when there is none. It takes no longer
// for a longer journal; Verify checks all of it.
func (r *Reader) CheckTail(ctx context.Context) (last uint64, err error) {
	if last, err = r.checkTail(ctx); err != nil {
		err = fail(r.path, "checking the newest events", err)
	}
	return last, err
}

func (r *Reader) checkTail(ctx context.Context) (last uint64, err error) {
	tx, err := r.db.BeginTx(ctx, nil) // one snapshot
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // it only read
	s, err := loadState(ctx, tx)
	if err != nil {
		return 0, err
	}
	if err := checkTail(ctx, tx, s.seq); err != nil {
		return s.seq, err
	}
	if hash, err := hashOf(ctx, tx, s.seq); err != nil || hash != s.hash {
		return s.seq, &ChainError{s.seq, "it is not the one that the index ends with"}
	}
	return s.seq, nil
}
