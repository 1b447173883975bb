package whitelist

import (
	"strings"
	"testing"
	"time"
)

func TestRulesThatCannotBeJudgedAreRefusedWithTheList(t *testing.T) {
	from := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	v := Venue{
		TimeZone: "Asia/Tokyo", From: from,
		Gates:    []Gate{{ID: 1, Name: "gate-1"}},
		Products: []Product{{ID: 7, Name: "day"}},
	}
	for _, c := range []struct{ rules, want string }{
		{``, ""},
		{`{"isAfter":[{"var":"now"},{"buildTime":["date_admission"]},30]}`, ""},
		{`{"inList":[{"var":"product"},{"objectList":[{"lookup":["product","7","day"]}]}]}`, ""},
		{`{"inList":[{"var":"product"},{"objectList":[{"lookup":["product","8","evening"]}]}]}`, "unknown product 8"},
		{`{"inList":[{"var":"gate"},{"objectList":[{"lookup":["gate","2","gate-2"]}]}]}`, "unknown gate 2"},
		{`{"<":[{"var":"entries_number"},"three"]}`, `the text "three"`},
		{`{"<":[{"var":"entires_number"},3]}`, "entires_number"},
		{`{"and":[`, "rule"},
		{`{"isBefore":[{"var":"now"},{"buildTime":["date_to"]}]}`, ""},
		{strings.Repeat(" ", MaxRules+1), "16384"},
	} {
		v.Rules = c.rules
		err := v.check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.rules, err, c.want)
		}
	}
	v.From, v.Rules = time.Time{}, `{"isAfter":[{"var":"now"},{"buildTime":["date_from"]}]}`
	if err := v.check(); err == nil {
		t.Error("a rule needs the event's beginning, which the venue does not say")
	}
}
