package e2e

import (
	"io"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

func TestStaffDecidesBeforeTheGateOpens(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, "[holder_check]", "[holder_check]\ntap-use = \"staff\"\ntimeout = \"3s\"")
	a := start(t, s, r)
	alice := theTown(t).alice(t)
	press := func(key string) {
		t.Helper()
		if _, err := io.WriteString(a.stdin, key+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	press("c") // long before there is anybody to confirm: it opens nothing

	for _, c := range []struct {
		key     string // "" is nobody there
		verdict terminal.Verdict
		reason  terminal.Reason
		check   string
		opened  int
	}{
		{"r", terminal.Deny, terminal.ManualCheck, "refused", 0},
		{"c", terminal.Admit, terminal.OK, "confirmed", 1},
		{"", terminal.Deny, terminal.ManualCheck, "timeout", 1},
	} {
		lying := r.insert(alice, how{})
		e := a.event()
		want(t, e, terminal.Attend, terminal.ManualCheck)
		if e.HolderCheck != "" {
			t.Errorf("before anybody looked the check is %q", e.HolderCheck)
		}
		a.silent(300*time.Millisecond, "nobody has pressed a key")
		lying.remove() // the person need not hold it while staff looks
		if c.key != "" {
			press(c.key)
		}
		e = a.event()
		want(t, e, c.verdict, c.reason)
		if string(e.HolderCheck) != c.check {
			t.Errorf("the check is %q, want %q", e.HolderCheck, c.check)
		}
		if a.opened() != c.opened {
			t.Errorf("after %q the gate has opened %d times, want %d", c.check, a.opened(), c.opened)
		}
	}
	a.stop()
	agree(t, s, a.all)
}

// Somebody who waits for staff must not keep the agent from ending.
func TestAgentEndsWhileStaffIsAwaited(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	s.edit(t, "[holder_check]", "[holder_check]\ntap-use = \"staff\"")
	a := start(t, s, r)
	r.insert(theTown(t).alice(t), how{})
	want(t, a.event(), terminal.Attend, terminal.ManualCheck)
	began := time.Now()
	a.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	agree(t, s, a.all)
}
