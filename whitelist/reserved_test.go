package whitelist

import (
	"errors"
	"testing"
)

// Somebody counted at a shelter is nobody's ticket.
func TestEntitlementIsNoPersonOrTokenOfAShelter(t *testing.T) {
	for id, want := range map[string]error{
		"token/2": ErrMalformed, "person/ab": ErrMalformed, "token": nil, "a person/ab": nil,
	} {
		if err := (Entitlement{ID: id}).check(); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", id, err, want)
		}
	}
}
