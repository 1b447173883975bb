package ingest

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/sync/upload"
)

// A Handler answers batches.
type Handler struct {
	Store  *Store
	Signer crypto.Signer    // key for sign1.RoleAck; may be called by several goroutines
	Now    func() time.Time // nil is time.Now

	// Refused is told of every batch that is not acknowledged, and why; it may be
	// nil. The error is not for the terminal: it may name what the hub runs on.
	Refused func(scope, terminal string, r *upload.Refusal, err error)
}

// Handle keeps a batch of a terminal and returns the signed acknowledgement of what
// is held of its journal, or a refusal. scope and terminal are those that the
// connection was authenticated for. It may be called by many goroutines at once:
// batches that come together are made durable together.
func (h *Handler) Handle(ctx context.Context, scope, terminal string, data []byte) []byte {
	message, refusal, err := h.handle(ctx, scope, terminal, data)
	if refusal == nil {
		return message
	}
	if h.Refused != nil {
		h.Refused(scope, terminal, refusal, err)
	}
	return refusal.Encode()
}

func (h *Handler) handle(ctx context.Context, scope, terminal string, data []byte) ([]byte, *upload.Refusal, error) {
	at := time.Now()
	if h.Now != nil {
		at = h.Now()
	}
	b, err := upload.ParseBatch(data)
	switch {
	case errors.Is(err, upload.ErrTooLarge):
		return nil, upload.Refuse(upload.TooLarge, err.Error()), err
	case errors.Is(err, upload.ErrVersion):
		return nil, upload.Refuse(upload.Unknown, err.Error()), err
	case err != nil:
		return nil, upload.Refuse(upload.Malformed, err.Error()), err
	case b.Scope != scope || b.Terminal != terminal:
		err := fmt.Errorf("the batch is of terminal %q in scope %q, and was sent by %q in %q", b.Terminal, b.Scope, terminal, scope)
		return nil, upload.Refuse(upload.Foreign, "the batch is not of the terminal and scope that sent it"), err
	}
	o, err := h.Store.take(ctx, b, at)
	switch {
	case errors.Is(err, ErrFull):
		return nil, upload.Refuse(upload.Full, "the hub has no room for events"), err
	case err != nil:
		return nil, upload.Refuse(upload.Unavailable, "the hub cannot keep events now"), err
	case o.clone > 0:
		r := upload.Refuse(upload.Clone, fmt.Sprintf("the hub holds %d events of this journal, and event %d is another one", o.through, o.clone))
		r.Seq = o.clone
		return nil, r, nil
	}
	ack := upload.Ack{Terminal: terminal, Scope: scope, Incarnation: b.Incarnation, Through: o.through, Hash: o.hash, At: at}
	message, err := ack.Sign(h.Signer)
	if err != nil {
		return nil, upload.Refuse(upload.Unavailable, "the hub cannot sign acknowledgements now"), err
	}
	return message, nil, nil
}
