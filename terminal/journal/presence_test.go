package journal

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

func TestPresencesTellWhoIsInside(t *testing.T) {
	now := noon
	j := at(t, temp(t), &now)
	ctx := t.Context()
	pass := func(entitlement, card string, exit bool) terminal.Reservation {
		t.Helper()
		d := admission(entitlement)
		if exit {
			d = leaving(entitlement)
		}
		d.CardID, d.Instant = card, now
		r := admit(t, j, d)
		check(t, j.Commit(ctx, r, 1))
		return r
	}
	pass("family", "card", false)
	pass("gone", "other", false)
	pass("gone", "other", true)
	pass("family", "renewed card", false)
	token := pass("token/1", "", false)
	check(t, j.SettleBy(ctx, token, 0, steward, "has shown a card"))
	now = now.Add(time.Minute)
	r := reserve(t, j, "in doubt")
	check(t, j.Doubt(ctx, r, terminal.GateFault))

	got, err := j.Presences(ctx)
	check(t, err)
	var names []string
	for i, p := range got {
		names = append(names, p.Entitlement)
		slices.Sort(got[i].Cards)
	}
	if want := []string{"family", "gone", "token/1", "in doubt"}; !slices.Equal(names, want) {
		t.Fatalf("%q, want %q", names, want)
	}
	if p := got[0]; p.Inside() != 2 || !p.Came() || !slices.Equal(p.Cards, []string{"card", "renewed card"}) {
		t.Errorf("%+v", p)
	}
	if p := got[1]; p.Inside() != 0 || p.Entered != 1 || p.Left != 1 || !p.Last.Equal(noon) {
		t.Errorf("%+v", p)
	}
	if p := got[2]; p.Came() || p.Reservation != token {
		t.Errorf("%+v", p)
	}
	if p := got[3]; p.Inside() != 0 || p.Doubtful != 1 || p.Reservation != r {
		t.Errorf("%+v", p)
	}
	// Retention leaves who is there, and forgets by which card.
	check(t, j.Commit(ctx, r, 1))
	now = noon.Add(48 * time.Hour)
	_, err = j.Prune(ctx, noon.Add(24*time.Hour), Everything, nil, terminal.Staff{})
	check(t, err)
	again, err := j.Presences(ctx)
	check(t, err)
	if len(again) != 4 || again[0].Inside() != 2 || again[0].Cards != nil {
		t.Errorf("%+v", again)
	}
	other, err := OpenReader(j.path)
	check(t, err)
	defer other.Close()
	if same, err := other.Presences(ctx); err != nil || !reflect.DeepEqual(same, again) {
		t.Errorf("%+v, %v", same, err)
	}
}
