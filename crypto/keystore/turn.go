package keystore

import "context"

// A turn lets one after the other use what takes one user. It has room for one
// token, which it holds while somebody uses it.
type turn chan struct{}

// take waits for the turn, and gives up when ctx ends. Whoever has it calls leave.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) leave() { <-t }

// use runs f when it is its turn. When ctx ends first, use returns, and f goes on:
// until it has come back nobody else has the turn.
func (t turn) use(ctx context.Context, f func(context.Context) error) error {
	if err := t.take(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := f(ctx)
		t.leave()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// within runs f and returns when ctx ends, at the latest; what f gives then is
// lost, so f holds nothing that has to be closed.
func within[T any](ctx context.Context, f func(context.Context) (T, error)) (got T, err error) {
	result := make(chan T, 1)
	err = make(turn, 1).use(ctx, func(ctx context.Context) error {
		v, err := f(ctx)
		result <- v
		return err
	})
	if err != nil {
		return got, err
	}
	return <-result, nil
}
