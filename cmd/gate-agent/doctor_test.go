package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli/clitest"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/terminal/staff"
)

// A bench is a whole terminal on which things are broken: list in force, roster with
// two supervisors, journal with taps.
type bench struct {
	*world.World
	dir    string
	config string
}

// Whom nothing that the doctor says may name.
const (
	patientCard   = "c0ffeec0ffeec0ffeec0ffeec0ffee00"
	patientTicket = "ticket-of-hanako"
	patientStaff  = "mori-hanako"
)

func newBench(t *testing.T) bench {
	t.Helper()
	w, err := world.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	b := bench{World: w, dir: filepath.Join(t.TempDir(), "terminal")}
	if b.config, err = w.Install(b.dir, `["tap-use", "external-auth"]`, list); err != nil {
		t.Fatal(err)
	}
	b.put(t, "config.toml", b.read(t, "config.toml")+"\n[staff]\nfile = \"staff.toml\"\n\n[journal]\nkeep = \"720h\"\n")
	hash, err := staff.Hash([]byte("persimmon-4"))
	if err != nil {
		t.Fatal(err)
	}
	roster := ""
	for _, name := range []string{patientStaff, "sato"} {
		roster += fmt.Sprintf("[[staff]]\nname = %q\nrole = \"supervisor\"\npasscode = %q\n", name, hash)
	}
	b.put(t, "staff.toml", roster)

	s := b.site(t)
	store, err := s.c.openStore()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Import(t.Context(), bytes.NewReader(list), time.Now(), func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	b.tap(t, 30, 300*time.Millisecond)
	return b
}

// site is the terminal as a doctor finds it.
func (b bench) site(t *testing.T) *site {
	t.Helper()
	s, err := newSite(t.Context(), b.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// tap puts taps into the journal that took so long.
func (b bench) tap(t *testing.T, n int, took time.Duration) {
	t.Helper()
	j, err := journal.Open(filepath.Join(b.dir, "state", "journal.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		err := j.Record(t.Context(), terminal.Decision{
			Verdict: terminal.Deny, Reason: terminal.NotListed, Method: jpki.TapUse, Instant: time.Now(),
			CardID: patientCard, Entitlement: patientTicket, Elapsed: took,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func (b bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b bench) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (b bench) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keep puts a file back at the end of the test, content and mode.
func (b bench) keep(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().IsRegular() {
		text := b.read(t, name)
		t.Cleanup(func() { b.put(t, name, text) })
	}
	t.Cleanup(func() {
		if err := os.Chmod(b.path(name), info.Mode().Perm()); err != nil {
			t.Error(err)
		}
	})
}

// edit replaces text in a file, which must have it, until the end of the test.
func (b bench) edit(t *testing.T, name, old, with string) {
	t.Helper()
	b.keep(t, name)
	text := b.read(t, name)
	if !strings.Contains(text, old) {
		t.Fatalf("no %q in %s", old, name)
	}
	b.put(t, name, strings.Replace(text, old, with, 1))
}

func (b bench) chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	b.keep(t, name)
	if err := os.Chmod(b.path(name), mode); err != nil {
		t.Fatal(err)
	}
}

// Every rule of the page is in the program, in the same words and with the same
// checker, and the reverse. A check that no rule names has to be of those that say
// whether a terminal works.
func TestEveryRuleIsOnItsPage(t *testing.T) {
	text := clitest.Page(t, "terminal-rules.md")
	var shown []rule
	for _, m := range regexp.MustCompile("(?m)^\\| (R[^ |]*) \\| (.*?)<br>(.*?) \\| .* \\| [KLO][^|]* \\| (people|`[a-z-]+`) \\|$").FindAllStringSubmatch(text, -1) {
		shown = append(shown, rule{m[1], strings.Trim(strings.TrimPrefix(m[4], "people"), "`"), m[2], m[3]})
	}
	if n := len(regexp.MustCompile(`(?m)^\| R\d`).FindAllString(text, -1)); n != len(shown) {
		t.Errorf("%d rows of rules, %d in the form of the page", n, len(shown))
	}
	rules := terminalRules()
	for i := range max(len(rules), len(shown)) {
		switch {
		case i >= len(rules):
			t.Errorf("the program lacks %+v", shown[i])
		case i >= len(shown):
			t.Errorf("docs/terminal-rules.md lacks %+v", rules[i])
		case rules[i] != shown[i]:
			t.Errorf("the program has\n%+v\ndocs/terminal-rules.md\n%+v", rules[i], shown[i])
		}
	}
	used := healthChecks()
	for _, r := range rules {
		if r.check != "" {
			used = append(used, r.check)
		}
	}
	for _, name := range used {
		if allChecks()[name] == nil {
			t.Errorf("there is no check %q", name)
		}
	}
	for name := range allChecks() {
		if !slices.Contains(used, name) {
			t.Errorf("nobody asks for the check %q", name)
		}
	}
}

// What cannot be looked at is not in order.
func TestNothingIsInOrderThatCouldNotBeChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newSite(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	d := s.diagnose(true)
	if d.Summary.OK+d.Summary.Warning+d.Summary.DoesNotApply != 0 || d.Summary.Failed == 0 || len(d.Rules) != len(terminalRules()) {
		t.Errorf("%+v", d.Summary)
	}
	for _, c := range d.Checks[1:] {
		if !strings.HasPrefix(c.Evidence, "not checked: ") {
			t.Errorf("%s: %s", c.Check, c.Evidence)
		}
	}
	var zero summary
	if zero.count(finding{}.Result); zero.Failed != 1 {
		t.Error("a check that finds nothing has not failed")
	}
}

func TestDoctorNamesNobody(t *testing.T) {
	t.Setenv("PCSCLITE_CSOCK_NAME", filepath.Join(t.TempDir(), "absent"))
	b := newBench(t)
	d := b.site(t).diagnose(true)
	said, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	for _, japanese := range []bool{false, true} {
		if err := d.print(&printed, japanese); err != nil {
			t.Fatal(err)
		}
	}
	secret := strings.TrimSpace(b.read(t, "key-source"))
	for _, word := range []string{patientCard, patientTicket, patientStaff, "sato", "argon2id$", secret} {
		if strings.Contains(string(said)+printed.String(), word) {
			t.Errorf("it says %q", word)
		}
	}
	for _, r := range terminalRules() {
		if n := strings.Count(printed.String(), "\n"+r.number+" "); r.check != "" && n != 2 {
			t.Errorf("%s has %d lines in two prints", r.number, n)
		}
		if n := strings.Count(printed.String(), "\n[ ] "+r.number+" "); r.check == "" && n != 2 {
			t.Errorf("%s has %d empty boxes in two prints", r.number, n)
		}
	}
	if n := len(d.Checks) + len(d.Rules); n != d.Summary.OK+d.Summary.Warning+d.Summary.Failed+d.Summary.DoesNotApply+d.Summary.People {
		t.Errorf("%d lines, %+v", n, d.Summary)
	}
}

type outside struct {
	can bool
	err error
}

func (o outside) Exportable(context.Context) (bool, error) { return o.can, o.err }

// A token that keeps its keys is not at hand for each of these answers.
func TestKeyThatCanBeTakenOutFails(t *testing.T) {
	for want, o := range map[result]outside{isOK: {}, isFailed: {can: true}} {
		if f := exportable(t.Context(), o, "external_auth.key", "pkcs11"); f.Result != want {
			t.Errorf("%+v: %+v", o, f)
		}
	}
	if f := exportable(t.Context(), outside{err: keystore.ErrAbsent}, "external_auth.key", "pkcs11"); f.Result != isFailed || !strings.HasPrefix(f.Evidence, "not checked: ") {
		t.Errorf("%+v", f)
	}
}

// A card has its key for one program at a time: that the agent has it is no fault of
// the card, and no proof of anything either.
func TestCardThatTheAgentHoldsIsNotCalledAbsent(t *testing.T) {
	k := keyPlace{name: "external_auth.key", uri: "scard:reader=SAM;aid=D392F000260100000001;key=17?pin-source=/run/pin", purpose: keystore.ExternalAuth}
	s := &site{}
	agentIs(7, 1000)(t, bench{}, s)
	if err := s.heldByAgent(k, keystore.ErrAbsent); !errors.Is(err, errHeld) {
		t.Errorf("%v", err)
	}
	if err := s.heldByAgent(k, nil); err != nil {
		t.Errorf("%v", err)
	}
	agentIsGone(t, bench{}, s)
	if err := s.heldByAgent(k, keystore.ErrAbsent); err != keystore.ErrAbsent {
		t.Errorf("%v", err)
	}
	agentIs(7, 1000)(t, bench{}, s)
	k.uri = "sealed:path=/x;key-source=/y"
	if err := s.heldByAgent(k, keystore.ErrAbsent); err != keystore.ErrAbsent {
		t.Errorf("%v", err)
	}
}

func TestQuantiles(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(i+1))
	}
	if quantile(times, 50) != 50 || quantile(times, 99) != 99 || quantile(times[:1], 99) != 1 || quantile(times[:20], 99) != 20 {
		t.Error(quantile(times, 50), quantile(times, 99), quantile(times[:20], 99))
	}
}
