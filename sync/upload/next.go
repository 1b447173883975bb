package upload

import (
	"context"
	"fmt"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// batch is what is sent next: events behind what the hub holds, or a question from
// the journal's end.
func (u *Uploader) batch(ctx context.Context, v view) (*Batch, error) {
	b := &Batch{
		Scope: u.cfg.Scope, Terminal: u.cfg.Terminal, Incarnation: v.id, Agent: u.cfg.Agent, Sent: u.cfg.Now(),
		Last: v.last, Pruned: v.pruned, First: max(v.held.Through, v.pruned) + 1,
	}
	if v.ask {
		b.First = v.last + 1
	}
	var err error
	if b.Prev, err = u.cfg.Journal.HashAt(ctx, b.First-1); err != nil || v.ask {
		return b, err
	}
	events, err := u.cfg.Journal.Bytes(ctx, b.First-1, MaxEvents)
	if err != nil {
		return nil, err
	}
	// Taps go on meanwhile: those behind last go with the next batch.
	events = events[:min(uint64(len(events)), v.last-b.First+1)]
	head, size := b.Prev, 0
	for i, e := range events {
		if len(e) > MaxEvent {
			if i == 0 {
				head = NextHash(head, e)
				b.Omitted = &head
			}
			break
		}
		if size += len(e) + 1; size > room {
			break
		}
		b.Events, head = append(b.Events, e), NextHash(head, e)
	}
	// What does not give its own hashes is not sent: the hub would hold another
	// journal than people find here.
	sent := uint64(len(b.Events))
	if b.Omitted != nil {
		sent = 1
	}
	through := b.First - 1 + sent
	switch hash, err := u.cfg.Journal.HashAt(ctx, through); {
	case err != nil:
		return nil, err
	case hash != head:
		return nil, fmt.Errorf("%w between events %d and %d", ErrBroken, b.First, through)
	}
	return b, nil
}

// readAck reads what keepAck kept, and verifies it again.
func readAck(keys sign1.Keys, file string) (Ack, error) {
	message, err := smallfile.Read(file, maxReply, 0)
	if err != nil {
		return Ack{}, err
	}
	return VerifyAck(keys, message)
}

// keepAck has an acknowledgement outlast a power cut before anything is deleted
// because of it.
func keepAck(file string, message []byte) error { return wholefile.Replace(file, message) }
