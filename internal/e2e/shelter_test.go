package e2e

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
)

type report struct {
	Present, Left, Unnamed uint64
	InDoubt                uint64 `json:"in_doubt"`
	People                 []struct {
		State, Entitlement string
		CardIDs            []string `json:"card_ids"`
	}
	Tokens []struct {
		Token       uint32
		Reservation uint64
	}
	List       *struct{ Rows int }
	NotArrived []string `json:"not_arrived"`
}

// A day at a shelter, with the real agent.
func TestShelterTellsWhoIsThere(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), staffed(t)
	s.edit(t, "driver = \"simulator\"", "driver = \"simulator\"\nmode = \"muster\"")
	s.edit(t, "first_use = true", "first_use = false")
	w := theTown(t)
	a := start(t, s, r)
	tell := func(people, tokens, missing int) report {
		t.Helper()
		m := reads[report](t, s, "muster", "report")
		if int(m.Present) != people || len(m.Tokens) != tokens || len(m.NotArrived) != missing || m.List == nil || m.List.Rows != 10 {
			t.Errorf("%d present, tokens %+v, %d missing of %+v; want %d, %d, %d", m.Present, m.Tokens, len(m.NotArrived), m.List, people, tokens, missing)
		}
		return m
	}
	tell(0, 0, 10)
	want(t, r.tap(a, w.alice(t)), terminal.Admit, terminal.OK)
	want(t, r.tap(a, w.alice(t)), terminal.Deny, terminal.AlreadyInside) // is not sure
	want(t, r.tap(a, w.bob(t)), terminal.Admit, terminal.OK)
	tell(2, 0, 8)

	// Without a card
	if got := does[api.Token](t, s, 0, "kei", "muster", "token"); got.Token != 1 || got.Reservation == 0 {
		t.Errorf("%+v", got)
	}
	want(t, a.event(), terminal.Admit, terminal.OK)
	left := does[api.Token](t, s, 0, "kei", "muster", "token", "--reason", "card under the rubble")
	want(t, a.event(), terminal.Admit, terminal.OK)
	tell(4, 2, 8)
	does[api.Annulled](t, s, 0, "kei", "annul", strconv.FormatUint(left.Reservation, 10), "--reason", "left")
	tell(3, 1, 8)

	// They have found it.
	for _, c := range []struct{ token, why string }{{"2", "merged already"}, {"7", "not given"}} {
		if _, stderr, code := s.as(t, "kei", "muster", "merge", c.token); code != 4 || !strings.Contains(stderr, "there is no such token: it was not given here, or is merged already") {
			t.Errorf("%s: exit code %d: %s", c.why, code, stderr)
		}
	}
	if e := does[api.Expected](t, s, 0, "kei", "muster", "merge", "1"); time.Until(e.Until) > api.Expects || time.Until(e.Until) < api.Expects/2 {
		t.Errorf("%+v", e)
	}
	want(t, r.tap(a, w.person(t, "listed, SIM of a phone", "external-auth").Image), terminal.Admit, terminal.OK)
	tell(3, 0, 7)

	// A card of no list that proves itself by the birth date that somebody types.
	other, err := w.Card(perso.CardOptions{BirthDate: world.BirthDate})
	if err != nil {
		t.Fatal(err)
	}
	born := world.BirthDate.Format("20060102")
	p, out := newPTY(t), new(output)
	cmd := exec.Command(filepath.Join(programs, "gate-agent"), "muster", "birth-date", "--config", s.config, "--staff", "kei", "--passcode-file", s.path("kei.passcode"))
	cmd.Stdout = out
	p.control(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	p.sees("Birth date (YYYYMMDD, not shown): ")
	if p.echoes() {
		t.Error("the terminal shows what is typed")
	}
	p.types("20 July 1985")
	p.sees("The birth date is 8 digits, YYYYMMDD.")
	p.sees("Birth date (YYYYMMDD, not shown): ")
	p.types(born)
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "1分以内にカードをかざしてください") {
		t.Fatalf("%v: %s", err, out)
	}
	e := r.tap(a, other)
	want(t, e, terminal.Admit, terminal.OK)
	if e.Method != "tap-use" {
		t.Errorf("by %s", e.Method)
	}
	m := tell(4, 0, 7)
	if last := m.People[len(m.People)-1]; last.State != "present" || last.Entitlement != "person/"+e.CardID || len(last.CardIDs) != 1 || last.CardIDs[0] != e.CardID {
		t.Errorf("%+v", last)
	}
	if text := s.must(t, "muster", "report"); !strings.Contains(text, "4 / 在所") || !strings.Contains(text, "7 of the 10 rows of the list / 名簿の未到着") || strings.Contains(text, e.CardID) {
		t.Errorf("%s", text)
	}
	table, stderr, code := s.run(t, "muster", "report", "--csv")
	if code != 0 || !strings.HasPrefix(table, "state,entitlement,card_ids,") || strings.Count(table, "present,") != 4 || strings.Count(table, "not_arrived,") != 7 || !strings.Contains(stderr, "personal data") {
		t.Errorf("exit code %d: %s%s", code, table, stderr)
	}
	a.stop()
	tell(4, 0, 7)
	// The card says it in Japanese years, the record and the log in none.
	for where, text := range map[string]string{"the log": a.stderr.String(), "the screen": p.screen.String(), "the journal": s.must(t, "journal", "export", "--format", "jsonl")} {
		if strings.Contains(text, born) || strings.Contains(text, "1985-07-20") {
			t.Errorf("the birth date is in %s", where)
		}
	}
}

// Elsewhere nobody is counted so, and a birth date is asked for by nobody's file.
func TestVenueIsNoShelter(t *testing.T) {
	t.Parallel()
	s := staffed(t)
	a := launch(t, s)
	a.says("in force")
	if _, stderr, code := s.as(t, "kei", "muster", "token"); code != 4 || !strings.Contains(stderr, `this terminal is no shelter: gate.mode is "venue"`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, stderr, code := s.as(t, "kei", "muster", "birth-date"); code != 2 || !strings.Contains(stderr, "no terminal at which somebody could type a birth date") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	a.stop()
}
