package lease

import (
	"bytes"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/internal/vectors"
)

// Whoever made the vector did so without Go's HPKE.
func TestLeaseOfTheVectorOpens(t *testing.T) {
	v := vectors.Operator(t)
	l, err := Read(v.Lease, v.Trust)
	if err != nil {
		t.Fatal(err)
	}
	if l.Terms != (Terms{v.Scope, v.Hierarchy, v.Terminal, v.IssuedAt, v.IssuedAt.Add(7 * 24 * time.Hour)}) || l.Delegation() != 2 || l.Valid(v.IssuedAt) != nil {
		t.Errorf("%+v", l.Terms)
	}
	key, err := ParseDeliveryKey(v.DeliveryPrivate)
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	want, err := cardid.NewScopeKey(v.ScopeSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID([]byte("head")) != want.ID([]byte("head")) {
		t.Error("opens as another scope key")
	}
	again, err := encode(l.Terms, l.Check, l.sealed)
	if err != nil || !bytes.Equal(again, l.payload.Bytes()) {
		t.Errorf("this package would encode it as %x, %v", again, err)
	}
}
