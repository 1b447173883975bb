package registry

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

func id(n int) cardid.CardID { return secret.ID(fmt.Append(nil, n)) }

func since(t testing.TB, p *Publication, seq uint64) (rows []whitelist.SealedRow) {
	t.Helper()
	for row, err := range p.ChangedSince(t.Context(), seq) {
		must(t, err)
		if len(rows) > 0 && bytes.Compare(rows[len(rows)-1].ID[:], row.ID[:]) >= 0 {
			t.Error("rows do not ascend")
		}
		rows = append(rows, row)
	}
	return rows
}

// More rows than a page, so that pages are turned.
func TestWhatWasPublishedIsReadBack(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		const n = 2*page + 3
		must(t, r.Publish(t.Context(), hall, false, func(p *Publication) error {
			if p.State() != nil {
				t.Error("a state before there was one")
			}
			for i := range n {
				must(t, p.Put(t.Context(), id(i), fmt.Append(nil, "row ", i), 1))
			}
			must(t, p.Put(t.Context(), id(0), []byte("row 0 again"), 1)) // twice in one batch
			b, err := p.Published(t.Context(), id(0))
			must(t, err)
			if string(b) != "row 0 again" {
				t.Errorf("%q", b)
			}
			p.SetState([]byte("state"))
			return p.Finish(t.Context(), 1, 1, []byte("manifest 1"))
		}))
		must(t, r.Publish(t.Context(), hall, false, func(p *Publication) error {
			if s := p.Scope(); s.Seq != 1 || s.SetSeq != 1 || string(p.State()) != "state" {
				t.Errorf("%+v, state %q", s, p.State())
			}
			if rows := since(t, p, 0); len(rows) != n {
				t.Errorf("%d rows", len(rows))
			}
			if rows := since(t, p, 1); len(rows) != 0 {
				t.Errorf("%d rows changed since the last", len(rows))
			}
			must(t, p.Put(t.Context(), id(1), nil, 2))
			must(t, p.Put(t.Context(), id(2), []byte("other"), 2))
			rows := since(t, p, 1)
			if len(rows) != 2 {
				t.Fatalf("%d rows changed", len(rows))
			}
			for _, row := range rows {
				if want := map[cardid.CardID]string{id(1): "", id(2): "other"}[row.ID]; string(row.Sealed) != want || (row.Sealed == nil) != (want == "") {
					t.Errorf("%q, want %q", row.Sealed, want)
				}
			}
			if rows := since(t, p, 0); len(rows) != n-1 {
				t.Errorf("%d rows, one is gone", len(rows))
			}
			if b, err := p.Published(t.Context(), id(1)); err != nil || b != nil {
				t.Errorf("%q, %v", b, err)
			}
			return p.Finish(t.Context(), 2, 2, []byte("manifest 2"))
		}))
		manifest, err := r.Manifest(t.Context(), hall)
		must(t, err)
		if string(manifest) != "manifest 2" {
			t.Errorf("%q", manifest)
		}
		must(t, r.Publish(t.Context(), hall, false, func(p *Publication) error {
			must(t, p.Forget(t.Context(), 2))
			if rows := since(t, p, 1); len(rows) != 1 {
				t.Errorf("%d rows, one was forgotten", len(rows))
			}
			return p.Finish(t.Context(), 3, 2, nil)
		}))
	})
}

func TestPublicationThatFailsLeavesNothing(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		person(t, r, 1)
		disk := errors.New("disk full")
		for name, end := range map[string]func(p *Publication) error{
			"an error":   func(p *Publication) error { return errors.Join(p.Finish(t.Context(), 1, 1, nil), disk) },
			"no Finish":  func(*Publication) error { return nil },
			"old number": func(p *Publication) error { return p.Finish(t.Context(), 0, 0, nil) },
			"set ahead":  func(p *Publication) error { return p.Finish(t.Context(), 1, 2, nil) },
		} {
			err := r.Publish(t.Context(), hall, false, func(p *Publication) error {
				must(t, p.Put(t.Context(), id(1), []byte("row"), 1))
				p.SetState([]byte("state"))
				return end(p)
			})
			if (err == nil) != (name == "no Finish") {
				t.Errorf("%s: %v", name, err)
			}
			must(t, r.Publish(t.Context(), hall, false, func(p *Publication) error {
				if rows := since(t, p, 0); len(rows) != 0 || p.State() != nil || p.Scope().Seq != 0 {
					t.Errorf("%s: something was kept", name)
				}
				return nil
			}))
			if heads, _, err := r.Pending(t.Context(), hall); err != nil || heads != 1 {
				t.Errorf("%s: %d heads marked, %v", name, heads, err)
			}
		}
	})
}

func TestNewEpochBuildsEveryRow(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		for n := range 3 {
			person(t, r, n+1)
		}
		publish(t, r, hall, false, set{})
		must(t, r.NewEpoch(t.Context(), by("new key"), hall))
		must(t, r.Publish(t.Context(), hall, false, func(p *Publication) error {
			if s := p.Scope(); s.Epoch != 2 || s.Seq != 0 || !p.Full() || p.State() != nil {
				t.Errorf("%+v", s)
			}
			if rows := since(t, p, 0); len(rows) != 0 {
				t.Errorf("%d rows of the old epoch", len(rows))
			}
			return nil
		}))
		got := set{}
		publish(t, r, hall, false, got)
		if len(got) != 3 {
			t.Errorf("%d rows", len(got))
		}
		s := settings("late-hall", venue)
		s.Epoch = 9
		must(t, r.AddScope(t.Context(), by(""), s))
		if s, err := r.Scope(t.Context(), "late-hall"); err != nil || s.Epoch != 9 {
			t.Errorf("epoch %d, %v", s.Epoch, err)
		}
	})
}

// Pages of certificates and of orders are turned, with and without marks.
func TestManyRowsComeInPages(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		const n = page + 5
		_, err := r.Load(t.Context(), by(""), hall, func(yield func(Loaded, error) bool) {
			for card, err := range manyCards(n) {
				card.Tickets[0].Order = "N" + card.Tickets[0].ID[2:]
				if !yield(card, err) {
					return
				}
			}
		})
		must(t, err)
		for _, full := range []bool{false, true} {
			got := set{}
			publish(t, r, hall, full, got)
			if len(got) != 2*n {
				t.Errorf("full %v: %d rows, want %d", full, len(got), 2*n)
			}
		}
		must(t, r.Refund(t.Context(), by("x"), hall, "T-00000007"))
		got := set{}
		publish(t, r, hall, false, got)
		if len(got) != 2 {
			t.Errorf("%d rows changed, want the card's and the order's", len(got))
		}
	})
}

func TestLoadingWhatIsThereIsRefused(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		if n, err := r.Load(t.Context(), by(""), hall, manyCards(10)); err != nil || n != 10 {
			t.Fatalf("%d, %v", n, err)
		}
		if _, err := r.Load(t.Context(), by(""), hall, manyCards(11)); err == nil {
			t.Error("loaded twice")
		}
		got := set{}
		publish(t, r, hall, false, got)
		if len(got) != 10 {
			t.Errorf("%d rows", len(got))
		}
	})
}
