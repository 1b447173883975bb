package whitelist

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
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

	// Only in lists with a venue.
	Status     uint8    `cbor:"6,keyasint,omitempty"`
	Zones      []string `cbor:"7,keyasint,omitempty"`
	UsesPerDay uint32   `cbor:"8,keyasint,omitempty"`
	ReEntry    uint8    `cbor:"9,keyasint,omitempty"`
	Party      uint32   `cbor:"10,keyasint,omitempty"`
	Alone      bool     `cbor:"11,keyasint,omitempty"`
	Product    uint32   `cbor:"12,keyasint,omitempty"`
	Variation  uint32   `cbor:"13,keyasint,omitempty"`
	Attention  bool     `cbor:"14,keyasint,omitempty"`
	Message    string   `cbor:"15,keyasint,omitempty"`
}

func (w wireEntitlement) entitlement() Entitlement {
	return Entitlement{
		ID: w.ID, Status: Status(w.Status), NotBefore: fromUnix(w.NotBefore), NotAfter: fromUnix(w.NotAfter),
		Gates: w.Gates, Zones: w.Zones, Uses: w.Uses, UsesPerDay: w.UsesPerDay, ReEntry: ReEntry(w.ReEntry),
		Party: w.Party, Alone: w.Alone, Product: w.Product, Variation: w.Variation, Attention: w.Attention, Message: w.Message,
	}
}

// wire leaves out what is the same as zero: an active entitlement, of one person.
func (e Entitlement) wire() wireEntitlement {
	w := wireEntitlement{
		ID: e.ID, Status: uint8(e.Status), NotBefore: toUnix(e.NotBefore), NotAfter: toUnix(e.NotAfter),
		Gates: e.Gates, Zones: e.Zones, Uses: e.Uses, UsesPerDay: e.UsesPerDay, ReEntry: uint8(e.ReEntry),
		Party: e.Party, Alone: e.Alone, Product: e.Product, Variation: e.Variation, Attention: e.Attention, Message: e.Message,
	}
	if e.Status == Active {
		w.Status = 0
	}
	if e.Party == 1 {
		w.Party = 0
	}
	return w
}

// OpenRow opens and reads one sealed row. It checks every rule written at [Row].
// Bytes that do not open are cardid.ErrSealed.
func OpenRow(key cardid.ScopeKey, scope string, head, sealed []byte) (Row, error) {
	plain, err := key.Open(scope, head, sealed)
	if err != nil {
		return Row{}, fmt.Errorf("opening row: %w", err)
	}
	row, err := decodeRow(plain)
	if err == nil {
		err = row.checkUnder(head)
	}
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
	r.Entitlements = each(w.Entitlements, wireEntitlement.entitlement)
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
	return codec.Marshal(wireRow{
		Status: uint8(r.Status), Entitlements: each(r.Entitlements, Entitlement.wire),
		AuthKey: r.AuthKey.SPKI(), CardKey: r.CardKey.SPKI(), BirthDate: r.BirthDate,
	})
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
	if err := cmp.Or(
		checkName("the ID", e.ID),
		checkOptional("not_before", e.NotBefore), checkOptional("not_after", e.NotAfter),
		checkNames("gate", e.Gates, MaxGates), checkNames("zone", e.Zones, MaxGates),
	); err != nil {
		return err
	}
	for _, prefix := range [...]string{PersonPrefix, TokenPrefix} {
		if strings.HasPrefix(e.ID, prefix) {
			return fmt.Errorf("%w: the ID begins with %q, as terminals count people at shelters", ErrMalformed, prefix)
		}
	}
	switch {
	case !e.NotAfter.IsZero() && toUnix(e.NotBefore) >= toUnix(e.NotAfter):
		return fmt.Errorf("%w: not_before is not before not_after", ErrMalformed)
	case e.Status > Revoked: // a certificate's status is that of the row
		return fmt.Errorf("%w: unknown status %d", ErrMalformed, uint8(e.Status))
	case e.ReEntry > ReEntryAlways:
		return fmt.Errorf("%w: unknown re-entry %d", ErrMalformed, uint8(e.ReEntry))
	case e.Party > MaxParty:
		return fmt.Errorf("%w: a party of %d people, at most %d are allowed", ErrMalformed, e.Party, MaxParty)
	case e.Alone && e.Party < 2:
		return fmt.Errorf("%w: alone, and no party", ErrMalformed)
	case e.Variation != 0 && e.Product == 0:
		return fmt.Errorf("%w: a variation of no product", ErrMalformed)
	case e.Message == "":
		return nil
	case !e.Attention:
		return fmt.Errorf("%w: a message without attention", ErrMalformed)
	}
	return checkText("the message", e.Message, MaxMessage)
}
