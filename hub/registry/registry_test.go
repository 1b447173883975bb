package registry

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/whitelist"
)

func TestCardIsListedRevokedAndReinstated(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		_, head := person(t, r, 1)
		person(t, r, 2)
		got := set{}
		publish(t, r, hall, false, got)
		if len(got) != 2 {
			t.Fatalf("%d rows, want 2", len(got))
		}
		row := got[string(head)]
		want := whitelist.Row{Status: whitelist.Active, Entitlements: []whitelist.Entitlement{{ID: "T-1", Status: whitelist.Active}}, BirthDate: "19900401"}
		want.AuthKey, want.CardKey = credential(1, 1).AuthKey, credential(1, 1).CardKey
		if !reflect.DeepEqual(row, want) {
			t.Errorf("row %+v, want %+v", row, want)
		}

		for _, c := range []struct{ to whitelist.Status }{{whitelist.Blocked}, {whitelist.Active}, {whitelist.Revoked}, {whitelist.Revoked}, {whitelist.Active}} {
			must(t, r.SetCredentialStatus(t.Context(), by("lost"), hall, head, c.to))
			changed := set{}
			publish(t, r, hall, false, changed)
			if got := changed[string(head)].Status; len(changed) > 1 || len(changed) == 1 && got != c.to {
				t.Errorf("%v: %d rows changed, status %v", c.to, len(changed), got)
			}
		}
		c, err := r.Credential(t.Context(), hall, head)
		must(t, err)
		events, err := r.CredentialHistory(t.Context(), c.ID)
		must(t, err)
		var verbs []string
		for _, e := range events {
			verbs = append(verbs, e.Verb)
		}
		if got := strings.Join(verbs, " "); got != "add_credential block unblock revoke reinstate" {
			t.Errorf("history: %s", got)
		}
		if e := events[1]; e.Actor != "desk" || e.Reason != "lost" || !e.At.Equal(at) {
			t.Errorf("event %+v", e)
		}
	})
}

func TestRegistryOutlivesItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	for _, name := range []string{"sqlite:" + path, server.Database(t)} {
		r, err := Open(t.Context(), name)
		must(t, err)
		addScope(t, r, hall, venue)
		person(t, r, 1)
		must(t, r.Close())
		again := open(t, name)
		got := set{}
		publish(t, again, hall, false, got)
		if len(got) != 1 {
			t.Errorf("%d rows", len(got))
		}
		s, err := again.Scope(t.Context(), hall)
		must(t, err)
		if !reflect.DeepEqual(s.Venue, venue) {
			t.Errorf("venue %+v", s.Venue)
		}
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		if _, err := r.w.Exec(r.dialect.sql(`INSERT INTO schema_version VALUES (?1)`), len(migrations)+1); err != nil {
			t.Fatal(err)
		}
		refused(t, "a newer schema", r.migrate(t.Context()), ErrNewerSchema)
	})
}

func TestHistoryNeverChanges(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		for _, s := range []string{`UPDATE history SET actor = 'somebody'`, `DELETE FROM history`} {
			if _, err := r.w.Exec(s); err == nil {
				t.Errorf("%s: done", s)
			}
		}
	})
}

func TestStrangeNamesOfARegistryAreRefused(t *testing.T) {
	for _, name := range []string{"", "registry.db", "sqlite:", "mysql://x", "postgres://user:secret@h:port/x",
		"postgres://user:a@secret@h/x", "postgres://user:a@secret/b@h/x", "postgres:password=secret", "postgres://u:p%ZZsecret@h/x"} {
		_, err := Open(t.Context(), name)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The texts of columns venue, policy and content are read by later programs.
func TestStoredTextsKeepTheirForm(t *testing.T) {
	v, p, err := encodeSettings(Scope{Venue: venue, Policy: whitelist.Policy{Expired: whitelist.Warn}})
	must(t, err)
	const wantVenue = `{"TimeZone":"Asia/Tokyo","DayStarts":0,"Tolerance":0,"From":"0001-01-01T00:00:00Z","To":"0001-01-01T00:00:00Z","Admission":"0001-01-01T00:00:00Z","Postponed":false,` +
		`"Zones":[{"Name":"main","AntiPassback":0,"Forgets":0},{"Name":"vip","AntiPassback":0,"Forgets":0}],` +
		`"Gates":[{"ID":1,"Name":"north","Zone":"main"},{"ID":2,"Name":"south","Zone":"vip"}],"Products":[{"ID":7,"Name":"day","Postponed":false}],"Rules":""}`
	if v != wantVenue {
		t.Errorf("venue %s", v)
	}
	if p != `{"Expired":2,"StaleRevocation":0,"UntrustedClock":0,"RevocationMaxAge":0}` {
		t.Errorf("policy %s", p)
	}
	c, err := encodeContent(whitelist.Entitlement{ID: "x", NotBefore: at, Gates: []string{"south", "north"}, Uses: 2, Party: 1, ReEntry: whitelist.ReEntryAlways})
	must(t, err)
	if c != `{"not_before":1782907200,"gates":["north","south"],"uses":2,"re_entry":2}` {
		t.Errorf("content %s", c)
	}
}

// Two programs that write do not tread on each other.
func TestWritersWaitForEachOther(t *testing.T) {
	for _, name := range []string{"sqlite:" + filepath.Join(t.TempDir(), "registry.db"), server.Database(t)} {
		a, b := open(t, name), open(t, name)
		addScope(t, a, hall, venue)
		done := make(chan error)
		for i, r := range []*Registry{a, b} {
			go func() {
				for n := range 25 {
					if _, err := r.AddCredential(t.Context(), by(""), hall, 0, credential(100*i+n+1, 100*i+n+1)); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		var things, credentials int
		must(t, a.queryRow(t.Context(), `SELECT count(*) FROM credentials`).Scan(&credentials))
		must(t, a.queryRow(t.Context(), `SELECT last FROM numbers WHERE name = 'thing'`).Scan(&things))
		if credentials != 50 || things != 1+1+2*50 {
			t.Errorf("%d credentials, %d things", credentials, things)
		}
	}
}
