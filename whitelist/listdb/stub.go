package listdb

// NOT COMMITTED: stands in until the real one comes.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

func (s *Store) Examine(ctx context.Context, head []byte, at time.Time) (h whitelist.Head, from uint64, same bool, err error) {
	defer func() {
		if isRefusal(err) {
			err = &whitelist.RefusedError{Err: err}
		}
	}()
	h, err = whitelist.ReadHead(head, s.cfg.Trust)
	if err != nil {
		return
	}
	if err = s.cfg.accepts(h.Manifest); err != nil {
		return
	}
	if err = h.Valid(at); err != nil {
		return
	}
	if at.Unix() > h.Manifest.NotAfter.Unix() {
		return h, 0, false, ErrExpired
	}
	next := floorOf(h.Manifest, h.Payload())
	same, err = s.admit(ctx, next)
	if err != nil {
		return
	}
	if v, err := s.Current(); err == nil {
		if m := v.Manifest(); m.Published() && m.Epoch == h.Manifest.Epoch {
			from = m.Set.Seq
		}
		v.Release()
	}
	return
}

func (s *Store) Rows(ctx context.Context) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		v, err := s.Current()
		if err != nil {
			yield(whitelist.SealedRow{}, err)
			return
		}
		defer v.Release()
		rows, err := v.(*view).snap.db.Query("SELECT card_id, sealed FROM row ORDER BY card_id")
		if err != nil {
			yield(whitelist.SealedRow{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var id, b []byte
			rows.Scan(&id, &b)
			if !yield(whitelist.SealedRow{ID: cardid.CardID(id), Sealed: b}, nil) {
				return
			}
		}
	}
}

func (s *Store) Apply(ctx context.Context, head []byte, at time.Time, files whitelist.Files, progress func(uint64)) (m whitelist.Manifest, err error) {
	h, err := whitelist.ReadHead(head, s.cfg.Trust)
	if err != nil {
		return m, err
	}
	m = h.Manifest
	rows := map[cardid.CardID][]byte{}
	from := m.Snapshot.Seq
	if files.Snapshot != nil {
		r := m.Snapshot.Reader(files.Snapshot)
		for {
			row, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return m, &whitelist.RefusedError{Err: err}
			}
			rows[row.ID] = bytes.Clone(row.Sealed)
		}
	} else {
		v, err := s.Current()
		if err != nil {
			return m, err
		}
		from = v.Manifest().Set.Seq
		v.Release()
		for row := range s.Rows(ctx) {
			rows[row.ID] = bytes.Clone(row.Sealed)
		}
	}
	path, _ := m.Path(from)
	for i, d := range path {
		r := d.Reader(files.Deltas[i])
		for {
			row, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return m, &whitelist.RefusedError{Err: err}
			}
			if rows[row.ID] = bytes.Clone(row.Sealed); len(row.Sealed) == 0 {
				delete(rows, row.ID)
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(rows), func(a, b cardid.CardID) int { return bytes.Compare(a[:], b[:]) })
	b := bytes.Clone(head)
	for _, id := range ids {
		b = whitelist.AppendRow(b, whitelist.SealedRow{ID: id, Sealed: rows[id]})
	}
	m, err = s.Import(ctx, bytes.NewReader(b), at, progress)
	if errors.Is(err, whitelist.ErrTampered) || errors.Is(err, whitelist.ErrTruncated) || errors.Is(err, whitelist.ErrTrailing) {
		err = &whitelist.RefusedError{Err: whitelist.ErrSet}
	}
	return m, err
}

func (s *Store) Merge(ctx context.Context, force bool) (bool, error) { return false, nil }
