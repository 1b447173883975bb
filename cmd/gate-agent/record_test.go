package main

import (
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func TestWhatIsKeptIsNotForgotten(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	for name, c := range map[string]struct {
		used    journal.Used
		mode    terminal.Mode
		endless time.Duration
		want    bool
	}{
		"a ticket that ended long ago":                {journal.Used{Entitlement: "a", Until: ago(31), Last: ago(60)}, terminal.Venue, 0, true},
		"a ticket that ended just now":                {journal.Used{Entitlement: "a", Until: ago(29), Last: ago(60)}, terminal.Venue, 0, false},
		"a ticket to come":                            {journal.Used{Entitlement: "a", Until: ago(-100), Last: ago(60)}, terminal.Venue, 90 * day, false},
		"a ticket without end":                        {journal.Used{Entitlement: "a", Last: ago(1000)}, terminal.Venue, 0, false},
		"a ticket without end, long not used":         {journal.Used{Entitlement: "a", Last: ago(91)}, terminal.Venue, 90 * day, true},
		"a ticket without end, used":                  {journal.Used{Entitlement: "a", Last: ago(89)}, terminal.Venue, 90 * day, false},
		"somebody who left a venue by no gate":        {journal.Used{Entitlement: "a", Until: ago(31), Last: ago(60), Inside: 1}, terminal.Venue, 0, true},
		"somebody who is at a shelter":                {journal.Used{Entitlement: "person/00ff", Last: ago(1000), Inside: 1}, terminal.Muster, 90 * day, false},
		"somebody with a ticket, at a shelter":        {journal.Used{Entitlement: "a", Until: ago(31), Last: ago(60), Inside: 1}, terminal.Muster, 90 * day, false},
		"somebody who was at a shelter":               {journal.Used{Entitlement: "person/00ff", Last: ago(1000)}, terminal.Muster, 90 * day, true},
		"the number of a token, never once more":      {journal.Used{Entitlement: "token/3", Last: ago(1000)}, terminal.Muster, 90 * day, false},
		"the number of a token, when it is no gate's": {journal.Used{Entitlement: "token/3", Last: ago(1000)}, terminal.Venue, 90 * day, false},
	} {
		conf := new(config)
		conf.Gate.Mode, conf.Journal.Keep.Duration, conf.Journal.KeepEndless.Duration = c.mode, 30*day, c.endless
		if got := conf.over(now)(c.used); got != c.want {
			t.Errorf("%s: forgotten %v, want %v", name, got, c.want)
		}
	}
}

func TestRetentionIsChecked(t *testing.T) {
	for _, c := range []struct {
		keep, endless, checkpoint time.Duration
		want                      string
	}{
		{0, 0, 0, ""}, {24 * time.Hour, 24 * time.Hour, time.Second, ""},
		{time.Hour, 0, 0, "journal.keep is 1h0m0s, want 24h or more"},
		{-time.Hour, 0, 0, "journal.keep is"},
		{0, time.Hour, 0, "journal.keep_endless is 1h0m0s, want journal.keep"},
		{48 * time.Hour, 47 * time.Hour, 0, "no less than it, 48h0m0s"},
		{0, 0, time.Millisecond, "journal.checkpoint is 1ms, want at least 1s"},
	} {
		conf := new(config)
		conf.Journal.Keep.Duration, conf.Journal.KeepEndless.Duration, conf.Journal.Checkpoint.Duration = c.keep, c.endless, c.checkpoint
		if err := conf.checkRecord(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestMoment(t *testing.T) {
	tokyo := time.FixedZone("JST", 9*60*60)
	now := time.Date(2026, 9, 1, 3, 30, 0, 0, tokyo)
	for text, want := range map[string]time.Time{
		"": {}, "today": time.Date(2026, 9, 1, 0, 0, 0, 0, tokyo), "90m": now.Add(-90 * time.Minute), "0s": now,
		"2026-08-01T18:00:00+09:00": time.Date(2026, 8, 1, 18, 0, 0, 0, tokyo),
	} {
		if got, err := moment("since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "2026-08-01", "1"} {
		if _, err := moment("since", text, now); err == nil || !strings.Contains(err.Error(), `--since "`+text+`": want a time such as`) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
