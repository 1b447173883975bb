package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
)

// A Hash is a link of the chain: it stands for its event and all before it.
type Hash = [sha256.Size]byte

// Labels keep these hashes apart from every other use of SHA-256.
const (
	startLabel   = "gate-agent journal start v1\x00"
	eventLabel   = "gate-agent journal event v1\x00"
	carriedLabel = "gate-agent journal carried v1\x00"
)

// firstHash is what the first event follows: SHA-256 of label ‖ incarnation.
// Events of one journal so never continue another one.
func firstHash(incarnation [16]byte) Hash {
	return sha256.Sum256(append([]byte(startLabel), incarnation[:]...))
}

// next is SHA-256 of label ‖ previous hash ‖ event bytes. All but the last
// part have a fixed length, so the parts cannot run into each other.
func next(prev Hash, event []byte) Hash {
	h := sha256.New()
	h.Write([]byte(eventLabel))
	h.Write(prev[:])
	h.Write(event)
	return Hash(h.Sum(nil))
}

// A base is where the chain begins: after event seq, which has that hash.
type base struct {
	seq   uint64 // 0: nothing was deleted
	hash  Hash
	event uint64 // the record of the deletion
}

// baseOf reads the base. That of a journal from which nothing was deleted, or
// of version 1, comes from the incarnation.
func baseOf(ctx context.Context, q querier) (b base, err error) {
	id, err := incarnationOf(ctx, q)
	if err != nil {
		return b, err
	}
	b.hash = firstHash(id)
	version, err := versionOf(ctx, q)
	if err != nil || version < 2 {
		return b, err
	}
	var seq, event int64
	var hash []byte
	if err := q.QueryRowContext(ctx, `SELECT seq, hash, event FROM base`).Scan(&seq, &hash, &event); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%w: it does not say where the chain begins", ErrCorrupt)
		}
		return b, err
	}
	if seq == 0 {
		return b, nil
	}
	if len(hash) != len(Hash{}) || seq < 0 || event <= seq {
		return b, fmt.Errorf("%w: its chain cannot begin after event %d", ErrCorrupt, seq)
	}
	return base{uint64(seq), Hash(hash), uint64(event)}, nil
}

// A link is an event with its hash.
type link struct {
	event Event
	hash  Hash
}

// errStop ends a walk.
var errStop = errors.New("far enough")

// walk checks the chain behind event after, which is the base or a later one,
// and shows every event to visit, until that returns an error. The first event
// that does not fit is a ChainError.
func walk(ctx context.Context, q querier, after uint64, visit func(link) error) (err error) {
	prev, err := hashOf(ctx, q, after)
	if err != nil {
		return err
	}
	rows, err := q.QueryContext(ctx, `SELECT seq, bytes, hash FROM events WHERE seq > ? ORDER BY seq`, int64(after))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for seq := after + 1; rows.Next(); seq++ {
		var (
			l           link
			stored      int64
			bytes, hash sql.RawBytes
		)
		if err := rows.Scan(&stored, &bytes, &hash); err != nil {
			return err
		}
		broken := func(format string, a ...any) error {
			return &ChainError{seq, fmt.Sprintf(format, a...)}
		}
		if uint64(stored) != seq {
			return broken("it is missing, the next one is %d", stored)
		}
		if prev = next(prev, bytes); string(hash) != string(prev[:]) {
			return broken("its hash does not follow from the event before it and its content")
		}
		if l.event, err = parseEvent(bytes); err != nil {
			return broken("%v", err)
		}
		if l.event.Seq != seq {
			return broken("its content says %d", l.event.Seq)
		}
		l.hash = prev
		if err := visit(l); err == errStop {
			return nil
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}

// hashOf reads the hash of an event that is not deleted, or of the base.
func hashOf(ctx context.Context, q querier, seq uint64) (Hash, error) {
	b, err := baseOf(ctx, q)
	if err != nil || seq == b.seq {
		return b.hash, err
	}
	var hash []byte
	if err := q.QueryRowContext(ctx, `SELECT hash FROM events WHERE seq = ?`, int64(seq)).Scan(&hash); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = &ChainError{seq, "it is missing"}
		}
		return Hash{}, err
	}
	if len(hash) != len(Hash{}) {
		return Hash{}, &ChainError{seq, "its hash is not one"}
	}
	return Hash(hash), nil
}
