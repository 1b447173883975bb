package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/postgres"
	"github.com/gate-agent/gate-agent/whitelist"
)

var server postgres.Server

func TestMain(m *testing.M) {
	// Two engines, and a rebuild after each verb: -rapid.checks asks for more.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	server.Main(m)
}

var at = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func by(reason string) By { return By{"desk", reason, at} }

// on runs a test with a registry on each engine.
func on(t *testing.T, f func(t *testing.T, r *Registry)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, open(t, "sqlite:"+filepath.Join(t.TempDir(), "registry.db"))) })
	t.Run("postgres", func(t *testing.T) { f(t, open(t, server.Database(t))) })
}

func open(t testing.TB, name string) *Registry {
	t.Helper()
	r, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

const hall = "demo-hall"

// venue has everything that a ticket can name.
var venue = whitelist.Venue{
	TimeZone: "Asia/Tokyo",
	Zones:    []whitelist.Zone{{Name: "main"}, {Name: "vip"}},
	Gates:    []whitelist.Gate{{ID: 1, Name: "north", Zone: "main"}, {ID: 2, Name: "south", Zone: "vip"}},
	Products: []whitelist.Product{{ID: 7, Name: "day"}},
}

func settings(name string, v whitelist.Venue) Scope {
	return Scope{Name: name, Hierarchy: whitelist.Test, Venue: v, Lifetime: time.Hour, FirstUse: true, LeaseDays: 7}
}

func addScope(t testing.TB, r *Registry, name string, v whitelist.Venue) {
	t.Helper()
	must(t, r.AddScope(t.Context(), by(""), settings(name, v)))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

var testIssuer = Issuer{Authority: sha256.Sum256([]byte("authority"))}

// credential n has a head of its own; card is the number of its card's key, 0 for none.
func credential(n, card int) Credential {
	c := Credential{
		Head: fmt.Appendf([]byte{0x30}, "%06d", n), AuthKey: testKey(2 * n), Issuer: testIssuer,
		Serial: []byte{1, byte(n >> 16), byte(n >> 8), byte(n)}, NotAfter: at.AddDate(5, 0, 0), BirthDate: "19900401",
	}
	if card != 0 {
		c.CardKey = testKey(2*card + 1)
	}
	return c
}

// testKey is a P-384 point that nobody knows a private key of: cheap, and of a
// kind that cards have.
func testKey(n int) cardkey.Key {
	curve := elliptic.P384()
	x, y := curve.ScalarBaseMult([]byte{1, byte(n >> 16), byte(n >> 8), byte(n)})
	k, err := cardkey.New(&ecdsa.PublicKey{Curve: curve, X: x, Y: y})
	if err != nil {
		panic(err)
	}
	return k
}

var secret = func() cardid.ScopeKey {
	k, err := cardid.NewScopeKey(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return k
}()

// A published set as the test sees it.
type set map[string]whitelist.Row

// publish takes the changed rows into a set, keeping them as a hub does, with
// seq as the number of list and set. Rows are kept as their encoding in ASN.1's
// place: the test compares rows.
func publish(t testing.TB, r *Registry, scope string, full bool, into set) {
	t.Helper()
	must(t, publishErr(t.Context(), r, scope, full, into))
}

func publishErr(ctx context.Context, r *Registry, scope string, full bool, into set) error {
	return r.Publish(ctx, scope, full, func(p *Publication) error {
		seq := p.Scope().Seq + 1
		var last []byte
		for s, err := range p.Changed(ctx) {
			if err != nil {
				return err
			}
			if string(s.Head) <= string(last) {
				return fmt.Errorf("head %x behind %x", s.Head, last)
			}
			last = s.Head
			if s.Gone {
				delete(into, string(s.Head))
			} else {
				if err := p.Scope().Venue.CheckRow(s.Head, s.Row); err != nil {
					return fmt.Errorf("a row that no list can have: %w", err)
				}
				into[string(s.Head)] = s.Row
			}
			var sealed []byte
			if !s.Gone {
				if sealed, err = asn1.Marshal([]byte(fmt.Sprint(s.Row))); err != nil {
					return err
				}
			}
			if err := p.Put(ctx, secret.ID(s.Head), sealed, seq); err != nil {
				return err
			}
		}
		return p.Finish(ctx, seq, seq, []byte("manifest"))
	})
}

func ticket(id string, holder int64) Ticket {
	return Ticket{Entitlement: whitelist.Entitlement{ID: id}, Holder: holder}
}

// person adds a holder with a card and a ticket.
func person(t testing.TB, r *Registry, n int) (holder int64, head []byte) {
	t.Helper()
	holder, err := r.AddHolder(t.Context(), by(""), hall, fmt.Sprintf("member-%d", n))
	must(t, err)
	c, err := r.AddCredential(t.Context(), by(""), hall, holder, credential(n, n))
	must(t, err)
	must(t, r.PutTicket(t.Context(), by(""), hall, ticket(fmt.Sprintf("T-%d", n), holder)))
	return holder, c.Head
}
