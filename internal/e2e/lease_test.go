package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/lease"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
)

// leaseFile is the lease that the hub serves the terminal, nil when it serves none.
func (h *hub) leaseFile() []byte {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.files(), world.Scope, lease.File(world.Terminal)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	return b
}

// leasing waits until what the hub serves is so: it looks twice a minute.
func (h *hub) leasing(what string, so func(lease []byte) bool) {
	h.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if so(h.leaseFile()) {
			return
		}
	}
	h.t.Fatalf("the hub has never %s:\n%s", what, h.log)
}

// command has a person command the terminal.
func (h *hub) command(key, action string, more ...string) {
	h.t.Helper()
	file := h.beside(action)
	h.must(append([]string{"command", "draft", world.Terminal, action, file}, more...)...)
	h.must("command", "sign", file, "--yes", "--key", key)
	h.must("command", "publish", file)
}

// A serving hub is all that a terminal needs, from its first key to its last lease.
func TestServingHubLeasesCommandsAndRetires(t *testing.T) {
	t.Parallel()
	h, r, s := newHub(t), newReaders(t), install(t, shortDir(t))
	h.roots()
	anna := h.rootKey("anna") // no root's: her key lies beside theirs
	h.write(h.scope("command.pub.pem"), []byte(h.must("key", "generate", "--purpose", "command", anna)))
	h.delegate(world.Scope, 2, time.Now().Add(24*time.Hour), "a", "b")
	h.must("ticket", "import", h.write(h.beside("tickets.csv"), crowd(10)))
	h.add(s)
	source, ca := serve(h).source()
	h.follow(s, source, ca)
	h.leasing("issued a lease", func(b []byte) bool { return b != nil })
	first := h.leaseFile()

	// A newcomer's first round by hand brings its key, and then the list.
	says(t, s.must(t, "sync", "now"), "a new list, by a snapshot")
	says(t, s.must(t, "check-config"), "leased until")
	// What the hub has since is told over its own HTTPS, and not taken over.
	h.must("ticket", "block", "C-1", "--reason", "a test")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if said := s.must(t, "list", "diff", "--source"); strings.Contains(said, "0 added, 1 changed, 0 gone") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the difference to the hub is told as\n%s", said)
		}
	}
	if st := s.syncs(t); st.List.Seq != 1 {
		t.Errorf("list %d was taken over by looking", st.List.Seq)
	}
	v := &venue{hub: h, site: s, r: r}
	alice := v.registers(s, r, "T-alice")
	v.a = start(t, s, r)
	says(t, v.a.stderr.String(), `"msg":"scope key leased"`)
	v.until("got the card", func(s syncs) bool { return s.List != nil && s.List.Rows == 11 })
	v.tap(alice, terminal.Admit, terminal.OK)

	h.command(anna, "out_of_order", "--message", "改札を閉じます")
	v.a.says(`"action":"out_of_order","message":"改札を閉じます"`)
	says(t, s.must(t, "status"), "halted by", "改札を閉じます")
	h.command(anna, "in_order")
	v.a.says(`"action":"in_order"`)
	time.Sleep(settled) // it has not looked for cards before
	v.tap(alice, terminal.Admit, terminal.OK)
	if strings.Contains(v.a.stderr.String(), "commands refused") {
		t.Error("commands were refused")
	}

	// A lease that is due is issued without anybody, and taken over.
	h.delegate(world.Scope, 3, time.Now().Add(24*time.Hour), "b", "c")
	h.leasing("renewed the lease", func(b []byte) bool { return b != nil && !bytes.Equal(b, first) })
	v.a.stop()
	v.a = start(t, s, r)
	again := h.leaseFile()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if held, err := os.ReadFile(s.path("state/lease")); err == nil && bytes.Equal(held, again) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the renewed lease is not taken over:\n%s", v.a.stderr)
		}
	}

	// Beside a running agent a round by hand leaves the lease to it.
	if err := os.Rename(s.path("state/lease"), s.path("kept")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := s.run(t, "sync", "now"); code != 3 || !strings.Contains(stderr, "the running agent fetches it") {
		t.Errorf("sync now beside an agent: exit code %d: %s", code, stderr)
	}
	if err := os.Rename(s.path("kept"), s.path("state/lease")); err != nil {
		t.Fatal(err)
	}

	// The hub tells its operator of all that.
	says(t, h.must("status"), "made ", "lease ends", world.Terminal)
	var shown struct {
		LeaseEnds   time.Time `json:"lease_ends"`
		LastCommand uint64    `json:"last_command"`
	}
	if err := json.Unmarshal([]byte(h.must("terminal", "show", world.Terminal, "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(shown.LeaseEnds); left < 6*24*time.Hour || left > 7*24*time.Hour || shown.LastCommand != 2 {
		t.Errorf("terminal show: %+v", shown)
	}

	// Repaired, with another delivery key, it goes on where it was.
	v.a.stop()
	lost := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Remove(s.path("state/" + name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	lost("lease", "delivery.key")
	if _, stderr, code := s.run(t, "sync", "now"); code != 3 || !strings.Contains(stderr, "run gate-agent key delivery") {
		t.Errorf("sync now without a delivery key: exit code %d: %s", code, stderr)
	}
	fresh := s.write(t, "fresh.pem", []byte(s.must(t, "key", "delivery")))
	if _, stderr, code := s.run(t, "sync", "now"); code != 4 || !strings.Contains(stderr, "lease not taken over") {
		t.Errorf("sync now with a lease for the key before: exit code %d: %s", code, stderr)
	}
	h.must("terminal", "keys", world.Terminal, "--delivery", fresh, "--reason", "repaired")
	h.leasing("leased to the new key", func(b []byte) bool { return b != nil && !bytes.Equal(b, again) })
	s.must(t, "sync", "now")
	says(t, s.must(t, "check-config"), "leased until")

	// Who is retired keeps what it has until that ends, and gets nothing more.
	h.must("terminal", "retire", world.Terminal, "--reason", "stolen")
	h.leasing("stopped leasing", func(b []byte) bool { return b == nil })
	s.must(t, "sync", "now")
	lost("lease")
	if _, stderr, code := s.run(t, "sync", "now"); code != 1 || !strings.Contains(stderr, "no lease for terminal") {
		t.Errorf("sync now of a retired terminal: exit code %d: %s", code, stderr)
	}
	h.stop()
}
