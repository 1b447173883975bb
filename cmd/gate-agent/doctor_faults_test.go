package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/swtpm"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
)

// A fault is one thing that is wrong with a terminal, and the check that finds it.
type fault struct {
	check, name string

	// mend makes the terminal of the tests one that the check finds nothing at: it
	// is one of tests, as root or without a running agent.
	mend func(*testing.T, bench, *site)

	disk  func(*testing.T, bench)        // breaks its files
	site  func(*testing.T, bench, *site) // or what is known of it
	want  result                         // isFailed when it is ""
	blind bool                           // the check finds something at the terminal before it is broken
}

// Each check finds nothing on a terminal that is in order, and finds the one thing
// that is broken then.
func TestEachCheckFindsItsFault(t *testing.T) {
	t.Setenv("PCSCLITE_CSOCK_NAME", filepath.Join(t.TempDir(), "absent"))
	b := newBench(t)
	covered := map[string]bool{}
	for _, f := range faults() {
		covered[f.check] = true
		t.Run(f.check+" "+f.name, func(t *testing.T) {
			mended := func() *site {
				s := b.site(t)
				if f.mend != nil {
					f.mend(t, b, s)
				}
				return s
			}
			if before := mended().examine(f.check); !f.blind && before.Result != isOK {
				t.Fatalf("in order, and yet %+v", before)
			}
			if f.disk != nil {
				f.disk(t, b)
			}
			s := mended()
			if f.site != nil {
				f.site(t, b, s)
			}
			if f.want == "" {
				f.want = isFailed
			}
			s.examine("keys") // as doctor does before: it leaves its keys open
			after := s.examine(f.check)
			if after.Result != f.want || after.Evidence == "" || after.Result != isExempt && after.Next == "" {
				t.Errorf("%+v, want %s, with evidence and what to do", after, f.want)
			}
		})
	}
	for name := range allChecks() {
		if !covered[name] {
			t.Errorf("no fault is planted for the check %q", name)
		}
	}
}

