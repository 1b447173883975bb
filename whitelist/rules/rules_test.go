package rules_test

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the test machine's zones are not those of the terminal

	"github.com/gate-agent/gate-agent/whitelist/rules"
)

// What these tables state of pretix is in our words. Sources, read in 2026:
//
//   - the labels and types of pretix's rule editor (checkinrules, constants.ts)
//   - what pretix's server does with a rule (base/services/checkin.py) and
//     which it accepts (base/models/checkin.py, validate_rules)
//   - what pretix's scanners do offline (libpretixsync, AsyncCheckProvider)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	m, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ats(t testing.TB, s ...string) (all []time.Time) {
	t.Helper()
	for _, s := range s {
		all = append(all, at(t, s))
	}
	return all
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func compile(t testing.TB, text string) rules.Rules {
	t.Helper()
	r, err := rules.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// evening is a fact of each kind: Saturday, 3 October 2026, 19:30 in Tokyo.
func evening(t testing.TB) rules.Facts {
	return rules.Facts{
		Now: at(t, "2026-10-03T19:30:00+09:00"), Location: zone(t, "Asia/Tokyo"),
		Product: 2, Variation: 7, Gate: 4,
		Inside:    true,
		Entries:   ats(t, "2026-10-01T20:00:00+09:00", "2026-10-01T23:59:59+09:00", "2026-10-03T00:00:00+09:00", "2026-10-03T17:30:40+09:00"),
		Admission: at(t, "2026-10-03T17:00:00+09:00"),
		From:      at(t, "2026-10-03T18:00:00+09:00"),
		To:        at(t, "2026-10-03T21:00:00+09:00"),
	}
}

func TestRulesAnswerAsPretixDoes(t *testing.T) {
	type facts = rules.Facts
	for name, tt := range map[string]struct {
		rule string
		with func(*facts)
		want bool
	}{
		"no rule lets pass":                            {rule: ``, want: true},
		"an empty rule lets pass":                      {rule: ` {} `, want: true},
		"a rule without its last condition lets pass":  {rule: `{"or":[]}`, want: true},
		"and of nothing, further down, holds":          {rule: `{"or":[{"and":[]}]}`, want: true},
		"or of nothing, further down, does not":        {rule: `{"and":[{"or":[]}]}`},
		"and needs all":                                {rule: `{"and":[false,true]}`},
		"and has all":                                  {rule: `{"and":[true,true]}`, want: true},
		"or needs one":                                 {rule: `{"or":[false,true]}`, want: true},
		"or has none":                                  {rule: `{"or":[false,false]}`},
		"conditions nest":                              {rule: `{"and":[{"or":[false,{"and":[true,true]}]},true]}`, want: true},
		"a single argument needs no list":              {rule: `{"and":{"<":[{"var":["entries_number"]},5]}}`, want: true},
		"product is in the list, by an ID in quotes":   {rule: `{"inList":[{"var":"product"},{"objectList":[{"lookup":["product","1","Day"]},{"lookup":["product","2","Evening"]}]}]}`, want: true},
		"product is in the list, by an ID as number":   {rule: `{"inList":[{"var":"product"},{"objectList":[{"lookup":["product",2,"Evening"]}]}]}`, want: true},
		"product is not in the list":                   {rule: `{"inList":[{"var":"product"},{"objectList":[{"lookup":["product","1","Day"]}]}]}`},
		"nothing is in an empty list":                  {rule: `{"inList":[{"var":"product"},{"objectList":[]}]}`},
		"variation is in the list":                     {rule: `{"inList":[{"var":"variation"},{"objectList":[{"lookup":["variation","7","Child"]}]}]}`, want: true},
		"a ticket without variation is in no list":     {rule: `{"inList":[{"var":"variation"},{"objectList":[{"lookup":["variation","7","Child"]}]}]}`, with: func(f *facts) { f.Variation = 0 }},
		"gate is in the list":                          {rule: `{"inList":[{"var":"gate"},{"objectList":[{"lookup":["gate","4","North"]}]}]}`, want: true},
		"another gate is not":                          {rule: `{"inList":[{"var":"gate"},{"objectList":[{"lookup":["gate","4","North"]}]}]}`, with: func(f *facts) { f.Gate = 5 }},
		"an ID equals its lookup":                      {rule: `{"==":[{"var":"product"},{"lookup":["product","2","Evening"]}]}`, want: true},
		"1 is Monday and 7 Sunday":                     {rule: `{"==":[{"var":"now_isoweekday"},6]}`, want: true},
		"7 is Sunday":                                  {rule: `{"==":[{"var":"now_isoweekday"},7]}`, with: func(f *facts) { f.Now = f.Now.Add(24 * time.Hour) }, want: true},
		"the week day is the event's, not UTC's":       {rule: `{"==":[{"var":"now_isoweekday"},1]}`, with: func(f *facts) { f.Now = at(t, "2026-10-04T15:00:00Z") }, want: true},
		"entry status is present after an entry":       {rule: `{"==":[{"var":"entry_status"},"present"]}`, want: true},
		"entry status is absent at first":              {rule: `{"==":[{"var":"entry_status"},"absent"]}`, with: func(f *facts) { f.Inside = false }, want: true},
		"number of entries":                            {rule: `{"==":[{"var":"entries_number"},4]}`, want: true},
		"number of entries, none":                      {rule: `{"<=":[{"var":"entries_number"},0]}`, with: func(f *facts) { f.Entries = nil }, want: true},
		"entries since midnight, midnight included":    {rule: `{"==":[{"var":"entries_today"},2]}`, want: true},
		"days with an entry":                           {rule: `{"==":[{"var":"entries_days"},2]}`, want: true},
		"entries since a time, the time included":      {rule: `{"==":[{"entries_since":[{"buildTime":["custom","2026-10-01T23:59:59+09:00"]}]},3]}`, want: true},
		"entries before a time, the time excluded":     {rule: `{"==":[{"entries_before":[{"buildTime":["custom","2026-10-01T23:59:59+09:00"]}]},1]}`, want: true},
		"days since a time":                            {rule: `{"==":[{"entries_days_since":[{"buildTime":["custom","2026-10-01T23:59:59+09:00"]}]},2]}`, want: true},
		"days before a time":                           {rule: `{"==":[{"entries_days_before":[{"buildTime":["custom","2026-10-03T00:00:00+09:00"]}]},1]}`, want: true},
		"entries since now":                            {rule: `{"==":[{"entries_since":[{"var":"now"}]},0]}`, want: true},
		"minutes since the last entry, whole ones":     {rule: `{"==":[{"var":"minutes_since_last_entry"},119]}`, want: true},
		"minutes since the first entry":                {rule: `{"==":[{"var":"minutes_since_first_entry"},2850]}`, want: true},
		"-1 minutes since the last of no entries":      {rule: `{"==":[{"var":"minutes_since_last_entry"},-1]}`, with: func(f *facts) { f.Entries = nil }, want: true},
		"-1 minutes since the first of no entries":     {rule: `{"==":[{"var":"minutes_since_first_entry"},-1]}`, with: func(f *facts) { f.Entries = nil }, want: true},
		"0 minutes since an entry later than now":      {rule: `{"==":[{"var":"minutes_since_last_entry"},0]}`, with: func(f *facts) { f.Now = f.Now.Add(-3 * time.Hour) }, want: true},
		"now is before the end":                        {rule: `{"isBefore":[{"var":"now"},{"buildTime":["date_to"]}]}`, want: true},
		"the end itself is not before the end":         {rule: `{"isBefore":[{"var":"now"},{"buildTime":["date_to"]}]}`, with: func(f *facts) { f.Now = f.To }},
		"isBefore is later by its tolerance":           {rule: `{"isBefore":[{"var":"now"},{"buildTime":["date_to"]},10]}`, with: func(f *facts) { f.Now = f.To.Add(599 * time.Second) }, want: true},
		"the end of isBefore's tolerance is outside":   {rule: `{"isBefore":[{"var":"now"},{"buildTime":["date_to"]},10]}`, with: func(f *facts) { f.Now = f.To.Add(600 * time.Second) }},
		"isAfter is earlier by its tolerance":          {rule: `{"isAfter":[{"var":"now"},{"buildTime":["date_admission"]},10]}`, with: func(f *facts) { f.Now = f.Admission.Add(-599 * time.Second) }, want: true},
		"the start of isAfter's tolerance is outside":  {rule: `{"isAfter":[{"var":"now"},{"buildTime":["date_admission"]},10]}`, with: func(f *facts) { f.Now = f.Admission.Add(-600 * time.Second) }},
		"the admission itself is not after it":         {rule: `{"isAfter":[{"var":"now"},{"buildTime":["date_admission"]}]}`, with: func(f *facts) { f.Now = f.Admission }},
		"a tolerance of null is none":                  {rule: `{"isAfter":[{"var":"now"},{"buildTime":["date_admission"]},null]}`, with: func(f *facts) { f.Now = f.Admission }},
		"a negative tolerance narrows":                 {rule: `{"isBefore":[{"var":"now"},{"buildTime":["date_to"]},-90]}`},
		"a time of its own":                            {rule: `{"isAfter":[{"var":"now"},{"buildTime":["custom","2026-10-03T10:29:59.000Z"]}]}`, want: true},
		"a time of day, of the event's zone":           {rule: `{"and":[{"isAfter":[{"var":"now"},{"buildTime":["customtime","19:29:59"]}]},{"isBefore":[{"var":"now"},{"buildTime":["customtime","19:31"]}]}]}`, want: true},
		"a null behind a date is none":                 {rule: `{"isAfter":[{"var":"now"},{"buildTime":["date_from",null]}]}`, want: true},
		"an event without admission admits from start": {rule: `{"isAfter":[{"var":"now"},{"buildTime":["date_admission"]}]}`, with: func(f *facts) { f.Admission = time.Time{}; f.Now = f.From }},
		"an event without end ends at its start":       {rule: `{"isBefore":[{"var":"now"},{"buildTime":["date_to"]}]}`, with: func(f *facts) { f.To = time.Time{}; f.Now = f.From }},
	} {
		t.Run(name, func(t *testing.T) {
			f := evening(t)
			if tt.with != nil {
				tt.with(&f)
			}
			got, err := compile(t, tt.rule).Evaluate(f)
			if err != nil || got != tt.want {
				t.Errorf("%s: %v, %v; want %v", tt.rule, got, err, tt.want)
			}
		})
	}
}

// number finds what an expression of the rule language is.
func number(t *testing.T, expression string, f rules.Facts) int {
	t.Helper()
	for n := -1; n < 10000; n++ {
		if yes, err := compile(t, fmt.Sprintf(`{"==":[%s,%d]}`, expression, n)).Evaluate(f); err != nil {
			t.Fatal(err)
		} else if yes {
			return n
		}
	}
	t.Fatalf("%s is not small", expression)
	return 0
}

// In Berlin 29 March 2026 goes from 02:00 to 03:00, and 25 October has the hour
// from 02:00 to 03:00 twice.
func TestCustomtimeWhereClocksAreChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		zone, now, clock string
		starts           time.Duration
		want             string
	}{
		"no change":                            {zone: "Europe/Berlin", now: "2026-03-28T12:00:00Z", clock: "02:30", want: "2026-03-28T01:30:00Z"},
		"skipped: as if clocks were not set":   {zone: "Europe/Berlin", now: "2026-03-29T12:00:00Z", clock: "02:30", want: "2026-03-29T01:30:00Z"},
		"last moment before the gap":           {zone: "Europe/Berlin", now: "2026-03-29T12:00:00Z", clock: "01:59:59", want: "2026-03-29T00:59:59Z"},
		"first moment behind the gap":          {zone: "Europe/Berlin", now: "2026-03-29T12:00:00Z", clock: "03:00", want: "2026-03-29T01:00:00Z"},
		"evening of the day of 23 hours":       {zone: "Europe/Berlin", now: "2026-03-29T00:10:00Z", clock: "23:00", want: "2026-03-29T21:00:00Z"},
		"twice: the first":                     {zone: "Europe/Berlin", now: "2026-10-25T12:00:00Z", clock: "02:30", want: "2026-10-25T00:30:00Z"},
		"twice: the first, also from between":  {zone: "Europe/Berlin", now: "2026-10-25T01:15:00Z", clock: "02:30", want: "2026-10-25T00:30:00Z"},
		"behind the second hour":               {zone: "Europe/Berlin", now: "2026-10-24T22:10:00Z", clock: "03:00", want: "2026-10-25T02:00:00Z"},
		"evening of the day of 25 hours":       {zone: "Europe/Berlin", now: "2026-10-25T12:00:00Z", clock: "23:00", want: "2026-10-25T22:00:00Z"},
		"no daylight saving":                   {zone: "Asia/Tokyo", now: "2026-03-29T12:00:00Z", clock: "02:30", want: "2026-03-28T17:30:00Z"},
		"midnight is skipped":                  {zone: "Asia/Beirut", now: "2026-03-29T12:00:00Z", clock: "00:00", want: "2026-03-28T22:00:00Z"},
		"a whole day is skipped":               {zone: "Pacific/Apia", now: "2011-12-31T12:00:00Z", clock: "02:00", want: "2011-12-31T12:00:00Z"},
		"past midnight, of the day before":     {zone: "Asia/Tokyo", now: "2026-10-04T02:00:00+09:00", starts: 6 * time.Hour, clock: "23:00", want: "2026-10-03T23:00:00+09:00"},
		"past midnight, at the end of the day": {zone: "Asia/Tokyo", now: "2026-10-03T20:00:00+09:00", starts: 6 * time.Hour, clock: "03:00", want: "2026-10-04T03:00:00+09:00"},
		"the day starts in the gap":            {zone: "Europe/Berlin", now: "2026-03-29T01:15:00Z", starts: 150 * time.Minute, clock: "12:00", want: "2026-03-28T11:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			f := rules.Facts{Now: at(t, tt.now), Location: zone(t, tt.zone), DayStarts: tt.starts}
			want := at(t, tt.want)
			f.Entries = []time.Time{want.Add(-time.Second), want}
			if n := number(t, fmt.Sprintf(`{"entries_since":[{"buildTime":["customtime",%q]}]}`, tt.clock), f); n != 1 {
				t.Errorf("%s is not at %s: %d entries since", tt.clock, tt.want, n)
			}
		})
	}
}

func TestDaysWhereClocksAreChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		zone, now   string
		starts      time.Duration
		entries     []string
		today, days int
		weekday     int
	}{
		"23 hours, both ends": {
			zone: "Europe/Berlin", now: "2026-03-29T21:59:59Z", weekday: 7, today: 2, days: 2,
			entries: []string{"2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z"},
		},
		"the moment after 23 hours": {
			zone: "Europe/Berlin", now: "2026-03-29T22:00:00Z", weekday: 1, today: 0, days: 2,
			entries: []string{"2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z"},
		},
		"25 hours, both ends": {
			zone: "Europe/Berlin", now: "2026-10-25T22:59:59Z", weekday: 7, today: 2, days: 2,
			entries: []string{"2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"},
		},
		"the moment after 25 hours": {
			zone: "Europe/Berlin", now: "2026-10-25T23:00:00Z", weekday: 1, today: 0, days: 2,
			entries: []string{"2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"},
		},
		"no daylight saving": {
			zone: "Asia/Tokyo", now: "2026-03-29T14:59:59Z", weekday: 7, today: 1, days: 2,
			entries: []string{"2026-03-28T14:59:59Z", "2026-03-28T15:00:00Z"},
		},
		"without midnight": {
			zone: "Asia/Beirut", now: "2026-03-29T12:00:00Z", weekday: 7, today: 1, days: 2,
			entries: []string{"2026-03-28T21:59:59Z", "2026-03-28T22:00:00Z"},
		},
		"a day that was skipped": {
			zone: "Pacific/Apia", now: "2011-12-31T09:00:00+14:00", weekday: 6, today: 1, days: 2,
			entries: []string{"2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z"},
		},
		"a night belongs to the evening before": {
			zone: "Asia/Tokyo", now: "2026-10-04T05:59:59+09:00", starts: 6 * time.Hour, weekday: 6, today: 2, days: 2,
			entries: []string{"2026-10-03T05:59:59+09:00", "2026-10-03T06:00:00+09:00", "2026-10-04T02:00:00+09:00"},
		},
		"and ends with it": {
			zone: "Asia/Tokyo", now: "2026-10-04T06:00:00+09:00", starts: 6 * time.Hour, weekday: 7, today: 0, days: 2,
			entries: []string{"2026-10-03T05:59:59+09:00", "2026-10-03T06:00:00+09:00", "2026-10-04T02:00:00+09:00"},
		},
		"a day that starts in the hour that is there twice starts once": {
			zone: "Europe/Berlin", now: "2026-10-25T01:10:00Z", starts: 150 * time.Minute, weekday: 7, today: 2, days: 2,
			entries: []string{"2026-10-25T00:29:59Z", "2026-10-25T00:30:00Z", "2026-10-25T01:10:00Z"},
		},
		"no location is UTC": {
			now: "2026-10-04T00:00:00Z", weekday: 7, today: 1, days: 2,
			entries: []string{"2026-10-03T23:59:59Z", "2026-10-04T00:00:00Z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := rules.Facts{Now: at(t, tt.now), DayStarts: tt.starts, Entries: ats(t, tt.entries...)}
			if tt.zone != "" {
				f.Location = zone(t, tt.zone)
			}
			for name, want := range map[string]int{"entries_today": tt.today, "entries_days": tt.days, "now_isoweekday": tt.weekday} {
				if n := number(t, fmt.Sprintf(`{"var":%q}`, name), f); n != want {
					t.Errorf("%s is %d, want %d", name, n, want)
				}
			}
		})
	}
}

