package journal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// A Checkpoint is the head of a chain at an instant, as the terminal signed it.
// Kept elsewhere, it shows a journal that was cut or made anew.
type Checkpoint struct {
	Terminal    string // who keeps the journal
	Scope       string
	Incarnation [16]byte // of the journal
	Seq         uint64   // the last event, 0 when there was none
	Hash        Hash     // its hash
	At          time.Time
}

// wireCheckpoint is the payload of the message, in deterministic encoding.
type wireCheckpoint struct {
	Version     uint64 `cbor:"0,keyasint"`
	Terminal    string `cbor:"1,keyasint"`
	Scope       string `cbor:"2,keyasint"`
	Incarnation []byte `cbor:"3,keyasint"`
	Seq         uint64 `cbor:"4,keyasint"`
	Hash        []byte `cbor:"5,keyasint"`
	At          int64  `cbor:"6,keyasint"` // Unix milliseconds
}

const checkpointVersion = 1

var codec = strictcbor.New(strictcbor.Limits{Nested: 4, Array: 16, Map: 16})

// Checkpoint signs the head of the chain for a terminal and its scope, writes
// the message into the chain and returns it, to be kept elsewhere. Taps go on
// meanwhile, however slow the key is.
func (j *Journal) Checkpoint(ctx context.Context, at time.Time, signer crypto.Signer, name, scope string) ([]byte, error) {
	const doing = "signing a checkpoint"
	if name == "" || scope == "" {
		return nil, fail(j.path, doing, errors.New("terminal or scope has no name"))
	}
	id, err := incarnationOf(ctx, j.db)
	if err != nil {
		return nil, fail(j.path, doing, err)
	}
	s, err := loadState(ctx, j.db) // what can be read is durable
	if err != nil {
		return nil, fail(j.path, doing, err)
	}
	payload, err := codec.Marshal(wireCheckpoint{checkpointVersion, name, scope, id[:], s.seq, s.hash[:], at.UnixMilli()})
	if err != nil {
		return nil, fail(j.path, doing, err)
	}
	msg, err := sign1.Sign(rand.Reader, sign1.RoleCheckpoint, signer, payload)
	if err != nil {
		return nil, fail(j.path, doing, err)
	}
	e := &Event{Kind: KindCheckpoint, At: instant(at), Terminal: name, Scope: scope, Checkpoint: msg}
	if err := j.append(ctx, doing, e, nil); err != nil {
		return nil, err
	}
	return msg, nil
}

// AnyScope is the scope of a key whose checkpoints count in every scope: of a terminal
// that was moved from one to another, and keeps one journal.
const AnyScope = "*"

// parseCheckpoint reads a checkpoint that a key with role RoleCheckpoint, the
// scope, or AnyScope, and the terminal as its Signer has signed.
func parseCheckpoint(keys sign1.Keys, msg []byte) (Checkpoint, error) {
	payload, err := keys.Verify(sign1.RoleCheckpoint, msg)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	var w wireCheckpoint
	if err := codec.UnmarshalVersion(payload.Bytes(), &w, checkpointVersion); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	if again, err := codec.Marshal(w); err != nil || !bytes.Equal(again, payload.Bytes()) ||
		len(w.Incarnation) != 16 || len(w.Hash) != len(Hash{}) {
		return Checkpoint{}, errors.New("checkpoint: not in the one form")
	}
	if payload.Scope() != AnyScope && w.Scope != payload.Scope() || w.Terminal != payload.Signer() {
		return Checkpoint{}, fmt.Errorf("checkpoint: it names terminal %q of scope %q, its key is that of %q of %q",
			w.Terminal, w.Scope, payload.Signer(), payload.Scope())
	}
	return Checkpoint{w.Terminal, w.Scope, [16]byte(w.Incarnation), w.Seq, Hash(w.Hash), time.UnixMilli(w.At).UTC()}, nil
}

// inside checks a checkpoint that event e of the chain carries. The events up
// to e are checked already.
func (c Checkpoint) inside(ctx context.Context, q querier, id [16]byte, b base, e Event) error {
	if c.Incarnation != id {
		return ErrOtherJournal
	}
	if c.Seq >= e.Seq {
		return &ChainError{e.Seq, fmt.Sprintf("it carries a checkpoint of event %d", c.Seq)}
	}
	if c.Seq < b.seq {
		return nil // deleted: there is nothing to compare with
	}
	hash, err := hashOf(ctx, q, c.Seq)
	if err != nil {
		return err
	}
	return c.compare(hash)
}

func (c Checkpoint) compare(hash Hash) error {
	if c.Hash != hash {
		return &ChainError{c.Seq, fmt.Sprintf("it is not the one that terminal %s signed at %s", c.Terminal, c.At.Format(time.RFC3339))}
	}
	return nil
}

// VerifyCheckpoint checks that this journal goes on from a checkpoint that was
// kept elsewhere, and that its chain holds. The keys have the role
// RoleCheckpoint, a scope, and the terminal as their Signer.
//
// The error is a ChainError when the journal was cut before the checkpoint or
// made anew, ErrOtherJournal when it is another one, and ErrPruned when the event
// was deleted by retention, so that nothing can be said.
func (r *Reader) VerifyCheckpoint(ctx context.Context, keys sign1.Keys, msg []byte) (Checkpoint, error) {
	c, err := parseCheckpoint(keys, msg)
	if err == nil {
		err = r.goesOn(ctx, c)
	}
	if err != nil {
		return c, fail(r.path, "comparing with a checkpoint", err)
	}
	return c, nil
}

func (r *Reader) goesOn(ctx context.Context, c Checkpoint) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // it only read
	id, err := incarnationOf(ctx, tx)
	if err != nil {
		return err
	}
	b, err := baseOf(ctx, tx)
	if err != nil {
		return err
	}
	if c.Incarnation != id {
		return fmt.Errorf("%w: that one's incarnation is %x, this one's is %x", ErrOtherJournal, c.Incarnation, id)
	}
	head, hash := b.seq, b.hash
	err = walk(ctx, tx, b.seq, func(l link) error {
		if head = l.event.Seq; head <= c.Seq {
			hash = l.hash
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case b.seq > 0 && c.Seq < b.seq:
		if err := b.check(ctx, tx); err != nil {
			return err
		}
		return fmt.Errorf("event %d: %w, as event %d records", c.Seq, ErrPruned, b.event)
	case head < c.Seq:
		return &ChainError{head + 1, fmt.Sprintf("it is missing; there were %d events when terminal %s signed at %s",
			c.Seq, c.Terminal, c.At.Format(time.RFC3339))}
	}
	return c.compare(hash)
}
