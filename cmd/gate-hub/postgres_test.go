package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/postgres"
)

// While the database is away what is published is served, and health says that
// something is wrong; when it comes back nobody has to do anything.
func TestDatabaseThatIsKilledAndComesBackIsTakenUpAgain(t *testing.T) {
	var server postgres.Server
	db := server.Database(t)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	hub := filepath.Join(dir, "hub")
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	must(t, "init", hub, "--name", "Arena", "--scope", "arena", "--hierarchy", "test", "--host", "127.0.0.1", "--db", db)
	config := filepath.Join(hub, "hub.toml")
	text, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, regexp.MustCompile(`poll = "5s"`).ReplaceAll(text, []byte(`poll = "1s"`)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	tickets := filepath.Join(dir, "tickets.csv")
	if err := os.WriteFile(tickets, []byte("id,order\nT-1,A1\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := gateHub(t, "serve", hub, "--plain-http", "127.0.0.1:"+port)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	get := func(path string) (status int, body string) {
		r, err := client.Get("http://127.0.0.1:" + port + path)
		if err != nil {
			return 0, err.Error()
		}
		defer r.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(r.Body); err != nil {
			return 0, err.Error()
		}
		return r.StatusCode, b.String()
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for range 600 {
			if done() {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("never: %s", what)
	}
	healthy := func() bool { status, _ := get("/healthz"); return status == http.StatusOK }
	placed := func() string { _, list := get("/arena/manifest"); return list }

	until("a first list", func() bool { status, _ := get("/arena/manifest"); return status == http.StatusOK })
	first := placed()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	until("health says so", func() bool { status, _ := get("/healthz"); return status == http.StatusServiceUnavailable })
	if placed() != first {
		t.Error("the list is not served without the database")
	}
	out, err := gateHub(t, "ticket", "import", tickets, "--config", hub).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "opening the registry") {
		t.Errorf("an import without the database: %v, %s", err, out)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	must(t, "ticket", "import", tickets, "--config", hub)
	until("the ticket is published", func() bool { return placed() != first && healthy() })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if s := log.String(); !strings.Contains(s, "publishing failed") || !strings.Contains(s, "publishing works again") {
		t.Errorf("the log says nothing of it:\n%s", s)
	}
}
