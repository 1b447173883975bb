package terminal_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A shelter is a lane in mode muster, with a clock that the test sets on.
type shelter struct {
	*rig
	later atomic.Int64 // how much later it is, nanoseconds
}

func newShelter(t testing.TB, m ...jpki.Method) *shelter {
	t.Helper()
	s := new(shelter)
	s.rig = newRig(t, methods(m...), func(_ *rig, c *terminal.Config, p *terminal.Parts) {
		c.Mode, c.FirstUse = terminal.Muster, false
		p.Now = func() time.Time { return time.Now().Add(time.Duration(s.later.Load())) }
	})
	return s
}

// wait lets time pass.
func (s *shelter) wait(d time.Duration) { s.later.Add(int64(d)) }

func (s *shelter) inside(t testing.TB) (people uint64) {
	t.Helper()
	zones, err := s.site.Journal.Occupancy(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range zones {
		people += z.Inside()
	}
	return people
}

func (s *shelter) wantInside(t testing.TB, want uint64) {
	t.Helper()
	if got := s.inside(t); got != want {
		t.Errorf("%d people are inside, want %d", got, want)
	}
}

func TestShelterCountsAnyGenuineCard(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	unlisted := card(t, s.card(t, "not listed", jpki.ExternalAuth), vcard.Options{})
	if d := s.tap(t, unlisted); !d.Admitted() || d.Reason != terminal.OK || !strings.HasPrefix(d.Entitlement, "person/") {
		t.Fatalf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
	s.wantInside(t, 1)
	if d := s.tap(t, unlisted); d.Reason != terminal.AlreadyInside {
		t.Errorf("the same card at once: %v %s", d.Verdict, d.Reason)
	}
	s.wait(time.Minute)
	if d := s.tap(t, unlisted); !d.Admitted() || d.Reason != terminal.Leaving || d.Direction != terminal.Exit {
		t.Errorf("leaves: %v %s", d.Verdict, d.Reason)
	}
	s.wantInside(t, 0)
	s.wait(time.Minute)
	if d := s.tap(t, unlisted); d.Reason != terminal.OK {
		t.Errorf("comes back: %v %s", d.Verdict, d.Reason)
	}
	s.wantInside(t, 1)

	// Nobody is turned away for what a ticket says.
	for _, name := range []string{"listed", "listed, key not registered"} {
		if d := s.tap(t, card(t, s.card(t, name, jpki.ExternalAuth), vcard.Options{})); !d.Admitted() || terminal.CardOf(d.Entitlement) != "" {
			t.Errorf("%s: %v %s %s (%v)", name, d.Verdict, d.Reason, d.Entitlement, d.Cause)
		}
	}
	s.wantInside(t, 3)
}

// Cards of a family may share the ticket of one of them.
func TestShelterCountsEachOfAFamily(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	var rows []whitelist.Listed
	var cards []*vcard.Card
	for range 2 {
		img, row := s.newCard(t, "family", perso.CardOptions{})
		row.Row.Entitlements[0].Party, row.Row.Entitlements[0].Alone = 4, true
		rows, cards = append(rows, row), append(cards, card(t, img, vcard.Options{}))
	}
	m := s.Manifest
	m.Seq, m.Venue = m.Seq+1, whitelist.Venue{TimeZone: "Asia/Tokyo"}
	s.load(t, m, append(rows, s.rows...)...)
	for _, c := range cards {
		if d := s.tap(t, c); d.Reason != terminal.OK {
			t.Errorf("%v %s", d.Verdict, d.Reason)
		}
	}
	s.wantInside(t, 2)
}

// Without the time of day people come and go all the same.
func TestShelterWithAWrongClockCountsBothWays(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	if err := s.site.Journal.Started(t.Context(), time.Now().Add(48*time.Hour), "t", "s", "v"); err != nil {
		t.Fatal(err)
	}
	c := card(t, s.card(t, "listed", jpki.ExternalAuth), vcard.Options{})
	for i, want := range []terminal.Reason{terminal.OK, terminal.Leaving, terminal.OK} {
		if d := s.tap(t, c); d.Reason != want {
			t.Errorf("tap %d: %v %s, want %s", i, d.Verdict, d.Reason, want)
		}
		s.wait(time.Hour)
	}
}

// Whoever has a number and has tapped a card since brings the number back, and
// does not leave.
func TestNumberBroughtBackIsNoDeparture(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	if _, _, err := s.lane.GiveToken(t.Context(), steward, ""); err != nil {
		t.Fatal(err)
	}
	s.decision(t)
	c := card(t, s.card(t, "listed", jpki.ExternalAuth), vcard.Options{})
	s.tap(t, c)
	s.wantInside(t, 2)
	s.wait(time.Minute)
	if err := s.lane.Expect(terminal.Expectation{Token: 1, By: steward, Until: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	// A card that fails does not eat the number.
	s.tap(t, card(t, s.card(t, "copied card", jpki.ExternalAuth), vcard.Options{}))
	if d := s.tap(t, c); d.Reason != terminal.AlreadyInside || d.Cause != nil {
		t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
	s.wantInside(t, 1)

	// Whoever has only a number leaves by it, once.
	if _, _, err := s.lane.GiveToken(t.Context(), steward, ""); err != nil {
		t.Fatal(err)
	}
	s.decision(t)
	s.wantInside(t, 2)
	if d, err := s.lane.TokenLeaves(t.Context(), steward, 2); err != nil || d.Reason != terminal.Leaving {
		t.Errorf("%v %s, %v", d.Verdict, d.Reason, err)
	}
	s.decision(t)
	s.wantInside(t, 1)
	for _, token := range []uint32{1, 2, 99} {
		if d, err := s.lane.TokenLeaves(t.Context(), steward, token); err == nil {
			t.Errorf("number %d leaves: %v %s", token, d.Verdict, d.Reason)
		}
		s.decision(t)
	}
	s.wantInside(t, 1)
}

func TestShelterCountsNoCopy(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	for _, name := range []string{"copied card", "certificate of a wrong CA", "resident registration card"} {
		if d := s.tap(t, card(t, s.card(t, name, jpki.ExternalAuth), vcard.Options{})); d.Verdict != terminal.Deny {
			t.Errorf("%s: %v %s", name, d.Verdict, d.Reason)
		}
	}
	s.wantInside(t, 0)
}

func TestTypedBirthDateProvesACardThatIsOnNoList(t *testing.T) {
	s := newShelter(t, jpki.TapUse)
	img, err := s.Card(perso.CardOptions{BirthDate: world.BirthDate})
	if err != nil {
		t.Fatal(err)
	}
	stranger := card(t, img, vcard.Options{})
	if d := s.tap(t, stranger); d.Admitted() {
		t.Fatalf("without a birth date: %v %s", d.Verdict, d.Reason)
	}
	born, err := cardauth.ParseBirthDate(world.BirthDate.Format("20060102"))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := cardauth.ParseBirthDate("19700101")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(b cardauth.BirthDate, until time.Duration) {
		t.Helper()
		if err := s.lane.Expect(terminal.Expectation{BirthDate: b, By: steward, Until: time.Now().Add(until)}); err != nil {
			t.Fatal(err)
		}
	}
	expect(born, -time.Second)
	if d := s.tap(t, stranger); d.Admitted() {
		t.Errorf("a birth date of long ago: %v %s", d.Verdict, d.Reason)
	}
	expect(wrong, time.Minute)
	if d := s.tap(t, stranger); d.Reason != terminal.AuthFailed {
		t.Errorf("another birth date: %v %s", d.Verdict, d.Reason)
	}
	// Mistyped is no reason to send somebody away.
	expect(born, time.Minute)
	if d := s.tap(t, stranger); !d.Admitted() || d.Staff != steward {
		t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
	// It was for one person.
	other, err := s.Card(perso.CardOptions{BirthDate: world.BirthDate})
	if err != nil {
		t.Fatal(err)
	}
	if d := s.tap(t, card(t, other, vcard.Options{})); d.Admitted() {
		t.Errorf("the next person: %v %s", d.Verdict, d.Reason)
	}
	s.wantInside(t, 1)
}

func TestTokenIsMergedWithTheCardThatComesLater(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	for want := uint32(1); want <= 3; want++ {
		d, token, err := s.lane.GiveToken(t.Context(), steward, "card under the rubble")
		if err != nil || token != want || d.Entitlement != terminal.TokenEntitlement(want) {
			t.Fatalf("token %d, %s, %v", token, d.Entitlement, err)
		}
		s.decision(t)
	}
	s.wantInside(t, 3)
	if err := s.lane.Expect(terminal.Expectation{Token: 2, By: steward, Until: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	found := card(t, s.card(t, "not listed", jpki.ExternalAuth), vcard.Options{})
	if d := s.tap(t, found); !d.Admitted() || d.Cause != nil {
		t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
	s.wantInside(t, 3)
	// A number is not given again.
	if _, token, err := s.lane.GiveToken(t.Context(), steward, ""); err != nil || token != 4 {
		t.Errorf("token %d, %v", token, err)
	}
	s.decision(t)
	// One that is merged cannot be merged again; the card counts all the same.
	if err := s.lane.Expect(terminal.Expectation{Token: 2, By: steward, Until: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if d := s.tap(t, card(t, s.card(t, "listed", jpki.ExternalAuth), vcard.Options{})); !d.Admitted() || d.Cause == nil {
		t.Errorf("%v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
}

// After some numbers are deleted there are fewer than the highest: none is given
// to two people.
func TestTokenNumbersGoOnThoughSomeAreDeleted(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	give := func(want uint32) {
		t.Helper()
		if d, token, err := s.lane.GiveToken(t.Context(), steward, ""); err != nil || token != want {
			t.Fatalf("token %d, want %d: %v %s, %v", token, want, d.Verdict, d.Reason, err)
		}
		s.decision(t)
	}
	for want := uint32(1); want <= 3; want++ {
		give(want)
	}
	first := func(u journal.Used) bool { return u.Entitlement == terminal.TokenEntitlement(1) }
	if _, err := s.site.Journal.Prune(t.Context(), time.Now().Add(-time.Nanosecond), journal.Everything, first, terminal.Staff{}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.site.Journal.Count(t.Context(), whitelist.TokenPrefix); err != nil || n != 2 {
		t.Fatalf("%d numbers are left, %v", n, err)
	}
	give(4)
	give(5)
}

// What staff mistypes is said of nobody's list, and is tried on no other card:
// each try may cost a card one of a few.
func TestMistypedBirthDateMarksNoCard(t *testing.T) {
	s := newShelter(t, jpki.TapUse)
	wrong := world.BirthDate.AddDate(1, 0, 0)
	typed, err := cardauth.ParseBirthDate(wrong.Format("20060102"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.lane.Expect(terminal.Expectation{BirthDate: typed, By: steward, Until: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	tap := func(born time.Time) terminal.Decision {
		t.Helper()
		img, err := s.Card(perso.CardOptions{BirthDate: born})
		if err != nil {
			t.Fatal(err)
		}
		return s.tap(t, card(t, img, vcard.Options{}))
	}
	d := tap(world.BirthDate)
	if d.Reason != terminal.AuthFailed || d.BirthDateRefused {
		t.Errorf("%v %s, refused %t", d.Verdict, d.Reason, d.BirthDateRefused)
	}
	if refused, err := s.site.Journal.BirthDateRefused(t.Context(), d.CardID); refused || err != nil {
		t.Errorf("the card is marked: %t, %v", refused, err)
	}
	if next := tap(wrong); next.Admitted() {
		t.Errorf("the next card proves itself by a birth date typed for another: %v %s", next.Verdict, next.Reason)
	}
}

func TestOnlyShelterStaffExpectsAndCounts(t *testing.T) {
	s := newShelter(t, jpki.ExternalAuth)
	if err := s.lane.Expect(terminal.Expectation{Token: 1}); !errors.Is(err, terminal.ErrRole) {
		t.Errorf("nobody expects: %v", err)
	}
	if _, _, err := s.lane.GiveToken(t.Context(), terminal.Staff{}, ""); !errors.Is(err, terminal.ErrRole) {
		t.Errorf("nobody counts: %v", err)
	}
	gate := newRig(t)
	if err := gate.lane.Expect(terminal.Expectation{Token: 1, By: steward}); err == nil {
		t.Error("a gate expects somebody")
	}
	if _, _, err := gate.lane.GiveToken(t.Context(), steward, ""); err == nil {
		t.Error("a gate gives tokens")
	}
}

func TestCounterAlwaysAsksStaff(t *testing.T) {
	r := newRig(t, func(_ *rig, c *terminal.Config, _ *terminal.Parts) { c.Mode = terminal.Counter })
	d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	if d.Verdict != terminal.Attend || d.Reason != terminal.ManualCheck || r.gate.Opened() != 0 {
		t.Errorf("%v %s, opened %d", d.Verdict, d.Reason, r.gate.Opened())
	}
	for !r.gate.Press(true) {
		time.Sleep(time.Millisecond)
	}
	if d = r.decision(t); !d.Admitted() || d.HolderCheck != terminal.Confirmed {
		t.Errorf("%v %s", d.Verdict, d.Reason)
	}
	for start := time.Now(); r.gate.Signal() != terminal.ShowReady; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("the lamps stay at %v", r.gate.Signal())
		}
	}
}
