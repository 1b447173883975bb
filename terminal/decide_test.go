package terminal_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// place is a gate in a venue.
func place(t testing.TB, v whitelist.Venue, gate string) *terminal.Place {
	t.Helper()
	p, err := terminal.NewPlace(v, gate)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// used is the history of an entitlement by which so many people came in, the day
// before the tests' noon.
func used(people uint32) terminal.History {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return terminal.History{Last: 9, Passages: []terminal.Passage{{Reservation: 9, At: at, People: people}}}
}

// aHolder is somebody whose card has proved itself.
func aHolder(t testing.TB) cardauth.Holder {
	t.Helper()
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	head, err := cardauth.ParseHead(c.card(t, "listed", jpki.TapUse).AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := cardkey.New(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var challenge cardauth.Challenge
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, challenge.Digest(crypto.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	holder, err := cardauth.Verify(cardauth.Proof{Head: head, Challenge: challenge, Signature: signature, Scheme: cardkey.PKCS1v15SHA256}, public, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return holder
}

func TestDecide(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	holder := aHolder(t)
	warnAll := whitelist.Policy{Expired: whitelist.Warn, StaleRevocation: whitelist.Warn, UntrustedClock: whitelist.Warn, RevocationMaxAge: 48 * time.Hour}
	attendAll := whitelist.Policy{Expired: whitelist.Attend, StaleRevocation: whitelist.Attend, UntrustedClock: whitelist.Attend, RevocationMaxAge: 48 * time.Hour}
	good := func() terminal.Facts {
		return terminal.Facts{
			Instant: noon, Clock: noon, Place: place(t, whitelist.Venue{}, "gate-1"), Holder: holder,
			Row: whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{
				{ID: "a", NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour), Gates: []string{"gate-1"}, Uses: 2},
			}},
			Histories: []terminal.History{used(1)},
			List: whitelist.Manifest{
				IssuedAt: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour), RevocationAsOf: noon.Add(-time.Hour),
				Policy: whitelist.Policy{RevocationMaxAge: 48 * time.Hour},
			},
			Floor: noon.Add(-time.Minute), HolderCheck: terminal.CheckNone,
		}
	}
	second := whitelist.Entitlement{ID: "b"}
	stale, clock := terminal.DataStale, terminal.ClockUntrusted

	for _, c := range []struct {
		name     string
		change   func(*terminal.Facts)
		verdict  terminal.Verdict
		reason   terminal.Reason
		warnings []terminal.Reason
	}{
		{"good", func(*terminal.Facts) {}, terminal.Admit, terminal.OK, nil},
		{"nothing at all", func(f *terminal.Facts) { *f = terminal.Facts{} }, terminal.Deny, terminal.AuthFailed, nil},
		{"nobody", func(f *terminal.Facts) { f.Holder = cardauth.Holder{} }, terminal.Deny, terminal.AuthFailed, nil},

		{"blocked", func(f *terminal.Facts) { f.Row.Status = whitelist.Blocked }, terminal.Deny, terminal.Blocked, nil},
		{"revoked", func(f *terminal.Facts) { f.Row.Status = whitelist.Revoked }, terminal.Deny, terminal.Revoked, nil},
		{"certificate revoked", func(f *terminal.Facts) { f.Row.Status = whitelist.CertificateRevoked }, terminal.Deny, terminal.CertRevoked, nil},
		{"status of a later version", func(f *terminal.Facts) { f.Row.Status = 99 }, terminal.Deny, terminal.Revoked, nil},
		{"no status", func(f *terminal.Facts) { f.Row.Status = 0 }, terminal.Deny, terminal.Revoked, nil},

		{"first second of the window", func(f *terminal.Facts) { f.Row.Entitlements[0].NotBefore = noon }, terminal.Admit, terminal.OK, nil},
		{"last second of the window", func(f *terminal.Facts) { f.Row.Entitlements[0].NotAfter = noon }, terminal.Admit, terminal.OK, nil},
		{"within the last second of the window", func(f *terminal.Facts) {
			f.Instant, f.Row.Entitlements[0].NotAfter = noon.Add(999*time.Millisecond), noon
		}, terminal.Admit, terminal.OK, nil},
		{"too early", func(f *terminal.Facts) { f.Row.Entitlements[0].NotBefore = noon.Add(time.Second) }, terminal.Deny, terminal.InvalidTime, nil},
		{"too late", func(f *terminal.Facts) { f.Row.Entitlements[0].NotAfter = noon.Add(-time.Second) }, terminal.Deny, terminal.InvalidTime, nil},
		{"open window", func(f *terminal.Facts) { f.Row.Entitlements[0] = second }, terminal.Admit, terminal.OK, nil},
		{"another gate", func(f *terminal.Facts) { f.Place = place(t, whitelist.Venue{}, "gate-2") }, terminal.Deny, terminal.WrongGate, nil},
		{"used up", func(f *terminal.Facts) { f.Histories[0] = used(2) }, terminal.Deny, terminal.AlreadyUsed, nil},
		{"used beyond", func(f *terminal.Facts) { f.Histories[0] = used(3) }, terminal.Deny, terminal.AlreadyUsed, nil},
		{"unlimited", func(f *terminal.Facts) { f.Row.Entitlements[0].Uses, f.Histories[0] = 0, used(4000) }, terminal.Admit, terminal.OK, nil},
		{"uses not counted", func(f *terminal.Facts) { f.Histories = nil }, terminal.Deny, terminal.AlreadyUsed, nil},
		{"no entitlement", func(f *terminal.Facts) { f.Row.Entitlements = nil }, terminal.Deny, terminal.NotListed, nil},
		{"a second ticket fits", func(f *terminal.Facts) {
			f.Row.Entitlements[0].Gates = []string{"gate-9"}
			f.Row.Entitlements, f.Histories = append(f.Row.Entitlements, second), []terminal.History{{}, used(7)}
		}, terminal.Admit, terminal.OK, nil},
		{"no ticket fits: the reason of the nearest in time", func(f *terminal.Facts) {
			f.Row.Entitlements[0].Gates = []string{"gate-9"}
			late := whitelist.Entitlement{ID: "b", NotAfter: noon.Add(-time.Hour)}
			f.Row.Entitlements, f.Histories = []whitelist.Entitlement{late, f.Row.Entitlements[0]}, make([]terminal.History, 2)
		}, terminal.Deny, terminal.WrongGate, nil},

		{"list expired", func(f *terminal.Facts) { f.List.NotAfter = noon.Add(-time.Second) }, terminal.Deny, stale, nil},
		{"last second of the list", func(f *terminal.Facts) { f.List.NotAfter = noon }, terminal.Admit, terminal.OK, nil},
		{"within the last second of the list", func(f *terminal.Facts) {
			f.Instant, f.List.NotAfter = noon.Add(999*time.Millisecond), noon
		}, terminal.Admit, terminal.OK, nil},
		{"list expired, warn", func(f *terminal.Facts) { f.List.NotAfter, f.List.Policy = noon.Add(-time.Second), warnAll }, terminal.Admit, terminal.OK, []terminal.Reason{stale}},
		{"list expired, attend", func(f *terminal.Facts) { f.List.NotAfter, f.List.Policy = noon.Add(-time.Second), attendAll }, terminal.Attend, terminal.Attention, []terminal.Reason{stale}},
		{"list expired, attend, and staff has looked", func(f *terminal.Facts) {
			f.List.NotAfter, f.List.Policy, f.Attended, f.Told = noon.Add(-time.Second), attendAll, true, []terminal.Reason{stale}
		}, terminal.Admit, terminal.OK, []terminal.Reason{stale}},
		{"list expired, attend, and staff has looked at something else", func(f *terminal.Facts) {
			f.List.NotAfter, f.List.Policy, f.Attended = noon.Add(-time.Second), attendAll, true
		}, terminal.Attend, terminal.Attention, []terminal.Reason{stale}},
		{"list expired, policy of a later version", func(f *terminal.Facts) { f.List.NotAfter, f.List.Policy.Expired = noon.Add(-time.Second), 99 }, terminal.Deny, stale, nil},
		{"revocation stale", func(f *terminal.Facts) { f.List.RevocationAsOf = noon.Add(-49 * time.Hour) }, terminal.Deny, stale, nil},
		{"revocation never known", func(f *terminal.Facts) { f.List.RevocationAsOf = time.Time{} }, terminal.Deny, stale, nil},
		{"revocation stale, warn", func(f *terminal.Facts) {
			f.List.RevocationAsOf, f.List.Policy = noon.Add(-49*time.Hour), warnAll
		}, terminal.Admit, terminal.OK, []terminal.Reason{stale}},
		{"clock before the floor", func(f *terminal.Facts) { f.Floor = noon.Add(2 * time.Minute) }, terminal.Deny, clock, nil},
		{"clock corrected a little", func(f *terminal.Facts) { f.Floor = noon.Add(time.Minute) }, terminal.Admit, terminal.OK, nil},
		{"clock before the list", func(f *terminal.Facts) { f.List.IssuedAt = noon.Add(2 * time.Minute) }, terminal.Deny, clock, nil},
		{"clock of 1970", func(f *terminal.Facts) { f.Clock = time.Unix(60, 0) }, terminal.Deny, clock, nil},
		{"clock untrusted, warn", func(f *terminal.Facts) { f.Floor, f.List.Policy = noon.Add(time.Hour), warnAll }, terminal.Admit, terminal.OK, []terminal.Reason{clock}},
		{"staleness does not hide a revocation", func(f *terminal.Facts) {
			f.Row.Status, f.List.NotAfter, f.List.Policy = whitelist.Revoked, noon.Add(-time.Hour), attendAll
		}, terminal.Deny, terminal.Revoked, nil},
		{"two conditions, the stricter counts", func(f *terminal.Facts) {
			f.List.NotAfter, f.List.Policy = noon.Add(-time.Second), warnAll
			f.Floor, f.List.Policy.UntrustedClock = noon.Add(time.Hour), whitelist.Deny
		}, terminal.Deny, clock, nil},

		{"staff", func(f *terminal.Facts) { f.HolderCheck = terminal.CheckStaff }, terminal.Attend, terminal.ManualCheck, nil},
		{"face unit", func(f *terminal.Facts) { f.HolderCheck = terminal.CheckExternal }, terminal.Attend, terminal.ManualCheck, nil},
		{"holder check missing", func(f *terminal.Facts) { f.HolderCheck = "" }, terminal.Attend, terminal.ManualCheck, nil},
		{"holder check unknown", func(f *terminal.Facts) { f.HolderCheck = "nobody" }, terminal.Attend, terminal.ManualCheck, nil},
		{"staff has confirmed", func(f *terminal.Facts) { f.HolderCheck, f.Attended = terminal.CheckStaff, true }, terminal.Admit, terminal.OK, nil},
		{"staff cannot overrule the list", func(f *terminal.Facts) {
			f.HolderCheck, f.Attended, f.Histories[0] = terminal.CheckStaff, true, used(2)
		}, terminal.Deny, terminal.AlreadyUsed, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := good()
			c.change(&f)
			r := terminal.Decide(f)
			if r.Verdict != c.verdict || r.Reason != c.reason || !slices.Equal(r.Warnings, c.warnings) {
				t.Errorf("%v %s %v, want %v %s %v", r.Verdict, r.Reason, r.Warnings, c.verdict, c.reason, c.warnings)
			}
			if again := terminal.Decide(f); again.Verdict != r.Verdict || again.Reason != r.Reason {
				t.Error("the same facts gave another ruling")
			}
		})
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if (terminal.Decision{}).Admitted() {
		t.Error("the zero Decision admits")
	}
	if (terminal.Ruling{}).Verdict != terminal.Deny {
		t.Error("the zero Ruling does not deny")
	}
	if err := new(terminal.Permit).Spend(); err == nil {
		t.Error("the zero Permit opens the gate")
	}
}

func TestVerdictHasThreeNames(t *testing.T) {
	for _, v := range []terminal.Verdict{terminal.Deny, terminal.Attend, terminal.Admit} {
		b, _ := v.MarshalText()
		var back terminal.Verdict = 9
		if err := back.UnmarshalText(b); err != nil || back != v {
			t.Errorf("%v: %v, %v", v, back, err)
		}
	}
	var v terminal.Verdict
	if err := v.UnmarshalText([]byte("Admit")); err == nil {
		t.Error("another spelling is accepted")
	}
}
