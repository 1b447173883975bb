package claims

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
)

// Rebuild makes the logs of a scope again, of records in the order in which they are to
// stand; a settle comes behind what it settles, and Of is filled in. What is in the bucket
// is lost.
//
//	gone ─▶ made without its promises: no terminal takes it ─▶ filled ─▶ sealed
//
// So all terminals are apart meanwhile, and none decides by half a log. Where it breaks
// off the bucket stays unsealed, and Rebuild begins again.
func Rebuild(ctx context.Context, js jetstream.JetStream, bucket, scope string, replicas int, records iter.Seq2[Record, error]) (written int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rebuilding bucket %s: %w", bucket, err)
		}
	}()
	sealed := streamOf(bucket, replicas)
	open := sealed
	open.DenyDelete, open.DenyPurge = false, false
	if err := js.DeleteStream(ctx, sealed.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, err
	}
	if _, err := js.CreateStream(ctx, open); err != nil {
		return 0, err
	}
	b := &Bucket{js: js, name: bucket}
	type passage struct {
		token string
		Writer
		id string
	}
	last := make(map[string]uint64)
	of := make(map[passage]uint64)
	for r, err := range records {
		if err != nil {
			return written, err
		}
		token := Token(scope, r.Entitlement)
		p := passage{token, r.Writer, r.ID}
		if r.Kind == Settle {
			r.Of = of[p]
		}
		value, err := r.Encode()
		if err != nil {
			return written, fmt.Errorf("event %d of terminal %q: %w", r.Reservation, r.Terminal, err)
		}
		n := last[token] + 1
		if _, err := b.Create(ctx, token, n, value); err != nil {
			return written, err
		}
		if last[token] = n; r.Kind != Settle {
			of[p] = n
		}
		written++
	}
	_, err = js.UpdateStream(ctx, sealed)
	return written, err
}
