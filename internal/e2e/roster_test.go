package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
)

// The passcodes of the roster, found nowhere by accident.
var passcodes = map[string]string{"kei": "kumquat-17", "mori": "persimmon-4"}

// staffed makes a terminal with its list in force, an order ABC12 on it, and a
// steward kei and a supervisor mori.
func staffed(t *testing.T) site {
	t.Helper()
	s := install(t, filepath.Join(t.TempDir(), "terminal"))
	w := theTown(t)
	order, err := w.Order("abc12", "ticket-order")
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.List(append(slices.Clone(w.rows), order)...)
	if err != nil {
		t.Fatal(err)
	}
	s.must(t, "list", "import", s.write(t, "orders.cose", list))
	var roster strings.Builder
	for _, m := range [][2]string{{"kei", "steward"}, {"mori", "supervisor"}} {
		file := s.write(t, m[0]+".passcode", []byte(passcodes[m[0]]+"\n"))
		fmt.Fprintf(&roster, "[[staff]]\nname = %q\nrole = %q\n%s\n", m[0], m[1], s.must(t, "staff", "passcode", "--passcode-file", file))
	}
	s.write(t, "staff.toml", []byte(roster.String()))
	s.edit(t, "[scope_key]", "[staff]\nfile = \"staff.toml\"\n\n[scope_key]")
	return s
}

// as runs a command of a member of the staff.
func (s site) as(t *testing.T, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	stdout, stderr, code = s.run(t, append(args, "--staff", name, "--passcode-file", s.path(name+".passcode"))...)
	for _, secret := range passcodes {
		if strings.Contains(stdout+stderr, secret) {
			t.Errorf("gate-agent %q tells a passcode: %s%s", args, stdout, stderr)
		}
	}
	return stdout, stderr, code
}

// does runs such a command with --json, to its exit code, and reads its answer.
func does[T any](t *testing.T, s site, code int, name string, args ...string) (answer T) {
	t.Helper()
	stdout, stderr, got := s.as(t, name, append(args, "--json")...)
	if got != code {
		t.Fatalf("%s: gate-agent %q: exit code %d, want %d\n%s", name, args, got, code, stderr)
	}
	if stdout != "" {
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
			t.Fatalf("gate-agent %q: %v: %s", args, err, stdout)
		}
	}
	return answer
}

