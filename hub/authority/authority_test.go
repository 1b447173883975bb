package authority

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/wholefile"
)

var (
	now   = time.Now()
	hosts = []string{"hub.example.jp", "127.0.0.1"}
)

func create(t testing.TB, name string) Authority {
	t.Helper()
	a, err := Create(t.TempDir(), name, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve names the files of a server.
func serve(t testing.TB, a Authority, hosts []string) (certificate, key string) {
	t.Helper()
	certificate, key, err := a.Server(hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCertificateIsDueBeforeItEndsAndForAnotherServer(t *testing.T) {
	a, other := create(t, "arena"), create(t, "other")
	path, _ := serve(t, a, hosts)
	certificate := read(t, path)
	if a.due(certificate, hosts, now) {
		t.Error("due at once")
	}
	for what, due := range map[string]bool{
		"near its end":         a.due(certificate, hosts, now.Add(61*24*time.Hour)),
		"another host":         a.due(certificate, []string{"hub.example.jp", "127.0.0.2"}, now),
		"fewer hosts":          a.due(certificate, hosts[:1], now),
		"of another authority": other.due(certificate, hosts, now),
		"nothing":              a.due(nil, hosts, now),
	} {
		if !due {
			t.Errorf("%s: not due", what)
		}
	}
}

func TestServerKeepsItsCertificateUntilItIsDue(t *testing.T) {
	a := create(t, "arena")
	certificate, key := serve(t, a, hosts)
	first := read(t, certificate)
	again, err := Open(a.folder)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, again, hosts)
	if string(read(t, certificate)) != string(first) {
		t.Error("issued anew, and not due")
	}
	// Killed between the key and its certificate.
	_, fresh, err := a.issueServer(hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Replace(key, fresh); err != nil {
		t.Fatal(err)
	}
	serve(t, again, hosts)
	if _, err := tls.LoadX509KeyPair(certificate, key); err != nil {
		t.Error(err)
	}
}

func TestAuthorityIsNotOverwritten(t *testing.T) {
	a := create(t, "arena")
	if _, err := Create(a.folder, "other", now); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if again, err := Open(a.folder); err != nil || string(again.root) != string(a.root) || string(again.key) != string(a.key) {
		t.Errorf("another authority: %v", err)
	}
}

func TestKeyThatOthersCanReadIsRefused(t *testing.T) {
	a := create(t, "arena")
	if err := os.Chmod(a.path(rootKeyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(a.folder); err == nil {
		t.Error("opened")
	}
}
