package e2e

import (
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/terminal"
)

// A venue is a hub, a terminal of its, and people who come.
type venue struct {
	*hub
	carrier carrier
	site    site
	r       *readers
	a       *agent
}

// syncs is what sync status prints.
type syncs struct {
	Source string
	List   *lists.InForce
	Rounds *lists.Status

	ListProblem string `json:"list_problem"`
}

func (s site) syncs(t *testing.T) syncs {
	t.Helper()
	return reads[syncs](t, s, "sync", "status")
}

// until waits until what the terminal says of its lists is so.
func (v *venue) until(what string, so func(syncs) bool) syncs {
	v.t.Helper()
	var s syncs
	for deadline := time.Now().Add(4 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s = v.site.syncs(v.t); so(s) {
			return s
		}
	}
	v.t.Fatalf("the terminal has never %s: list %+v, rounds %+v", what, s.List, s.Rounds)
	panic("unreachable")
}

// begins has the terminal get its scope key and a first list.
func (v *venue) begins() {
	v.t.Helper()
	source, ca := v.carrier.source()
	v.follow(v.site, source, ca)
	v.carrier.publish()
	a := launch(v.t, v.site, v.r.daemon.Env())
	a.says(`"msg":"list in force"`)
	a.stop()
}

// change does something at the hub that changes rows, and returns when the terminal
// has them: by deltas.
func (v *venue) change(args ...string) {
	v.t.Helper()
	before := v.site.syncs(v.t)
	v.must(append(args, "--reason", "a test")...)
	v.carrier.publish()
	after := v.until("got the change", func(s syncs) bool {
		return s.List != nil && s.List.SetSeq > before.List.SetSeq && s.Rounds.InForce.SetSeq == s.List.SetSeq
	})
	was, is := before.Rounds.Counts, after.Rounds.Counts
	if is.Deltas == was.Deltas || is.Snapshots != was.Snapshots {
		v.t.Errorf("%q: %d deltas and %d snapshots came, want deltas alone", args, is.Deltas-was.Deltas, is.Snapshots-was.Snapshots)
	}
}

func (v *venue) tap(img *vcard.Image, verdict terminal.Verdict, reason terminal.Reason) terminal.Event {
	v.t.Helper()
	e := v.r.tap(v.a, img)
	want(v.t, e, verdict, reason)
	return e
}

// tapUntil taps until the answer is so.
func (v *venue) tapUntil(img *vcard.Image, what string, so func(terminal.Event) bool) {
	v.t.Helper()
	var e terminal.Event
	for deadline := time.Now().Add(4 * patience); time.Now().Before(deadline); {
		if e = v.r.tap(v.a, img); so(e) {
			return
		}
		if e.Verdict == terminal.Attend { // staff lets them in
			v.confirm()
		}
	}
	v.t.Fatalf("no tap was ever %s, the last one was %+v", what, e)
}

// confirm has staff let the person in who waits.
func (v *venue) confirm() {
	v.t.Helper()
	if _, err := io.WriteString(v.a.stdin, "c\n"); err != nil {
		v.t.Fatal(err)
	}
	want(v.t, v.a.event(), terminal.Admit, terminal.OK)
}

// settings gives the scope other settings.
func (v *venue) settings(lifetime, expired string) {
	v.t.Helper()
	v.must("scope", "set", v.write(v.beside("settings.toml"), fmt.Appendf(nil,
		"lifetime = %q\n[policy]\nexpired = %q\nstale_revocation = \"warn\"\nuntrusted_clock = \"deny\"\nrevocation_max_age = \"72h\"\n", lifetime, expired)))
}

// tickets of the venue: three that people come with, and a crowd with order numbers,
// beside whom the change of a few is a small one.
func crowd(n int) []byte {
	b := []byte("\uFEFFid,order,uses\r\nT-alice,,2\r\nT-bob,,\r\nT-spare,,1\r\n") // as Excel saves it
	for i := range n {
		b = fmt.Appendf(b, "C-%d,ORDER-%d,1\r\n", i, i)
	}
	return b
}

// What an organiser knows is, a moment later, what a gate decides by.
func TestFromRegistrationToGateAndBack(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			v := &venue{hub: newHub(t, shape.db(t)...), r: newReaders(t), site: install(t, shortDir(t))}
			if shape.rooted {
				v.roots()
			}
			v.must("ticket", "import", v.write(v.beside("tickets.csv"), crowd(200)))
			v.settings("24h", shape.expired)
			v.add(v.site)
			v.carrier = shape.carrier(v.hub)
			v.begins()
			alice, bob := v.registers(v.site, v.r, "T-alice"), v.registers(v.site, v.r, "T-bob")
			v.must(v.revocations()...)
			v.carrier.publish()
			v.a = start(t, v.site, v.r)
			v.until("got both cards", func(s syncs) bool { return s.List != nil && s.List.Rows == 202 })
			v.tap(alice, terminal.Admit, terminal.OK) // the first of two uses
			if e := v.tap(bob, terminal.Admit, terminal.OK); len(e.Warnings) > 0 {
				t.Errorf("warnings %q of a list that has all it needs", e.Warnings)
			}
			v.revokesAndRenews(alice, bob)
			v.goesOnAlone(bob, shape.expired)
			v.a.stop()
		})
	}
}

