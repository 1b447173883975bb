package whitelist

import "cmp"

// What a hub holds its records against before it writes a list: the rules of
// [Write], for whoever has no list yet.

// Check checks every rule written at [Manifest] and its parts.
func (m Manifest) Check() error { return m.check() }

// IsZero reports whether v says nothing: its list is of format 1, where an
// entitlement has an ID, a window, gates and uses, and nothing else.
func (v Venue) IsZero() bool { return v.isZero() }

// CheckEntitlement checks every rule written at [Entitlement], and that e can be
// in a list with this venue.
func (v Venue) CheckEntitlement(e Entitlement) error { return cmp.Or(e.check(), v.fits(e)) }

// CheckRow checks every rule written at [Row], and that r can be listed under
// head in a list with this venue.
func (v Venue) CheckRow(head []byte, r Row) error {
	return cmp.Or(r.check(), r.checkUnder(head), v.checkRow(r))
}

// Size is the length of r in bytes before it is padded and sealed; at most
// cardid.MaxPlaintext bytes can be.
func (r Row) Size() (int, error) {
	b, err := r.encode()
	return len(b), err
}
