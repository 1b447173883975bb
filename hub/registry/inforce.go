package registry

import (
	"context"
	"fmt"
)

// A ScopedTerminal is a terminal in force and its scope, without its state.
type ScopedTerminal struct {
	Scope, Name string
	Identity    []byte // SubjectPublicKeyInfo in DER
}

// TerminalsInForce are those of every scope that are not retired, in no order.
func (r *Registry) TerminalsInForce(ctx context.Context) (all []ScopedTerminal, err error) {
	rows, err := r.query(ctx, `SELECT s.name, t.name, t.identity FROM terminals t JOIN scopes s ON t.scope = s.id WHERE t.retired = 0`)
	if err := each(rows, err, func() error {
		var t ScopedTerminal
		err := rows.Scan(&t.Scope, &t.Name, &t.Identity)
		all = append(all, t)
		return err
	}); err != nil {
		return nil, fmt.Errorf("reading terminals: %w", err)
	}
	return all, nil
}