func (s site) status(t *testing.T) (st api.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.must(t, "status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// A day at the gate, with the real agent: what staff asks of it, and what is in
// the journal then.
func TestStaffWorksAtTheGate(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), staffed(t)
	a := start(t, s, r)

	st := s.status(t)
	if len(st.Lanes) != 1 {
		t.Fatalf("status %+v", st)
	}
	if l := st.Lanes[0]; l.Gate != "gate-1" || l.Signal != "ready" || len(l.Why) > 0 || len(l.Halts) > 0 || !l.Reader.Up || st.List == nil || st.List.Seq != 1 ||
		!st.Clock.Trusted || !st.Staff || st.OnDuty != nil || st.Journal != (api.JournalStatus{}) {
		t.Errorf("status %+v", st)
	}

	if on := does[api.OnDuty](t, s, 0, "kei", "shift", "begin"); on.OnDuty == nil || on.OnDuty.Name != "kei" {
		t.Errorf("on duty: %+v", on.OnDuty)
	}

	// A steward lets nobody in.
	does[api.Decision](t, s, 4, "kei", "override", "--people", "2", "--reason", "fire brigade")
	d := does[api.Decision](t, s, 0, "mori", "override", "--people", "2", "--reason", "fire brigade")
	want(t, a.event(), terminal.Admit, terminal.Override)
	if d.Verdict != terminal.Admit || d.Reason != terminal.Override || d.People != 2 || d.Reservation == 0 || a.opened() != 1 {
		t.Errorf("override %+v, the gate has opened %d times", d, a.opened())
	}

	// Out of order, no card is read.
	does[api.InMode](t, s, 0, "kei", "out-of-order", "on", "--reason", "glass on the floor")
	if st := s.status(t); st.Lanes[0].Signal != "out_of_order" || fmt.Sprint(st.Lanes[0].Halts) != "[staff]" || st.OnDuty == nil || st.OnDuty.Name != "kei" {
		t.Errorf("status %+v", st)
	}
	waiting := r.insert(theTown(t).alice(t), how{})
	a.silent(settled, "the gate is out of order")
	waiting.remove()
	does[api.InMode](t, s, 0, "kei", "out-of-order", "off", "--reason", "swept")
	want(t, r.tap(a, theTown(t).alice(t)), terminal.Admit, terminal.OK)

	// By order, once; not by one that the list does not have.
	d = does[api.Decision](t, s, 0, "mori", "admit", "--order", "abc12", "--reason", "card broken, licence seen")
	want(t, a.event(), terminal.Admit, terminal.OK)
	if d.Verdict != terminal.Admit || d.People != 1 || d.Reservation == 0 {
		t.Errorf("admit %+v", d)
	}
	again := does[api.Decision](t, s, 4, "mori", "admit", "--order", "ABC12", "--reason", "card broken, licence seen")
	want(t, a.event(), terminal.Deny, terminal.AlreadyUsed)
	if again.Verdict != terminal.Deny || again.Reason != terminal.AlreadyUsed || again.Reservation != 0 {
		t.Errorf("admit %+v", again)
	}
	does[api.Decision](t, s, 4, "mori", "admit", "--order", "NONE", "--reason", "says so")
	want(t, a.event(), terminal.Deny, terminal.NotListed)

	// Nobody passed: it counts no more, and cannot be annulled twice.
	number := fmt.Sprint(d.Reservation)
	does[api.Annulled](t, s, 0, "kei", "annul", number, "--reason", "went back")
	if _, stderr, code := s.as(t, "kei", "annul", number, "--reason", "went back"); code != 4 || !strings.Contains(stderr, "it was annulled before, or never made") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	d = does[api.Decision](t, s, 0, "mori", "admit", "--order", "ABC12", "--reason", "is back")
	want(t, a.event(), terminal.Admit, terminal.OK)
	does[api.OnDuty](t, s, 0, "kei", "shift", "end")
	a.stop()
	if _, err := os.Lstat(s.path("state/agent.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if _, stderr, code := s.run(t, "status"); code != 1 || !strings.Contains(stderr, "no agent is running: nobody answers at "+s.path("state/agent.sock")) {
		t.Errorf("exit code %d: %s", code, stderr)
	}

	var told []string
	for _, e := range s.journal(t) {
		if e.Staff != "" {
			told = append(told, strings.TrimRight(fmt.Sprintf("%s %s%s by %s, %s: %s", e.Kind, e.Reason, e.State, e.Staff, e.Role, e.Note), ": "))
		}
	}
	wantTold := []string{
		"shift begin by kei, steward",
		"reserve override by mori, supervisor: fire brigade",
		"incident out_of_orderbegin by kei, steward: glass on the floor",
		"incident out_of_orderend by kei, steward: swept",
		"reserve ok by mori, supervisor: card broken, licence seen",
		"decision already_used by mori, supervisor: card broken, licence seen",
		"decision not_listed by mori, supervisor: says so",
		"annul annulled by kei, steward: went back",
		"reserve ok by mori, supervisor: is back",
		"shift end by kei, steward",
	}
	if !slices.Equal(told, wantTold) {
		t.Errorf("the journal tells\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(wantTold, "\n"))
	}
	for _, secret := range passcodes {
		if strings.Contains(a.stderr.String(), secret) {
			t.Error("the log tells a passcode")
		}
	}
}

// Nobody on duty, nobody confirms; and the journal says who did.
func TestHolderCheckNeedsSomebodyOnDuty(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), staffed(t)
	s.edit(t, "[holder_check]", "[holder_check]\ntap-use = \"staff\"")
	a := start(t, s, r)
	alice := theTown(t).alice(t)
	lying := r.insert(alice, how{})
	want(t, a.event(), terminal.Attend, terminal.ManualCheck)
	e := a.event()
	want(t, e, terminal.Deny, terminal.ManualCheck)
	if e.HolderCheck != terminal.CheckFailed {
		t.Errorf("the check is %q", e.HolderCheck)
	}
	a.says("nobody is on duty who could confirm: begin a shift")
	lying.remove()

	does[api.OnDuty](t, s, 0, "kei", "shift", "begin")
	lying = r.insert(alice, how{})
	want(t, a.event(), terminal.Attend, terminal.ManualCheck)
	lying.remove()
	if _, err := a.stdin.Write([]byte("c\n")); err != nil {
		t.Fatal(err)
	}
	want(t, a.event(), terminal.Admit, terminal.OK)
	a.stop()
	var by []string
	for _, e := range s.journal(t) {
		if e.Kind == "reserve" {
			by = append(by, e.Staff)
		}
	}
	if !slices.Equal(by, []string{"kei"}) {
		t.Errorf("confirmed by %q", by)
	}
}

// A passcode is typed, and does not show.
func TestPasscodeIsTyped(t *testing.T) {
	t.Parallel()
	s := staffed(t)
	typing := func(args ...string) (*pty, *output, func() int) {
		p, out := newPTY(t), new(output)
		cmd := exec.Command(filepath.Join(programs, "gate-agent"), append(args, "--config", s.config)...)
		cmd.Stdout = out
		p.control(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return p, out, func() int { _ = cmd.Wait(); return cmd.ProcessState.ExitCode() }
	}
	p, out, end := typing("staff", "passcode")
	p.sees("New passcode (not shown): ")
	if p.echoes() {
		t.Error("the terminal shows what is typed")
	}
	p.types("kumquat-17")
	p.sees("Again: ")
	p.types("kumquat-17")
	if code := end(); code != 0 || !strings.HasPrefix(out.String(), `passcode = "$argon2id$v=19$`) {
		t.Errorf("exit code %d: %s", code, out)
	}
	p, out, end = typing("staff", "passcode")
	p.sees("New passcode (not shown): ")
	p.types("kumquat-17")
	p.sees("Again: ")
	p.types("kumquat-18")
	p.sees("the two are not the same")
	if code := end(); code != 1 || out.String() != "" {
		t.Errorf("exit code %d: %s", code, out)
	}

	a := launch(t, s)
	a.says("in force")
	p, out, end = typing("shift", "begin", "--staff", "mori")
	p.sees("Passcode of mori (not shown): ")
	p.types(passcodes["mori"])
	if code := end(); code != 0 || !strings.Contains(out.String(), "mori (supervisor)") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if screen := p.screen.String(); strings.Contains(screen, passcodes["mori"]) {
		t.Errorf("the screen shows %s", screen)
	}
	a.stop()
}

// explain says what the gate will do, before and after, with the agent and
// without it, and leaves the folder as it was.
func TestExplainTellsWhatTheGateDoes(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), staffed(t)
	state := s.snapshot(t)
	explained := func(args ...string) (e struct {
		Verdict terminal.Verdict
		Reason  terminal.Reason
		Assumes []string
		Steps   []struct {
			Check, Entitlement, Detail string
			OK                         bool
		}
	}) {
		t.Helper()
		before := s.snapshot(t)
		if err := json.Unmarshal([]byte(s.must(t, append([]string{"explain", "--json"}, args...)...)), &e); err != nil {
			t.Fatal(err)
		}
		if after := s.snapshot(t); !slices.Equal(before, after) {
			t.Errorf("explain %q changed the folder from\n%s\nto\n%s", args, strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
		if len(e.Assumes) == 0 || len(e.Steps) == 0 {
			t.Errorf("explain %q: %+v", args, e)
		}
		return e
	}
	certificate := func(name string) string {
		block := &pem.Block{Type: "CERTIFICATE", Bytes: theTown(t).person(t, name, "tap-use").Image.AuthenticationCertificate()}
		return s.write(t, strings.ReplaceAll(name, " ", "-")+".pem", pem.EncodeToMemory(block))
	}
	for name, reason := range map[string]terminal.Reason{
		"listed": terminal.OK, "not listed": terminal.NotListed, "revoked": terminal.Revoked, "ticket out of its time": terminal.InvalidTime,
		"expired certificate": terminal.CertExpired,
	} {
		e := explained("--certificate", certificate(name))
		last := e.Steps[len(e.Steps)-1]
		if e.Reason != reason || (e.Verdict == terminal.Admit) != (reason == terminal.OK) || last.OK != (reason == terminal.OK) {
			t.Errorf("%s: %v %s, at last %+v", name, e.Verdict, e.Reason, last)
		}
	}
	// There was no journal, and there is none now.
	if now := s.snapshot(t); !slices.Equal(state, now) {
		t.Errorf("the folder has changed from\n%s\nto\n%s", strings.Join(state, "\n"), strings.Join(now, "\n"))
	}

	a := start(t, s, r)
	if e := explained("--order", "abc12"); e.Reason != terminal.OK {
		t.Errorf("%v %s", e.Verdict, e.Reason)
	}
	does[api.Decision](t, s, 0, "mori", "admit", "--order", "ABC12", "--reason", "card broken")
	a.event()
	e := explained("--order", "abc12")
	if i := len(e.Steps) - 1; e.Reason != terminal.AlreadyUsed || e.Steps[i].Check != "uses" || e.Steps[i].OK || e.Steps[i].Entitlement != "ticket-order" ||
		!strings.Contains(e.Steps[i].Detail, "used 1") {
		t.Errorf("%v %s, %+v", e.Verdict, e.Reason, e.Steps)
	}
	if e := explained("--order", "abc12", "--at", theTown(t).Now.AddDate(0, 1, 0).Format("2006-01-02T15:04:05Z07:00")); e.Reason != terminal.DataStale {
		t.Errorf("in a month: %v %s", e.Verdict, e.Reason)
	}
	a.stop()
	if e := explained("--order", "abc12"); e.Reason != terminal.AlreadyUsed {
		t.Errorf("%v %s", e.Verdict, e.Reason)
	}

	// The card itself.
	lying := r.insert(theTown(t).alice(t), how{})
	defer lying.cancel()
	cmd := exec.Command(filepath.Join(programs, "gate-agent"), "explain", "--config", s.config)
	cmd.Env = append(cmd.Environ(), r.daemon.Env(), "LC_ALL=ja_JP.UTF-8")
	said, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"前提: カードは真正なものとします。", "✓ 名簿: epoch 1, seq 1, 10 rows", "✓ 利用回数 [ticket-alice]: used 0", "判定: 入場できます", "理由: ok: どうぞお通りください。"} {
		if !strings.Contains(string(said), line) {
			t.Errorf("no %q in\n%s", line, said)
		}
	}
}

// snapshot tells each file of the state folder with its content. The memory that
// SQLite shares between processes is no content, nor is an empty log.
func (s site) snapshot(t *testing.T) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(s.path("state"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		if strings.HasSuffix(f.Name(), "-shm") || f.Type() == os.ModeSocket {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.path("state"), f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 || !strings.HasSuffix(f.Name(), "-wal") {
			files = append(files, fmt.Sprintf("%s %x", f.Name(), sha256.Sum256(b)))
		}
	}
	return files
}

// A second agent finds out, and leaves the first one alone.
func TestSecondAgentLeavesTheFirstAlone(t *testing.T) {
	t.Parallel()
	s := ready(t)
	a := launch(t, s)
	a.says("in force")
	if _, stderr, code := s.run(t, "run"); code == 0 || !strings.Contains(stderr, "another agent") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if st := s.status(t); st.Staff || st.Version == "" {
		t.Errorf("status %+v", st)
	}
	a.end(9)
	// What it left behind is in nobody's way.
	b := launch(t, s)
	b.says("in force")
	s.status(t)
	b.stop()
}