// machine is a folder with what the kernel would say.
func machine(t *testing.T, s *site, files map[string]string) {
	t.Helper()
	s.root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(s.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func swapOn(line string, files ...string) func(*testing.T, bench, *site) {
	return func(t *testing.T, _ bench, s *site) {
		all := map[string]string{"proc/swaps": "Filename\tType\tSize\tUsed\tPriority" + line}
		for i := 0; i+1 < len(files); i += 2 {
			all[files[i]] = files[i+1]
		}
		machine(t, s, all)
	}
}

func dumps(limit, pattern string) func(*testing.T, bench, *site) {
	return func(t *testing.T, _ bench, s *site) {
		agentIs(7, 0)(t, bench{}, s)
		machine(t, s, map[string]string{
			"proc/7/limits":                "Limit                     Soft Limit           Hard Limit           Units\nMax core file size        " + limit + "                    unlimited            bytes",
			"proc/sys/kernel/core_pattern": pattern,
		})
	}
}

func agentIs(pid, uid int) func(*testing.T, bench, *site) {
	return func(_ *testing.T, _ bench, s *site) {
		s.agent = func() (api.Process, error) { return api.Process{PID: pid, UID: uid}, nil }
	}
}

func agentIsGone(_ *testing.T, _ bench, s *site) {
	s.agent = func() (api.Process, error) { return api.Process{}, api.ErrNotRunning }
}

// listens makes the socket of an agent.
func listens(t *testing.T, _ bench, s *site) {
	if _, err := os.Stat(s.c.socketPath()); err == nil {
		return
	}
	l, err := api.Listen(s.c.socketPath())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// inMemory puts the key source where a copied disk has not got it.
func inMemory(t *testing.T, b bench, s *site) {
	dir, err := os.MkdirTemp("/dev/shm", "gate-agent-test-")
	if err != nil {
		t.Skipf("needs a file system in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	source := filepath.Join(dir, "key-source")
	if err := os.WriteFile(source, []byte(b.read(t, "key-source")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, uri := range []*string{&s.c.ScopeKey.Wrapper, &s.c.ExternalAuth.Key, &s.c.Identity.Key, &s.c.Checkpoint.Key} {
		*uri = strings.Replace(*uri, b.path("key-source"), source, 1)
	}
}

func (b bench) uri(name string) string {
	return fmt.Sprintf("sealed:path=%s;key-source=%s", b.path(name), b.path("key-source"))
}

// inTPM puts the external-authentication key where it cannot be taken out.
func inTPM(t *testing.T, b bench, s *site) {
	s.c.ExternalAuth.Key = swtpm.New(t).URI("81000010")
	if err := s.c.keys.store.Import(t.Context(), s.c.ExternalAuth.Key, keystore.ExternalAuth, b.TerminalKey); err != nil {
		t.Fatal(err)
	}
}

// swtpmOff is the URI of a key in a TPM that has no power.
func swtpmOff(t *testing.T) string {
	tpm := swtpm.New(t)
	tpm.PowerOff(t)
	return tpm.URI("81000010")
}

// change is a fault of the configuration.
func change(f func(*config)) func(*testing.T, bench, *site) {
	return func(_ *testing.T, _ bench, s *site) { f(s.c) }
}

func opened(name string, mode os.FileMode) func(*testing.T, bench) {
	return func(t *testing.T, b bench) { b.chmod(t, name, mode) }
}

func edited(name, old, with string) func(*testing.T, bench) {
	return func(t *testing.T, b bench) { b.edit(t, name, old, with) }
}

func later(d time.Duration) func(*testing.T, bench, *site) {
	return func(_ *testing.T, _ bench, s *site) { s.now = s.now.Add(d) }
}

// tapped puts further taps into the journal, until the end of the test.
func tapped(n int, took time.Duration) func(*testing.T, bench) {
	return func(t *testing.T, b bench) {
		b.keep(t, "state/journal.db")
		b.tap(t, n, took)
	}
}

// forged changes one event of the journal.
func forged(t *testing.T, b bench) {
	b.edit(t, "state/journal.db", `"elapsed_ms":300`, `"elapsed_ms":200`)
}

// rotates has the external-authentication key replaced by one of another kind, until
// the end of the test.
func rotates(t *testing.T, b bench) {
	s := b.site(t)
	if _, err := s.c.keys.store.Generate(t.Context(), b.uri("next.key"), keystore.ExternalAuth, keystore.P256); err != nil {
		t.Fatal(err)
	}
	next := rotation{Format: rotationFormat, Key: b.uri("next.key"), From: s.now}
	for _, c := range b.TerminalCertificates {
		next.Certificates = append(next.Certificates, c)
	}
	if err := s.c.writeRotation(&next); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.c.writeRotation(nil), os.Remove(b.path("next.key"))); err != nil {
			t.Error(err)
		}
	})
}

// rotatesBadly has a rotation that nobody can read.
func rotatesBadly(t *testing.T, b bench) {
	b.put(t, "state/rotation.toml", "nonsense")
	t.Cleanup(func() { os.Remove(b.path("state/rotation.toml")) })
}

// moved takes a file away until the end of the test.
func moved(name string) func(*testing.T, bench) {
	return func(t *testing.T, b bench) {
		if err := os.Rename(b.path(name), b.path("away")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Rename(b.path("away"), b.path(name)); err != nil {
				t.Error(err)
			}
		})
	}
}

// roundsWere leaves behind what rounds have come to that went well, but for change.
func roundsWere(change func(s *lists.Status, now time.Time)) func(*testing.T, bench, *site) {
	return func(t *testing.T, b bench, s *site) {
		s.c.List.Source = "file:stick"
		status := lists.Status{
			LastRound: s.now, LastContact: s.now, RoleEnds: s.now.Add(30 * 24 * time.Hour),
			Failure: &lists.Failure{Error: "no such file", Since: s.now.Add(-time.Hour), Until: s.now.Add(-time.Minute)},
		}
		change(&status, s.now)
		text, err := json.Marshal(status)
		if err != nil {
			t.Fatal(err)
		}
		b.put(t, "state/sync.json", string(text))
		t.Cleanup(func() { os.Remove(b.path("state/sync.json")) })
	}
}

func faults() []fault {
	onlyB := change(func(c *config) { c.Methods = []jpki.Method{jpki.TapUse} })
	noStaff := change(func(c *config) { c.Staff.File = "" })
	return []fault{
		{check: "configuration", name: "syntax", disk: edited("config.toml", "mode ", "mode mode ")},
		{check: "configuration", name: "unknown key", disk: edited("config.toml", "scope ", "scoop ")},

		{check: "enrolment", name: "not enrolled", site: change(func(c *config) { c.Hub.Connect = true }), want: isWarning},
		{check: "enrolment", name: "not renewed", site: withCertificate(-25*24*time.Hour, true), want: isWarning},
		{check: "enrolment", name: "certificate ended", site: withCertificate(-31*24*time.Hour, true)},
		{check: "enrolment", name: "certificate of another key", site: withCertificate(-time.Hour, false)},

		{check: "keys", name: "key source open to others", disk: opened("key-source", 0o644)},
		{check: "keys", name: "missing", disk: moved("identity.key")},
		{check: "keys", name: "of another purpose", site: change(func(c *config) { c.Identity.Key = c.ExternalAuth.Key })},
		{check: "key-kind", name: "another curve", site: func(t *testing.T, b bench, s *site) {
			if _, err := s.c.keys.store.Generate(t.Context(), b.uri("p256.key"), keystore.ExternalAuth, keystore.P256); err != nil {
				t.Fatal(err)
			}
			s.c.ExternalAuth.Key = b.uri("p256.key")
		}},
		{check: "key-kind", name: "its successor", disk: rotates},
		{check: "key-kind", name: "no method A", site: onlyB, want: isExempt},
		{check: "keys-apart", name: "one key for two purposes", site: func(t *testing.T, b bench, s *site) {
			if err := s.c.keys.store.Import(t.Context(), b.uri("same.key"), keystore.Checkpoint, b.IdentityKey); err != nil {
				t.Fatal(err)
			}
			s.c.Checkpoint.Key = b.uri("same.key")
		}},
		{check: "keys-apart", name: "not to be opened", disk: moved("checkpoint.key")},
		{check: "not-exportable", name: "sealed", mend: inTPM, site: func(_ *testing.T, b bench, s *site) { s.c.ExternalAuth.Key = b.uri("external-auth.key") }},
		{check: "not-exportable", name: "TPM without power", mend: inTPM, site: func(t *testing.T, _ bench, s *site) { s.c.ExternalAuth.Key = swtpmOff(t) }},
		{check: "not-exportable", name: "no method A", mend: inTPM, site: onlyB, want: isExempt},
		{check: "custody", name: "key source on disk", mend: inMemory, site: func(t *testing.T, b bench, s *site) {
			source, err := filepath.Abs("doctor.go") // the folder of the tests may lie in memory
			if err != nil {
				t.Fatal(err)
			}
			s.c.Identity.Key = fmt.Sprintf("sealed:path=%s;key-source=%s", b.path("identity.key"), source)
		}},
		{check: "custody", name: "no key source", mend: inMemory, site: func(_ *testing.T, b bench, s *site) {
			s.c.Identity.Key = strings.Replace(b.uri("identity.key"), "key-source=", "key-source=/nowhere", 1)
		}},
		{check: "certificates", name: "in the wrong order", site: change(func(c *config) {
			c.ExternalAuth.Certificates = []string{"terminal.cvc", "intermediate.cvc"}
		})},
		{check: "certificates", name: "of another key", site: func(t *testing.T, b bench, s *site) {
			if _, err := s.c.keys.store.Generate(t.Context(), b.uri("other.key"), keystore.ExternalAuth, keystore.RSA2048); err != nil {
				t.Fatal(err)
			}
			s.c.ExternalAuth.Key = b.uri("other.key")
		}},

		{check: "certificates", name: "its successor has none", disk: rotates},
		{check: "keys", name: "a rotation that cannot be read", disk: rotatesBadly},
		{check: "keys-apart", name: "a rotation that cannot be read", disk: rotatesBadly},
		{check: "key-kind", name: "a rotation that cannot be read", disk: rotatesBadly},
		{check: "custody", name: "a rotation that cannot be read", mend: inMemory, disk: rotatesBadly},

		{check: "files-closed", name: "a rotation that cannot be read", disk: rotatesBadly},
		{check: "files-closed", name: "configuration", disk: opened("config.toml", 0o622)},
		{check: "files-closed", name: "key", disk: opened("external-auth.key", 0o640)},
		{check: "files-closed", name: "key source", disk: opened("key-source", 0o604)},
		{check: "files-closed", name: "roster", disk: opened("staff.toml", 0o644)},
		{check: "files-closed", name: "list key", disk: opened("list.pub.pem", 0o666)},
		{check: "files-closed", name: "folder of the configuration", disk: opened(".", 0o777)},
		{check: "files-closed", name: "state folder", disk: opened("state", 0o750)},
		{check: "files-closed", name: "journal", disk: opened("state/journal.db", 0o666)},
		{check: "files-closed", name: "missing certificate", disk: moved("terminal.cvc")},
		{check: "files-owned", name: "of somebody else", disk: func(t *testing.T, b bench) {
			if os.Geteuid() != 0 {
				t.Skip("needs root, to give a file away")
			}
			if err := os.Chown(b.path("list.pub.pem"), 12345, -1); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chown(b.path("list.pub.pem"), 0, -1) })
		}},
		{check: "files-owned", name: "no state folder", disk: moved("state")},
		{check: "socket", name: "open to others", mend: listens, site: func(t *testing.T, _ bench, s *site) {
			if err := os.Chmod(s.c.socketPath(), 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		{check: "socket", name: "none", blind: true},
		{check: "swap", name: "on a disk", mend: swapOn(""), site: swapOn("\n/dev/mmcblk0p3                          partition\t1048572\t0\t-2")},
		{check: "swap", name: "on a volume that is not encrypted", mend: swapOn("\n/dev/dm-1 partition\t1\t0\t-2", "sys/block/dm-1/dm/uuid", "CRYPT-PLAIN-swap"),
			site: swapOn("\n/dev/dm-1 partition\t1\t0\t-2", "sys/block/dm-1/dm/uuid", "LVM-abc")},
		{check: "swap", name: "zram with a disk behind it", mend: swapOn("\n/dev/zram0 partition\t1\t0\t100", "sys/block/zram0/backing_dev", "none"),
			site: swapOn("\n/dev/zram0 partition\t1\t0\t100", "sys/block/zram0/backing_dev", "/dev/sda3")},
		{check: "swap", name: "one of two", mend: swapOn("\n/dev/zram0 partition\t1\t0\t100"), site: swapOn("\n/dev/zram0 partition\t1\t0\t100\n/swapfile file\t1\t0\t-2")},
		{check: "core-dumps", name: "no limit", mend: dumps("0", "core"), site: dumps("unlimited", "core")},
		{check: "core-dumps", name: "to a program", mend: dumps("1", "|/usr/lib/systemd/systemd-coredump"), site: dumps("0", "|/usr/lib/systemd/systemd-coredump")},
		{check: "core-dumps", name: "no agent", mend: dumps("0", "core"), site: agentIsGone},
		{check: "agent-user", name: "root", mend: agentIs(7, 1000), site: agentIs(7, 0)},
		{check: "agent-user", name: "no agent", mend: agentIs(7, 1000), site: agentIsGone},

		{check: "staff", name: "broken", disk: edited("staff.toml", "supervisor", "boss")},
		{check: "staff", name: "none", site: noStaff, want: isWarning},
		{check: "supervisors", name: "one", disk: edited("staff.toml", "supervisor", "steward")},
		{check: "supervisors", name: "no roster", site: noStaff},
		{check: "passcodes", name: "in plain text", disk: edited("staff.toml", "$argon2id$", "$plain$")},
		{check: "passcodes", name: "weak hash", disk: edited("staff.toml", "m=19456", "m=1024")},
		{check: "passcodes", name: "no roster", site: noStaff, want: isExempt},

		{check: "production", name: "test mode", mend: change(func(c *config) { c.Mode = anchor.Production }), site: change(func(c *config) { c.Mode = anchor.Test })},
		{check: "anchors", name: "of tests", mend: change(func(c *config) { c.Mode, c.Anchors.Files, c.Anchors.SurfaceKeys = anchor.Production, nil, "" }),
			site: change(func(c *config) { c.Mode, c.Anchors.SurfaceKeys = anchor.Test, builtinKeys })},
		{check: "anchors", name: "test certificate in production", mend: change(func(c *config) { c.Mode, c.Anchors.Files, c.Anchors.SurfaceKeys = anchor.Production, nil, "" }),
			site: change(func(c *config) { c.Anchors.Files = []string{"ca.pem"} })},
		{check: "anchors", name: "nobody confirmed", mend: change(func(c *config) { c.Mode, c.Anchors.Files, c.Anchors.SurfaceKeys = anchor.Production, nil, "" }),
			site: change(func(c *config) { c.Anchors.SurfaceKeys = builtinKeys }), want: isWarning},
		{check: "gate-driver", name: "simulator", mend: change(func(c *config) { c.Gate.Driver = driverGPIO }), site: change(func(c *config) { c.Gate.Driver = driverSimulator })},
		{check: "gate-driver", name: "a desk has none", mend: change(func(c *config) { c.Gate.Driver = driverGPIO }), site: change(func(c *config) { c.Gate.Mode = terminal.Counter }), want: isExempt},
		{check: "holder-check", name: "nobody compares", mend: change(func(c *config) { c.HolderCheck.ExternalAuth = terminal.CheckStaff }),
			site: change(func(c *config) { c.HolderCheck.ExternalAuth = terminal.CheckNone })},
		{check: "holder-check", name: "one lane of two is a counter", mend: change(func(c *config) { c.Gate.Mode = terminal.Counter }),
			site: change(func(c *config) { c.Lanes = []laneConfig{{Gate: gateConfig{Mode: terminal.Venue}}} })},
		{check: "checkpoints", name: "no key", site: change(func(c *config) { c.Checkpoint.Key = "" })},
		{check: "checkpoints", name: "only when asked", site: change(func(c *config) { c.Journal.Checkpoint.Duration = 0 })},
		{check: "retention", name: "for ever", site: change(func(c *config) { c.Journal.Keep.Duration = 0 })},
		{check: "deadline", name: "of 4 s", site: change(func(c *config) { c.Deadline.Duration = 4 * time.Second })},

		{check: "state", name: "open to others", disk: opened("state", 0o755)},
		{check: "state", name: "missing", disk: moved("state")},
		{check: "scope-key", name: "the lease has not come", site: func(t *testing.T, b bench, s *site) {
			if _, _, err := s.c.makeDeliveryKey(); err != nil {
				t.Fatal(err)
			}
			s.c.ScopeKey.Lease = true
		}},
		{check: "scope-key", name: "no delivery key", site: func(t *testing.T, b bench, s *site) {
			if err := os.Remove(s.c.deliveryPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			lease := filepath.Join(s.c.path(s.c.State), leaseFile)
			if err := os.WriteFile(lease, []byte("not one"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(lease) })
			s.c.ScopeKey.Lease = true
		}},
		{check: "list", name: "none", disk: moved("state")},
		{check: "list", name: "expired", site: later(8 * 24 * time.Hour)},
		{check: "list", name: "old revocation data", site: later(3 * 24 * time.Hour), want: isWarning},
		{check: "list-age", name: "old revocation data", site: later(3 * 24 * time.Hour)},
		{check: "list-age", name: "no list", disk: moved("state")},
		{check: "source", name: "no authority", site: change(func(c *config) { c.List.Source, c.List.CA = "https://hub.example", "missing.pem" })},
		{check: "source", name: "no round yet", site: change(func(c *config) { c.List.Source = "file:stick" }), want: isWarning},
		{check: "source", name: "fails", mend: roundsWere(func(*lists.Status, time.Time) {}), want: isWarning, site: roundsWere(func(s *lists.Status, now time.Time) {
			s.Failure = &lists.Failure{Error: "is the server running?", Since: now.Add(-time.Hour), Times: 12}
		})},
		{check: "source", name: "its list is refused", mend: roundsWere(func(*lists.Status, time.Time) {}), site: roundsWere(func(s *lists.Status, now time.Time) {
			s.Failure = &lists.Failure{Error: "signed by an unknown key", Refused: true, Since: now.Add(-time.Hour), Times: 12}
		})},
		{check: "source", name: "alarm", mend: roundsWere(func(*lists.Status, time.Time) {}), want: isWarning, site: roundsWere(func(s *lists.Status, now time.Time) {
			s.Alarm = &lists.Alarm{Error: "rows differ from the signed set", At: now.Add(-time.Hour)}
		})},
		{check: "source", name: "nobody looks", mend: roundsWere(func(*lists.Status, time.Time) {}), want: isWarning, site: roundsWere(func(s *lists.Status, now time.Time) {
			s.LastRound = now.Add(-time.Hour)
		})},
		{check: "source", name: "role ends", mend: roundsWere(func(*lists.Status, time.Time) {}), want: isWarning, site: roundsWere(func(s *lists.Status, now time.Time) {
			s.RoleEnds = now.Add(3 * 24 * time.Hour)
		})},
		{check: "source", name: "role has ended", mend: roundsWere(func(*lists.Status, time.Time) {}), site: roundsWere(func(s *lists.Status, now time.Time) {
			s.RoleEnds = now.Add(-time.Hour)
		})},
		{check: "clock", name: "behind the list", site: later(-2 * time.Hour)},
		{check: "clock", name: "behind the journal", site: later(-10 * time.Minute)},
		{check: "clock", name: "nothing to compare it with", disk: moved("state")},
		{check: "journal", name: "forged", disk: forged},
		{check: "journal", name: "none", disk: moved("state/journal.db"), want: isWarning},
		{check: "journal-whole", name: "forged", disk: forged},
		{check: "journal-whole", name: "none", disk: moved("state/journal.db")},
		{check: "disk", name: "full", site: change(func(c *config) { c.State = "/proc" })}, // has no room, and never will
		{check: "readers", name: "no pcscd", blind: true},
		{check: "agent", name: "none runs", blind: true},
		{check: "tap-limit", name: "slow taps", disk: tapped(3, 3500*time.Millisecond)},
		{check: "tap-limit", name: "no taps", disk: moved("state/journal.db")},
		{check: "tap-aim", name: "half of them slow", disk: tapped(40, 600*time.Millisecond), want: isWarning},
		{check: "tap-aim", name: "no taps", disk: moved("state/journal.db")},
	}
}

// An agent that is not dumpable has files in /proc that are root's: then no limit
// matters.
func TestAgentThatIsNotDumpableLeavesNoCore(t *testing.T) {
	b := newBench(t)
	s := b.site(t)
	dumps("unlimited", "|/sbin/handler")(t, b, s)
	info, err := os.Stat(filepath.Join(s.root, "proc/7/limits"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Skip("needs root, to make a file of root's")
	}
	if f := s.examine("core-dumps"); f.Result != isFailed {
		t.Errorf("an agent of root's: %+v", f)
	}
	agentIs(7, 1000)(t, b, s)
	if f := s.examine("core-dumps"); f.Result != isOK {
		t.Errorf("%+v", f)
	}
}
