package rescue

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

var about = About{"gate-1-left", "arena", 7, time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}

func made(t *testing.T, recipient string) (file []byte, journal []byte) {
	t.Helper()
	dir := t.TempDir()
	journal = bytes.Repeat([]byte("a record. "), 50_000) // several chunks
	if err := os.WriteFile(filepath.Join(dir, "journal.db"), journal, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "list.db"), []byte("not saved"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, recipient, about, dir); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), journal
}

func open(t *testing.T, file []byte, identity string) (About, string, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	a, err := Open(bytes.NewReader(file), strings.NewReader(identity+"\n"), root)
	return a, dir, err
}

func TestJournalComesBackWithTheIdentityAlone(t *testing.T) {
	identity, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	file, journal := made(t, recipient)
	if bytes.Contains(file, []byte("a record.")) || bytes.Contains(file, []byte("gate-1-left")) {
		t.Error("it can be read without the identity")
	}
	got, dir, err := open(t, file, identity)
	if err != nil || got != about {
		t.Fatalf("%+v, %v", got, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "journal.db")); err != nil || !bytes.Equal(b, journal) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "list.db")); err == nil {
		t.Error("the list was saved too")
	}
	stranger, _, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, file, stranger); err == nil {
		t.Error("opens with another identity")
	}
}

func TestRescueFileThatWasCutOrChangedDoesNotOpen(t *testing.T) {
	identity, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	file, _ := made(t, recipient)
	changed := bytes.Clone(file)
	changed[len(changed)-1] ^= 1
	for name, b := range map[string][]byte{
		"cut in a chunk": file[:len(file)-1], "cut between chunks": file[:len(file)-(len(file)-1000)%(64<<10)],
		"changed": changed, "longer": append(bytes.Clone(file), 0), "empty": nil,
	} {
		if _, _, err := open(t, b, identity); err == nil {
			t.Errorf("%s: opens", name)
		}
	}
}

// Who knows a recipient can encrypt anything to it.
func TestForeignNamesInARescueFileAreRefused(t *testing.T) {
	identity, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../journal.db", "/etc/passwd", "journal.db.lock", "rescue.json"} {
		to, err := age.ParseX25519Recipient(recipient)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		sealed, err := age.Encrypt(&b, to)
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewWriter(sealed)
		if err := addAbout(archive, about); err != nil {
			t.Fatal(err)
		}
		if err := archive.WriteHeader(header(name, 0, about)); err != nil {
			t.Fatal(err)
		}
		archive.Close()
		sealed.Close()
		if _, _, err := open(t, b.Bytes(), identity); err == nil || !strings.Contains(err.Error(), "no terminal puts there") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
