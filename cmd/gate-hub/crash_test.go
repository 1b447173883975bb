package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/whitelist"
)

// gateHub is a command of this program, as testscript.Main runs it.
func gateHub(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = append([]string{"gate-hub"}, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func must(t *testing.T, args ...string) time.Duration {
	t.Helper()
	start := time.Now()
	if out, err := gateHub(t, args...).CombinedOutput(); err != nil {
		t.Fatalf("gate-hub %q: %v\n%s", args, err, out)
	}
	return time.Since(start)
}

// The process is killed anywhere in a publication, again and again. What lies in
// the folder is a whole list each time, and a terminal that follows comes to what
// the registry has.
func TestKilledPublisherLeavesAWholeList(t *testing.T) {
	dir := t.TempDir()
	hub := filepath.Join(dir, "hub")
	must(t, "init", hub, "--name", "Arena", "--scope", "arena", "--hierarchy", "test", "--host", "127.0.0.1")
	const people = 1000
	tickets := func(round int) {
		var b strings.Builder
		b.WriteString("id,order,uses\n")
		for n := range people {
			uses := 1
			if n%7 == round%7 {
				uses = 2 + round
			}
			fmt.Fprintf(&b, "T-%d,A%d,%d\n", n, n, uses)
		}
		file := filepath.Join(dir, "tickets.csv")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, "ticket", "import", file, "--config", hub)
	}
	tickets(0)
	x := reader{t: t, folder: filepath.Join(hub, "files", "arena"), rows: make(map[cardid.CardID]string)}
	text, err := os.ReadFile(filepath.Join(hub, "scopes", "arena", "list.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := sign1.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign1.NewKeys(sign1.Key{Public: public, Role: sign1.RoleList, Scope: "arena"})
	if err != nil {
		t.Fatal(err)
	}
	x.trust = roles.Trust{Pinned: keys}
	whole := must(t, "list", "publish", "--config", hub)
	x.fetch()

	killed := 0
	for round := 1; round <= 15; round++ {
		tickets(round)
		cmd := gateHub(t, "list", "publish", "--config", hub)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(whole)) // anywhere; which step it meets is up to the machine
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			killed++
		}
		x.fetch()
	}
	must(t, "list", "publish", "--config", hub)
	x.fetch()
	t.Logf("killed %d times, at list %d", killed, x.seq)
	if x.manifest.Rows != people || killed == 0 {
		t.Errorf("%d rows, killed %d times", x.manifest.Rows, killed)
	}
	var out bytes.Buffer
	cmd := gateHub(t, "list", "diff", "--full", "--config", hub)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "0 added, 0 changed, 0 gone") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// A reader follows the folder of a scope.
type reader struct {
	t        *testing.T
	folder   string
	trust    roles.Trust
	rows     map[cardid.CardID]string
	seq      uint64 // of its set
	manifest whitelist.Manifest
}

// fetch takes the list in place, whose every file must be there.
func (x *reader) fetch() {
	x.t.Helper()
	head, err := os.ReadFile(filepath.Join(x.folder, "manifest"))
	if err != nil {
		x.t.Fatal(err)
	}
	read, err := whitelist.ReadHead(head, x.trust)
	if err != nil {
		x.t.Fatal(err)
	}
	m := read.Manifest
	if m.Seq < x.manifest.Seq {
		x.t.Fatalf("list %d after %d", m.Seq, x.manifest.Seq)
	}
	snapshot := make(map[cardid.CardID]string)
	x.file(snapshot, fmt.Sprintf("snapshot/%x", m.Snapshot.SHA256), func(r io.Reader) *whitelist.RowsReader { return m.Snapshot.Reader(r) })
	if x.seq == 0 {
		x.rows, x.seq = snapshot, m.Snapshot.Seq
	}
	path, ok := m.Path(x.seq)
	if !ok {
		x.rows, path = snapshot, nil
		path, _ = m.Path(m.Snapshot.Seq)
	}
	for _, d := range path {
		x.file(x.rows, fmt.Sprintf("delta/%d-%d/%x", d.From, d.To, d.SHA256), func(r io.Reader) *whitelist.RowsReader { return d.Reader(r) })
	}
	x.seq, x.manifest = m.Set.Seq, m
	var set whitelist.Set
	for id, sealed := range x.rows {
		set.Add(whitelist.SealedRow{ID: id, Sealed: []byte(sealed)})
	}
	if set.Digest() != m.Set.Digest {
		x.t.Fatalf("list %d: the files do not lead to its set", m.Seq)
	}
}

func (x *reader) file(rows map[cardid.CardID]string, name string, reader func(io.Reader) *whitelist.RowsReader) {
	x.t.Helper()
	b, err := os.ReadFile(filepath.Join(x.folder, name))
	if err != nil {
		x.t.Fatal(err)
	}
	for in := reader(bytes.NewReader(b)); ; {
		r, err := in.Next()
		switch {
		case err == io.EOF:
			return
		case err != nil:
			x.t.Fatalf("%s: %v", name, err)
		case len(r.Sealed) == 0:
			delete(rows, r.ID)
		default:
			rows[r.ID] = string(r.Sealed)
		}
	}
}
