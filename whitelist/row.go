package whitelist

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

type wireRow struct {
	Status       uint8             `cbor:"1,keyasint"`
	Entitlements []wireEntitlement `cbor:"2,keyasint"`
	AuthKey      []byte            `cbor:"3,keyasint,omitempty"`
	CardKey      []byte            `cbor:"4,keyasint,omitempty"`
	BirthDate    string            `cbor:"5,keyasint,omitempty"`
}

type wireEntitlement struct {
	ID        string   `cbor:"1,keyasint"`
	NotBefore uint64   `cbor:"2,keyasint,omitempty"`
	NotAfter  uint64   `cbor:"3,keyasint,omitempty"`
	Gates     []string `cbor:"4,keyasint,omitempty"`
	Uses      uint32   `cbor:"5,keyasint,omitempty"`
}

// OpenRow opens and reads one sealed row. It checks every rule written at [Row].
// Bytes that do not open are cardid.ErrSealed.
func OpenRow(key cardid.ScopeKey, scope string, head, sealed []byte) (Row, error) {
	plain, err := key.Open(scope, head, sealed)
	if err != nil {
		return Row{}, fmt.Errorf("opening row: %w", err)
	}
	row, err := decodeRow(plain)
	if err != nil {
		return Row{}, fmt.Errorf("reading row: %w", err)
	}
	return row, nil
}

func decodeRow(b []byte) (Row, error) {
	var w wireRow
	if err := codec.Unmarshal(b, &w); err != nil {
		return Row{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	r := Row{Status: Status(w.Status), BirthDate: w.BirthDate}
	for _, e := range w.Entitlements {
		r.Entitlements = append(r.Entitlements, Entitlement{
			ID: e.ID, NotBefore: fromUnix(e.NotBefore), NotAfter: fromUnix(e.NotAfter), Gates: e.Gates, Uses: e.Uses,
		})
	}
	var err error
	if r.AuthKey, err = parseKey("auth key", w.AuthKey); err != nil {
		return Row{}, err
	}
	if r.CardKey, err = parseKey("card key", w.CardKey); err != nil {
		return Row{}, err
	}
	again, err := r.encode()
	if err != nil {
		return Row{}, err
	}
	if !bytes.Equal(again, b) {
		return Row{}, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return r, nil
}

func parseKey(name string, spki []byte) (cardkey.Key, error) {
	if spki == nil {
		return cardkey.Key{}, nil
	}
	key, err := cardkey.Parse(spki)
	if err != nil {
		return cardkey.Key{}, fmt.Errorf("%w: %s: %v", ErrMalformed, name, err)
	}
	return key, nil
}

// encode checks and encodes r.
func (r Row) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	w := wireRow{Status: uint8(r.Status), AuthKey: r.AuthKey.SPKI(), CardKey: r.CardKey.SPKI(), BirthDate: r.BirthDate}
	for _, e := range r.Entitlements {
		w.Entitlements = append(w.Entitlements, wireEntitlement{
			ID: e.ID, NotBefore: toUnix(e.NotBefore), NotAfter: toUnix(e.NotAfter), Gates: e.Gates, Uses: e.Uses,
		})
	}
	return codec.Marshal(w)
}

func (r Row) check() error {
	if r.Status < Active || r.Status > CertificateRevoked {
		return fmt.Errorf("%w: unknown status %d", ErrMalformed, uint8(r.Status))
	}
	if n := len(r.Entitlements); n < 1 || n > MaxEntitlements {
		return fmt.Errorf("%w: %d entitlements, allowed are 1 to %d", ErrMalformed, n, MaxEntitlements)
	}
	for i, e := range r.Entitlements {
		if err := e.check(); err != nil {
			return fmt.Errorf("entitlement %d: %w", i+1, err)
		}
		if slices.ContainsFunc(r.Entitlements[:i], func(f Entitlement) bool { return f.ID == e.ID }) {
			return fmt.Errorf("entitlement %d: %w: its ID comes twice", i+1, ErrMalformed)
		}
	}
	if r.BirthDate != "" {
		if _, err := time.Parse("20060102", r.BirthDate); err != nil || len(r.BirthDate) != 8 {
			return fmt.Errorf("%w: the birth date is not a date YYYYMMDD", ErrMalformed)
		}
	}
	return nil
}

func (e Entitlement) check() error {
	if err := checkName("the ID", e.ID); err != nil {
		return err
	}
	if !e.NotBefore.IsZero() {
		if err := checkTime("not_before", e.NotBefore); err != nil {
			return err
		}
	}
	if !e.NotAfter.IsZero() {
		if err := checkTime("not_after", e.NotAfter); err != nil {
			return err
		}
		if toUnix(e.NotBefore) >= toUnix(e.NotAfter) {
			return fmt.Errorf("%w: not_before is not before not_after", ErrMalformed)
		}
	}
	if len(e.Gates) > MaxGates {
		return fmt.Errorf("%w: %d gates, at most %d are allowed", ErrMalformed, len(e.Gates), MaxGates)
	}
	for i, g := range e.Gates {
		if err := checkName("a gate", g); err != nil {
			return err
		}
		if slices.Contains(e.Gates[:i], g) {
			return fmt.Errorf("%w: a gate comes twice", ErrMalformed)
		}
	}
	return nil
}
