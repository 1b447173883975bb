package main

import (
	"bytes"
	"io"
	"iter"

	"github.com/gate-agent/gate-agent/whitelist"
)

// none reports whether no row is another.
func (r rowsDiff) none() bool {
	return r.Added == 0 && r.Gone == 0 && r.Changed != nil && *r.Changed == 0
}

// rowsOf yields what a reader's Next returns before io.EOF.
func rowsOf(next func() (whitelist.SealedRow, error)) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		for {
			row, err := next()
			if err == io.EOF || !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// countRows compares two sequences of rows, both ascending by CardID.
func countRows(before, after iter.Seq2[whitelist.SealedRow, error]) (rowsDiff, error) {
	var changed uint64
	d := rowsDiff{Changed: &changed}
	next, stop := iter.Pull2(before)
	defer stop()
	old, err, more := next()
	for row, rowErr := range after {
		if rowErr != nil {
			return d, rowErr
		}
		for more && err == nil && bytes.Compare(old.ID[:], row.ID[:]) < 0 {
			d.Gone++
			old, err, more = next()
		}
		switch {
		case err != nil:
			return d, err
		case !more || old.ID != row.ID:
			d.Added++
			continue
		case !bytes.Equal(old.Sealed, row.Sealed):
			changed++
		}
		old, err, more = next()
	}
	for ; more && err == nil; old, err, more = next() {
		d.Gone++
	}
	return d, err
}
