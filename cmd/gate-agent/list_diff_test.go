package main

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
)

// rowsNamed are rows of one byte each: "aA" is row a with content A.
func rowsNamed(names ...string) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		for _, n := range names {
			if n == "!" {
				yield(whitelist.SealedRow{}, errBroken)
				return
			}
			if !yield(whitelist.SealedRow{ID: cardid.CardID{n[0]}, Sealed: []byte(n[1:])}, nil) {
				return
			}
		}
	}
}

var errBroken = errors.New("broken")

func TestRowsOfTwoListsAreCounted(t *testing.T) {
	for _, c := range []struct {
		before, after        []string
		added, changed, gone uint64
		broken               bool
	}{
		{},
		{before: []string{"aA", "bB"}, after: []string{"aA", "bB"}},
		{before: []string{"aA", "bB"}, gone: 2},
		{after: []string{"aA", "bB"}, added: 2},
		{before: []string{"aA", "cC", "dD"}, after: []string{"bB", "cX", "eE"}, added: 2, changed: 1, gone: 2},
		{before: []string{"bB"}, after: []string{"aA", "bB", "cC"}, added: 2},
		{before: []string{"aA", "bB", "cC"}, after: []string{"bB"}, gone: 2},
		{before: []string{"aA", "!"}, after: []string{"aA"}, broken: true},
		{before: []string{"aA"}, after: []string{"aA", "!"}, broken: true},
		{before: []string{"!"}, after: []string{"aA"}, broken: true},
	} {
		d, err := countRows(rowsNamed(c.before...), rowsNamed(c.after...))
		if c.broken {
			if !errors.Is(err, errBroken) {
				t.Errorf("%q, %q: %v", c.before, c.after, err)
			}
			continue
		}
		if err != nil || d.Added != c.added || *d.Changed != c.changed || d.Gone != c.gone || d.none() != (c.added+c.changed+c.gone == 0) {
			t.Errorf("%q, %q: %d added, %d changed, %d gone, %v", c.before, c.after, d.Added, *d.Changed, d.Gone, err)
		}
	}
}

func TestWhatManifestsSayDifferentlyIsNamed(t *testing.T) {
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	a := whitelist.Manifest{Scope: "hall", Epoch: 1, Seq: 1, NotAfter: at, Venue: whitelist.Venue{
		Rules: `{"and":[]}`,
		Zones: []whitelist.Zone{{Name: "floor"}, {Name: "stage"}},
		Gates: []whitelist.Gate{{ID: 1, Name: "north"}, {ID: 2, Name: "south"}},
	}}
	if got := diffManifests(a, a); len(got) != 0 {
		t.Errorf("of one manifest: %v", got)
	}
	b := a
	b.Seq, b.NotAfter, b.Policy.Expired, b.Venue.Rules = 2, at.Add(time.Hour), whitelist.Attend, ""
	b.Venue.Zones = []whitelist.Zone{{Name: "floor", AntiPassback: whitelist.AntiPassbackHard}}
	b.Venue.Gates = []whitelist.Gate{{ID: 1, Name: "north"}, {ID: 3, Name: "east", Zone: "floor"}}
	b.Venue.Products = []whitelist.Product{{ID: 7, Name: "day"}}
	want := []manifestDiff{
		{"seq", "", "1", "2"},
		{"not_after", "", "2026-04-01T12:00:00Z", "2026-04-01T13:00:00Z"},
		{"policy.expired", "", "deny", "attend"},
		{"venue.rules", "", `{"and":[]}`, "-"},
		{"zone", "floor", "anti-passback off, forgets after 0s, hub away admit_and_reconcile", "anti-passback hard, forgets after 0s, hub away admit_and_reconcile"},
		{"zone", "stage", "anti-passback off, forgets after 0s, hub away admit_and_reconcile", ""},
		{"gate", "east", "", `id 3, into "floor"`},
		{"gate", "south", `id 2, into ""`, ""},
		{"product", "7", "", `"day", postponed: false`},
	}
	if got := diffManifests(a, b); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for text, d := range map[string]manifestDiff{"1 → 2": want[0], `"east" came: id 3, into "floor"`: want[6], `"south" went: id 2, into ""`: want[7]} {
		if d.text() != text {
			t.Errorf("%q, want %q", d.text(), text)
		}
	}
}

// A field of a manifest that is compared nowhere would change in silence.
func TestEveryFieldOfAManifestIsCompared(t *testing.T) {
	// How to come by the rows, and their digests, is no matter of people; what of
	// it matters is told as counts.
	apart := []string{"ScopeKeyCheck", "RowsSHA256", "Set", "Snapshot", "Deltas"}
	var walk func(path []int, typ reflect.Type)
	walk = func(path []int, typ reflect.Type) {
		for i := range typ.NumField() {
			f, at := typ.Field(i), append(slices.Clone(path), i)
			if slices.Contains(apart, f.Name) {
				continue
			}
			if f.Type == reflect.TypeFor[whitelist.Policy]() || f.Type == reflect.TypeFor[whitelist.Venue]() {
				walk(at, f.Type)
				continue
			}
			var m whitelist.Manifest
			v := reflect.ValueOf(&m).Elem().FieldByIndex(at)
			switch v.Interface().(type) {
			case time.Time:
				v.Set(reflect.ValueOf(time.Unix(1, 0)))
			case bool:
				v.SetBool(true)
			case string:
				v.SetString("x")
			default:
				switch {
				case v.Kind() == reflect.Slice:
					v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				case v.CanUint():
					v.SetUint(1)
				default:
					v.SetInt(1)
				}
			}
			if len(diffManifests(whitelist.Manifest{}, m)) != 1 {
				t.Errorf("%s is not compared", f.Name)
			}
		}
	}
	walk(nil, reflect.TypeFor[whitelist.Manifest]())
}

func TestRoundsThatSayTheSameAreToldOnce(t *testing.T) {
	var out bytes.Buffer
	tell := tellRounds(slog.New(slog.NewTextHandler(&out, nil)))
	gone := lists.Round{Err: errors.New("no stick")}
	broken := lists.Round{Err: whitelist.ErrTampered, Alarm: whitelist.ErrTampered}
	for _, r := range []lists.Round{gone, gone, gone, broken, broken, {Contact: true}, {Contact: true}, gone, {Contact: true, Came: lists.BySnapshot, Detour: errBroken}} {
		tell(r)
	}
	for text, n := range map[string]int{"no stick": 2, "level=ERROR": 1, "works again": 2, "list brought": 1, "in the place of deltas": 1} {
		if got := strings.Count(out.String(), text); got != n {
			t.Errorf("%q is told %d times, want %d:\n%s", text, got, n, &out)
		}
	}
}

func TestLullEndsWithEachDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := newLull()
		for _, d := range []time.Duration{3 * time.Minute, time.Second} {
			time.Sleep(d)
			if got := quiet.length(); got != d {
				t.Errorf("%v, want %v", got, d)
			}
			quiet.end()
		}
		if got := quiet.length(); got != 0 {
			t.Error(fmt.Sprint(got))
		}
	})
}