func TestMinutesAreElapsedOnes(t *testing.T) {
	for name, tt := range map[string]struct {
		entry, now string
		want       int
	}{
		"clocks set forward": {"2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", 60},
		"clocks set back":    {"2026-10-25T01:30:00+02:00", "2026-10-25T03:30:00+01:00", 180},
	} {
		f := rules.Facts{Now: at(t, tt.now), Location: zone(t, "Europe/Berlin"), Entries: ats(t, tt.entry)}
		if n := number(t, `{"var":"minutes_since_last_entry"}`, f); n != tt.want {
			t.Errorf("%s: %d minutes, want %d", name, n, tt.want)
		}
	}
}

func TestMistakesNameTheirPlace(t *testing.T) {
	for rule, want := range map[string]string{
		`null`:                                 `rule, at the top: a rule is an object with one operator, not null`,
		`true`:                                 `rule, at the top: a rule is an object with one operator, not true`,
		`[]`:                                   `rule, at the top: a rule is an object with one operator, not a list`,
		`{"and":[true]} x`:                     `rule: not JSON, at byte 16: invalid character 'x'`,
		`{"and":[true,]}`:                      `rule: not JSON, at byte 14: invalid character ']'`,
		`{"and":[true]`:                        `rule: not JSON, at byte 13: unexpected end of JSON input`,
		"{\"and\":[\"\xff\"]}":                 `rule: not UTF-8`,
		`{"and":[true],"and":[false]}`:         `rule, at the top: "and" stands beside "and": one operator in each object`,
		`{"and":[{"or":[],"and":[]}]}`:         `rule, at /and/0: "and" stands beside "or"`,
		`{"and":[{}]}`:                         `rule, at /and/0: an empty condition`,
		`{"and":[true,{"!":[true]}]}`:          `rule, at /and/1: unknown operator "!"`,
		`{"a/b~c":[{}]}`:                       `rule, at /a~1b~0c/0: an empty condition`,
		`{"":[]}`:                              `rule, at the top: unknown operator ""`,
		`{"var":"product"}`:                    `rule, at the top: "var" gives a value: compare it with another`,
		`{"or":[3]}`:                           `rule, at /or/0: 3 is no condition`,
		`{"or":["present"]}`:                   `rule, at /or/0: the text "present" is no condition`,
		`{"or":[null]}`:                        `rule, at /or/0: null is no condition`,
		`{"or":[[true]]}`:                      `rule, at /or/0: a list is no condition`,
		`{"<":[{"var":"entries_number"}]}`:     `rule, at the top: "<" compares 2 values, not 1`,
		`{"<":[1,{"var":"entries_days"},3]}`:   `rule, at the top: "<" compares 2 values, not 3`,
		`{"<":[{"var":"entries_number"},"3"]}`: `rule, at /</1: the text "3": texts are "present" and "absent", and a number stands without quotes`,
		`{"<":[{"var":"entries_number"},"present"]}`:                                   `rule, at the top: "<" compares a number with a status`,
		`{"<":[{"var":"entries_number"},2.5]}`:                                         `rule, at /</1: 2.5 is not a whole number of 32 bits`,
		`{"<":[{"var":"entries_number"},1e99]}`:                                        `rule, at /</1: 1e99 is not a whole number`,
		`{"<":[{"var":"entries_number"},null]}`:                                        `rule, at /</1: null is no value`,
		`{"<":[{"var":"entries_number"},true]}`:                                        `rule, at /</1: true is no value`,
		`{"<":[{"var":"entries_number"},[3]]}`:                                         `rule, at /</1: a list is no value`,
		`{"<":[{"var":"entries_number"},{"<":[1,2]}]}`:                                 `rule, at /</1: "<" gives no value to compare`,
		`{"<":[{"var":"now"},{"buildTime":["date_to"]}]}`:                              `rule, at the top: "<" compares no times: use isBefore or isAfter`,
		`{"<":[{"var":"entry_status"},"present"]}`:                                     `rule, at the top: "<" compares numbers, not a status`,
		`{"==":[{"var":"product"},3]}`:                                                 `rule, at the top: "==" compares a product with a number`,
		`{"==":[{"var":"question_4"},3]}`:                                              `rule, at /==/0/var: unknown variable, the text "question_4"; there are product,`,
		`{"==":[{"var":["product",3]},3]}`:                                             `rule, at /==/0: var has one name, not 2 values`,
		`{"==":[{"var":[]},3]}`:                                                        `rule, at /==/0: var has one name, not 0 values`,
		`{"==":[{"var":1},3]}`:                                                         `rule, at /==/0/var: unknown variable, 1;`,
		`{"==":[{"var":"entries_since"},3]}`:                                           `rule, at /==/0/var: entries_since needs a time`,
		`{"==":[{"entries_since":[]},3]}`:                                              `rule, at /==/0: entries_since has one time, not 0 values`,
		`{"==":[{"entries_since":[{"var":"product"}]},3]}`:                             `rule, at /==/0/entries_since/0: product is not a time`,
		`{"inList":[{"var":"product"}]}`:                                               `rule, at the top: inList has 2 values, a variable and an objectList, not 1`,
		`{"inList":[{"var":"entries_number"},{"objectList":[]}]}`:                      `rule, at /inList/0: inList looks for a product, a variation or a gate, not a number`,
		`{"inList":[{"var":"product"},[1,2]]}`:                                         `rule, at /inList/1: inList looks in an objectList, not in a list`,
		`{"inList":[{"var":"product"},{"objectList":[3]}]}`:                            `rule, at /inList/1/objectList/0: not a lookup of a product`,
		`{"inList":[{"var":"product"},{"objectList":[{"lookup":["gate","3","N"]}]}]}`:  `rule, at /inList/1/objectList/0: not a lookup of a product`,
		`{"inList":[{"var":"product"},{"objectList":{"lookup":["item","3","N"]}}]}`:    `rule, at /inList/1/objectList/lookup/0: lookup finds a product, a variation or a gate, not the text "item"`,
		`{"inList":[{"var":"product"},{"objectList":{"lookup":["product","3"]}}]}`:     `rule, at /inList/1/objectList: lookup has 3 values, a kind, an ID and a name, not 2`,
		`{"inList":[{"var":"product"},{"objectList":{"lookup":["product","x","N"]}}]}`: `rule, at /inList/1/objectList/lookup/1: an ID is a whole number from 1 to 4294967295, not the text "x"`,
		`{"inList":[{"var":"product"},{"objectList":{"lookup":["product",0,"N"]}}]}`:   `rule, at /inList/1/objectList/lookup/1: an ID is`,
		`{"inList":[{"var":"product"},{"objectList":{"lookup":["product",1,2]}}]}`:     `rule, at /inList/1/objectList/lookup/2: a name is a text, not 2`,
		`{"inList":[{"var":"gate"},{"objectList":{"lookup":["gate",1,"\u001b[2J"]}}]}`: `rule, at /inList/1/objectList/lookup/2: a name is one line without control characters`,
		`{"isBefore":[{"var":"now"}]}`:                                                 `rule, at the top: isBefore has 2 values, both times, or 3 with a tolerance in minutes, not 1`,
		`{"isBefore":[{"var":"now"},"2026-10-03T18:00:00Z"]}`:                          `rule, at /isBefore/1: the text "2026-10-03T18:00:00Z": texts are`,
		`{"isBefore":[{"var":"entries_number"},{"buildTime":["date_to"]}]}`:            `rule, at /isBefore/0: entries_number is not a time: use now or buildTime`,
		`{"isBefore":[{"var":"now"},5]}`:                                               `rule, at /isBefore/1: 5 is not a time`,
		`{"isBefore":[{"var":"now"},{"buildTime":["date_to"]},"10"]}`:                  `rule, at /isBefore/2: a tolerance is a whole number of minutes, at most 527040, not the text "10"`,
		`{"isBefore":[{"var":"now"},{"buildTime":["date_to"]},527041]}`:                `rule, at /isBefore/2: a tolerance is`,
		`{"isBefore":[{"var":"now"},{"buildTime":["date_start"]}]}`:                    `rule, at /isBefore/1/buildTime/0: buildTime has the kinds custom, customtime, date_from, date_to and date_admission, not the text "date_start"`,
		`{"isBefore":[{"var":"now"},{"buildTime":[]}]}`:                                `rule, at /isBefore/1: buildTime has no kind`,
		`{"isBefore":[{"var":"now"},{"buildTime":[null,null]}]}`:                       `rule, at /isBefore/1/buildTime/0: buildTime has the kinds custom, customtime, date_from, date_to and date_admission, not null`,
		`{"isBefore":[{"var":"now"},{"buildTime":["date_to","18:00"]}]}`:               `rule, at /isBefore/1: behind date_to there is nothing to say`,
		`{"isBefore":[{"var":"now"},{"buildTime":["custom"]}]}`:                        `rule, at /isBefore/1: custom has 1 value, the time, not 0`,
		`{"isBefore":[{"var":"now"},{"buildTime":["custom","2026-10-03T18:00:00"]}]}`:  `rule, at /isBefore/1/buildTime/1: the text "2026-10-03T18:00:00" is not a time with its offset`,
		`{"isBefore":[{"var":"now"},{"buildTime":["customtime","24:00"]}]}`:            `rule, at /isBefore/1/buildTime/1: the text "24:00" is not a time of day`,
		`{"isBefore":[{"var":"now"},{"buildTime":["customtime",1800]}]}`:               `rule, at /isBefore/1/buildTime/1: 1800 is not a time of day`,
	} {
		if _, err := rules.Compile(rule); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", rule, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	nest := func(n int) string { return strings.Repeat(`{"and":`, n) + "true" + strings.Repeat("}", n) }
	wide := func(n int) string {
		return `{"or":[` + strings.TrimSuffix(strings.Repeat(`{"or":[]},`, n), ",") + `]}`
	}
	long := func(n int) string { return `{"or":[true]` + strings.Repeat(" ", n-len(`{"or":[true]}`)) + `}` }
	for name, tt := range map[string]struct{ most, more, want string }{
		"depth":     {nest(rules.MaxDepth), nest(rules.MaxDepth + 1), "more than 32 operators and lists within each other"},
		"operators": {wide(rules.MaxOperators - 1), wide(rules.MaxOperators), "more than 1024 operators"},
		"text":      {long(rules.MaxText), long(rules.MaxText + 1), "rule: 16385 bytes, at most 16384 are allowed"},
	} {
		compile(t, tt.most)
		if _, err := rules.Compile(tt.more); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The part that fails decides nothing here, and still fails the rule: whether a
// rule works shall not depend on who comes.
func TestADateThatTheEventDoesNotHaveLetsNobodyPass(t *testing.T) {
	for _, name := range []string{"date_from", "date_to", "date_admission"} {
		rule := fmt.Sprintf(`{"or":[true,{"isAfter":[{"var":"now"},{"buildTime":[%q]}]},{">":[{"entries_since":[{"buildTime":[%q]}]},0]}]}`, name, name)
		yes, err := compile(t, rule).Evaluate(rules.Facts{Now: at(t, "2026-10-03T19:30:00+09:00")})
		want := "rule, at /or/1/isAfter/1: the event has no " + name + ": "
		if yes || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, %v", name, yes, err)
		}
	}
}

func TestExplainShowsEveryComparison(t *testing.T) {
	r := compile(t, `{"or":[
		{"and":[{"inList":[{"var":"product"},{"objectList":[{"lookup":["product","2","大人　一般"]},{"lookup":["product","3","VIP\u202e"]}]}]}, {"<":[{"var":"entries_today"},3]}]},
		{"isAfter":[{"var":"now"},{"buildTime":["customtime","23:00"]},15]},
		{"<=":[{"entries_since":[{"buildTime":["custom","2026-10-01T23:00:00+09:00"]}]},0]},
		{"==":[{"var":"entry_status"},"absent"]},
		{"isBefore":[{"var":"now"},{"buildTime":["date_to"]}]},
		false]}`)
	f := evening(t)
	f.From, f.To = time.Time{}, time.Time{}
	got, err := r.Explain(f)
	fails := "rule, at /or/4/isBefore/1: the event has no date_to: give it its dates, or take this part out of the rule"
	want := []rules.Check{
		{`product is one of [2 "大人　一般", 3 "VIP\u202e"]`, "product = 2", true},
		{"entries_today < 3", "entries_today = 2", true},
		{"now is after 23:00, tolerance 15 min", "now = 2026-10-03T19:30:00+09:00, 23:00 = 2026-10-03T23:00:00+09:00", false},
		{"entries_since(2026-10-01T23:00:00+09:00) <= 0", "entries_since(2026-10-01T23:00:00+09:00) = 3", false},
		{"entry_status == absent", "entry_status = present", false},
		{"now is before date_to", fails, false},
		{"false", "", false},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err == nil || err.Error() != fails {
		t.Errorf("error: %v", err)
	}
	if got, err := (rules.Rules{}).Explain(f); got != nil || err != nil {
		t.Errorf("no rule: %v, %v", got, err)
	}
}

func TestIDsAreThoseNamed(t *testing.T) {
	got := compile(t, `{"and":[
		{"inList":[{"var":"product"},{"objectList":[{"lookup":["product","3","b"]},{"lookup":["product",2,"a"]},{"lookup":["product","2","a"]}]}]},
		{"or":[{"inList":[{"var":"gate"},{"objectList":[{"lookup":["gate","9","N"]}]}]},{"!=":[{"var":"variation"},{"lookup":["variation","7","c"]}]}]}]}`).IDs()
	if want := (rules.IDs{Products: []uint32{2, 3}, Variations: []uint32{7}, Gates: []uint32{9}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTextsOfOneRuleHaveOneForm(t *testing.T) {
	const want = `{"and":[{"isAfter":[{"var":"now"},{"buildTime":"date_admission"}]},{"<":[{"entries_since":{"buildTime":["customtime","23:00"]}},1]},` +
		`{"inList":[{"var":"gate"},{"objectList":{"lookup":["gate",4,"<N>"]}}]},{"or":{"==":[{"var":"entry_status"},"absent"]}}]}`
	for _, text := range []string{want, `{ "and" : [
		{"isAfter":[{"var":["now"]},{"buildTime":["date_admission",null]},0]},
		{"<":[{"entries_since":[{"buildTime":["customtime","23:00:00"]}]},1]},
		{"inList":[{"var":"gate"},{"objectList":[{"lookup":["gate","4","\u003cN\u003e"]}]}]},
		{"or":[{"==":[{"var":"entry_status"},"absent"]}]}]}`} {
		if got := compile(t, text).String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if s := (rules.Rules{}).String(); s != "" {
		t.Errorf("no rule is %q", s)
	}
}

func TestRulesServeManyGoroutines(t *testing.T) {
	r, f := compile(t, examples(t)[0]), evening(t)
	want := answer(t, r, f)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if got, err := r.Evaluate(f); err != nil || !strings.HasPrefix(want, fmt.Sprint(got)) {
					t.Errorf("%v, %v; want %s", got, err, want)
				}
			}
		})
	}
	all.Wait()
}
