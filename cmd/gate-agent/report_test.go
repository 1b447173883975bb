package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal/journal"
)

func TestMusterCountsEachPersonOnce(t *testing.T) {
	at := time.Date(2026, 9, 1, 3, 30, 0, 0, time.UTC)
	m := newMuster(at, []journal.Presence{
		{Entitlement: "family", Entered: 2, Left: 1, Last: at, Reservation: 4, Cards: []string{"aa", "bb"}},
		{Entitlement: "gone", Entered: 2, Left: 2, Last: at, Cards: []string{"cc"}},
		{Entitlement: "person/dd", Entered: 1, Last: at},
		{Entitlement: "=long ago", Entered: 1, Last: at},
		{Entitlement: "in doubt", Doubtful: 1, Last: at, Cards: []string{"ee"}},
		{Entitlement: "annulled", Last: at, Cards: []string{"ff"}},
		{Entitlement: "token/1", Last: at, Reservation: 9},
		{Entitlement: "token/2", Entered: 1, Last: at, Reservation: 10},
		{Entitlement: "", Entered: 5, Left: 2, Last: at},
	})
	if m.Present != 4 || m.Left != 1 || m.InDoubt != 1 || m.Unnamed != 3 || m.CardsForgotten != 1 {
		t.Errorf("%+v", m)
	}
	want := []mustered{
		{isPresent, "family", []string{"aa", "bb"}, at}, {hasLeft, "gone", []string{"cc"}, at}, {isPresent, "person/dd", []string{"dd"}, at},
		{isPresent, "=long ago", []string{}, at}, {isInDoubt, "in doubt", []string{"ee"}, at},
	}
	if !reflect.DeepEqual(m.People, want) || !reflect.DeepEqual(m.Tokens, []musterToken{{2, 10, at}}) {
		t.Errorf("%+v, tokens %+v", m.People, m.Tokens)
	}
	m.NotArrived = []string{"99"}
	var b bytes.Buffer
	if err := m.writeCSV(&b); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"state,entitlement,card_ids,token,reservation,since",
		"present,family,aa bb,,,2026-09-01T03:30:00Z", "left,gone,cc,,,2026-09-01T03:30:00Z", "present,person/dd,dd,,,2026-09-01T03:30:00Z",
		"present,'=long ago,,,,2026-09-01T03:30:00Z", "in_doubt,in doubt,ee,,,2026-09-01T03:30:00Z",
		"token,,,2,10,2026-09-01T03:30:00Z", "not_arrived,,99,,,", "",
	}
	if b.String() != strings.Join(lines, "\r\n") {
		t.Errorf("%s", b.String())
	}
}

func TestRateIsDrawn(t *testing.T) {
	since := time.Date(2026, 9, 1, 12, 0, 0, 0, time.Local)
	var b bytes.Buffer
	if err := (rate{since, since.Add(3 * time.Minute), 60, []uint64{0, 1, 100}}).print(&b, time.Minute); err != nil {
		t.Fatal(err)
	}
	want := "12:00  0\n12:01  █ 1\n12:02  " + strings.Repeat("█", widest) + " 100\n101 people entered, at most 100 in 1m0s / 入場者 101人\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}