// revokesAndRenews has things done to cards and tickets that a gate has to know of.
func (v *venue) revokesAndRenews(alice, bob *vcard.Image) {
	t := v.t
	t.Helper()
	v.change("card", "revoke", v.certificate(bob))
	v.tap(bob, terminal.Deny, terminal.Revoked)

	renewed, err := theTown(t).Card(perso.CardOptions{PIN: thePIN, CardKey: alice.Application(vcard.AIDSurface()).InternalKey.Signer})
	if err != nil {
		t.Fatal(err)
	}
	v.change("card", "renew", v.certificate(alice), v.certificate(renewed))
	v.tap(alice, terminal.Deny, terminal.Revoked)
	v.tap(renewed, terminal.Admit, terminal.OK) // the second use
	v.tap(renewed, terminal.Deny, terminal.AlreadyUsed)

	// A ticket of one use goes from nobody to Alice, who uses it, and then to Bob.
	v.change("ticket", "transfer", "T-spare", "--to", "T-alice")
	v.tap(renewed, terminal.Admit, terminal.OK)
	v.change("card", "reinstate", v.certificate(bob))
	v.change("ticket", "refund", "T-bob")
	v.tap(bob, terminal.Deny, terminal.Revoked)
	v.change("ticket", "transfer", "T-spare", "--to", "T-bob")
	v.tap(bob, terminal.Deny, terminal.AlreadyUsed)

	v.change(v.revocations(renewed)...)
	v.tap(renewed, terminal.Deny, terminal.CertRevoked)
}

// revocations is the command that tells the hub which cards' certificates their
// issuer has revoked up to now.
func (v *venue) revocations(cards ...*vcard.Image) []string {
	v.t.Helper()
	feed := []byte("issuer,serial\n")
	for _, img := range cards {
		certificate, err := x509.ParseCertificate(img.AuthenticationCertificate())
		if err != nil {
			v.t.Fatal(err)
		}
		feed = fmt.Appendf(feed, "%x,%x\n", certificate.AuthorityKeyId, certificate.SerialNumber)
	}
	return []string{"revocation", "import", "--csv", v.write(v.beside("revoked.csv"), feed), "--as-of", time.Now().Format(time.RFC3339)}
}

// goesOnAlone takes the hub away: people pass until the list has ended, and then its
// policy acts; when the hub is back all is as before.
func (v *venue) goesOnAlone(somebody *vcard.Image, expired string) {
	v.t.Helper()
	v.must("ticket", "import", v.write(v.beside("season.csv"), []byte("id,holder\nT-season,T-bob\n")))
	v.carrier.publish()
	v.tapUntil(somebody, "admitted", admitted)
	v.carrier.away()
	v.until("missed the hub", func(s syncs) bool { return s.Rounds.Failure != nil && s.Rounds.Failure.Until.IsZero() })
	v.tap(somebody, terminal.Admit, terminal.OK)
	v.carrier.back()
	v.until("found the hub again", func(s syncs) bool { return !s.Rounds.Failure.Until.IsZero() })

	v.settings("5s", expired)
	v.carrier.publish()
	v.until("got a short list", func(s syncs) bool { return time.Until(s.List.NotAfter) < time.Minute })
	v.carrier.away()
	v.tapUntil(somebody, "as the policy of an ended list says", func(e terminal.Event) bool {
		switch expired {
		case "deny":
			return e.Verdict == terminal.Deny && e.Reason == terminal.DataStale
		case "warn":
			return e.Verdict == terminal.Admit && slices.Contains(e.Warnings, terminal.DataStale)
		}
		return e.Verdict == terminal.Attend && slices.Contains(e.Warnings, terminal.DataStale)
	})
	if expired == "attend" {
		v.confirm()
	}
	if said := v.site.must(v.t, "sync", "status"); !strings.Contains(said, "FAILS") {
		v.t.Errorf("sync status says %s", said)
	}
	v.settings("1h", expired)
	v.carrier.back()
	v.carrier.publish()
	v.tapUntil(somebody, "admitted by a list that lasts", admitted)
}

func admitted(e terminal.Event) bool {
	return e.Verdict == terminal.Admit && e.Reason == terminal.OK && !slices.Contains(e.Warnings, terminal.DataStale)
}
