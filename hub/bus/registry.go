package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/hub/registry"
)

// Of is the registry as Terminals.
func Of(r *registry.Registry) Terminals { return registered{r} }

type registered struct{ *registry.Registry }

func (r registered) ByKey(ctx context.Context, spki []byte) (scope, name string, err error) {
	scope, t, err := r.TerminalWith(ctx, spki)
	if errors.Is(err, registry.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return scope, t.Name, err
}

func (r registered) InForce(ctx context.Context) (all []Terminal, err error) {
	found, err := r.TerminalsInForce(ctx)
	for _, t := range found {
		all = append(all, Terminal{t.Scope, t.Name, t.Identity})
	}
	return all, err
}
