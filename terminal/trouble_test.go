package terminal_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

func TestListThatCannotBeReadShutsTheGate(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"lost": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"truncated": func(t *testing.T, path string) {
			if err := os.Truncate(path, 1000); err != nil {
				t.Fatal(err)
			}
		},
		"garbage": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("no list"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRigIn(t, dir)
			alice := r.card(t, "listed", jpki.TapUse)
			damage(t, filepath.Join(dir, "list.db"))
			r.wantShut(t, r.tap(t, card(t, alice, vcard.Options{})), terminal.DataStale)
			// A newer list heals it.
			m := r.Manifest
			m.Seq = 2
			r.load(t, m, r.rows...)
			if d := r.tap(t, card(t, alice, vcard.Options{})); !d.Admitted() || d.ListSeq != 2 {
				t.Errorf("after a new list: %v %s (%v)", d.Verdict, d.Reason, d.Cause)
			}
		})
	}
}

func TestExpiredListFollowsItsPolicy(t *testing.T) {
	for action, want := range map[whitelist.Action]terminal.Verdict{
		whitelist.Deny: terminal.Deny, whitelist.Attend: terminal.Attend, whitelist.Warn: terminal.Admit,
	} {
		r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
			p.Now = func() time.Time { return r.Manifest.NotAfter.Add(time.Hour) }
		})
		m := r.Manifest
		m.Seq, m.Policy.Expired, m.Policy.StaleRevocation = 2, action, whitelist.Warn
		r.load(t, m, r.rows...)
		d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
		if d.Verdict != want {
			t.Errorf("policy %v: %v %s (%v)", action, d.Verdict, d.Reason, d.Cause)
		}
		if opened := r.gate.Opened() == 1; opened != (want == terminal.Admit) {
			t.Errorf("policy %v: opened %d", action, r.gate.Opened())
		}
	}
}

func TestClockThatWentBackIsNotTrusted(t *testing.T) {
	var now time.Time
	r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
		now = r.Now
		p.Now = func() time.Time { return now }
	})
	alice := r.card(t, "listed", jpki.TapUse)
	if d := r.tap(t, card(t, alice, vcard.Options{})); !d.Admitted() {
		t.Fatal(d.Reason, d.Cause)
	}
	now = r.Now.Add(-10 * time.Minute) // still after the list was issued
	if d := r.tap(t, card(t, alice, vcard.Options{})); d.Admitted() || d.Reason != terminal.ClockUntrusted {
		t.Errorf("%v %s", d.Verdict, d.Reason)
	}
}

// A board without a battery boots in 1970: the list's policy decides, and
// nobody is told that their certificate is not valid yet.
func TestBoardThatBootsIn1970FollowsThePolicyOfItsList(t *testing.T) {
	for action, want := range map[whitelist.Action]struct {
		verdict terminal.Verdict
		reason  terminal.Reason
	}{
		whitelist.Deny:   {terminal.Deny, terminal.ClockUntrusted},
		whitelist.Attend: {terminal.Attend, terminal.Attention},
		whitelist.Warn:   {terminal.Admit, terminal.OK},
	} {
		r := newRig(t, func(_ *rig, _ *terminal.Config, p *terminal.Parts) {
			p.Now = func() time.Time { return time.Unix(60, 0) }
		})
		m := r.Manifest
		m.Seq, m.Policy.UntrustedClock = 2, action
		rows := slices.Clone(r.rows)
		rows[0].Row.Entitlements = []whitelist.Entitlement{{ID: "since yesterday", NotBefore: r.Now.AddDate(0, 0, -1)}}
		r.load(t, m, rows...)
		d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
		if d.Verdict != want.verdict || d.Reason != want.reason || d.Instant.Before(m.IssuedAt) {
			t.Errorf("policy %v: %v %s at %v (%v)", action, d.Verdict, d.Reason, d.Instant, d.Cause)
		}
		if action != whitelist.Deny && !slices.Contains(d.Warnings, terminal.ClockUntrusted) {
			t.Errorf("policy %v: warnings %v", action, d.Warnings)
		}
	}
}

// Without a durable record nobody enters: the disk fills up while the gate
// serves, and becomes free again.
func TestFullDiskShutsTheGate(t *testing.T) {
	dir, inside := smalldisk.Mount(t)
	if !inside {
		return
	}
	r := newRigIn(t, dir)
	alice := r.card(t, "listed", jpki.TapUse)
	if d := r.tap(t, card(t, alice, vcard.Options{})); !d.Admitted() {
		t.Fatal(d.Reason, d.Cause)
	}
	smalldisk.Fill(t, dir, 0)
	admitted := 1
	var d terminal.Decision
	for range 1000 { // what the files still hold may be used up first
		if d = r.tap(t, card(t, alice, vcard.Options{})); !d.Admitted() {
			break
		}
		admitted++
	}
	if d.Admitted() || d.Reason != terminal.OutOfOrder || !errors.Is(d.Cause, journal.ErrFull) {
		t.Fatalf("on a full disk: %v %s (%v)", d.Verdict, d.Reason, d.Cause)
	}
	if r.gate.Opened() != admitted {
		t.Errorf("admitted %d, opened %d", admitted, r.gate.Opened())
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	if d := r.tap(t, card(t, alice, vcard.Options{})); !d.Admitted() {
		t.Errorf("with room again: %s (%v)", d.Reason, d.Cause)
	}
	r.wantUses(t, uint32(r.gate.Opened()))
}

func TestJournalThatCannotBeWrittenShutsTheGate(t *testing.T) {
	r := newRig(t, func(_ *rig, _ *terminal.Config, p *terminal.Parts) {
		broken, err := journal.Open(filepath.Join(t.TempDir(), "journal.db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := broken.Close(); err != nil {
			t.Fatal(err)
		}
		p.Journal = broken
	})
	d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	if d.Verdict != terminal.Deny || d.Reason != terminal.OutOfOrder || r.gate.Opened() != 0 {
		t.Errorf("%v %s, opened %d", d.Verdict, d.Reason, r.gate.Opened())
	}
}
