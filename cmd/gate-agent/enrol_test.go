package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// broken is the state folder of a terminal that broke, with a journal.
func broken(t *testing.T) (state string) {
	t.Helper()
	state = t.TempDir()
	j, err := journal.Open(filepath.Join(state, journalFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err = errors.Join(err, j.Started(t.Context(), time.Now(), "gate-1", "hall", "v1"))
	}
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	return state
}

func spare(t *testing.T) *config {
	t.Helper()
	return &config{folder: t.TempDir(), State: "state"}
}

func TestJournalIsTakenOverWhole(t *testing.T) {
	from, c := broken(t), spare(t)
	if err := c.makeState(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "claims.db"), []byte("heard"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(from, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	over, err := c.takeOverFrom(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.journalPath()); err == nil {
		t.Error("it has its name before the terminal has enrolled")
	}
	if err := errors.Join(over.keep(), over.discard()); err != nil {
		t.Fatal(err)
	}
	if heard, err := os.ReadFile(filepath.Join(c.path(c.State), "claims.db")); string(heard) != "heard" {
		t.Errorf("what it has heard is lost: %v", err)
	}
	j, err := c.openJournal(nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := j.Verify(t.Context())
	if err = errors.Join(err, j.Close()); err != nil || report.Events != 3 || report.Incarnation != over.report.Incarnation {
		t.Errorf("taken over: %+v, %v", report, err)
	}
	if after, err := os.ReadFile(filepath.Join(from, journalFile)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the other disk was changed: %v", err)
	}
	if _, err := c.takeOverFrom(t.Context(), from); err == nil || !strings.Contains(err.Error(), "a journal of its own") {
		t.Errorf("a second journal: %v", err)
	}
}

func TestChangedJournalIsNotTakenOver(t *testing.T) {
	change := func(t *testing.T, state, name string, f func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(state, name))
		if err = errors.Join(err, os.WriteFile(filepath.Join(state, name), f(b), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, attack := range map[string]func(t *testing.T, state string){
		"an event that says something else": func(t *testing.T, state string) {
			change(t, state, journalFile, func(b []byte) []byte { return bytes.Replace(b, []byte("gate-1"), []byte("gate-2"), 1) })
		},
		"half of it": func(t *testing.T, state string) {
			change(t, state, journalFile, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"none": func(t *testing.T, state string) {
			if err := os.Remove(filepath.Join(state, journalFile)); err != nil {
				t.Fatal(err)
			}
		},
		"a link to elsewhere": func(t *testing.T, state string) {
			path := filepath.Join(state, journalFile)
			if err := errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)); err != nil {
				t.Fatal(err)
			}
		},
		"of a terminal that was wiped": func(t *testing.T, state string) {
			memory, err := command.OpenMemory(state)
			if err == nil {
				err = memory.Update(func(s *command.State) { s.Wiped.Number = 7 })
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, c := broken(t), spare(t)
			attack(t, from)
			if err := c.makeState(); err != nil {
				t.Fatal(err)
			}
			if over, err := c.takeOverFrom(t.Context(), from); err == nil {
				t.Errorf("taken over: %s", over.text())
			}
			for _, name := range []string{journalFile, takeoverFolder} {
				if _, err := os.Stat(filepath.Join(c.path(c.State), name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s was left behind: %v", name, err)
				}
			}
		})
	}
}

// A renewer is a hub that renews certificates, until it is told to refuse.
type renewer struct {
	authority authority.Authority
	server    *httptest.Server
	refuses   atomic.Bool
}

func newRenewer(t *testing.T) *renewer {
	t.Helper()
	h := new(renewer)
	var err error
	if h.authority, err = authority.Create(t.TempDir(), "hall", time.Now().AddDate(-1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	certificate, key, err := h.authority.Server([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != enrol.RenewPath || len(r.TLS.PeerCertificates) == 0 || h.refuses.Load() {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(enrol.Refusal{Version: enrol.Version, Code: enrol.Unknown, Message: "no terminal in force has this key"})
			return
		}
		e := h.enrolment(t, r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey), time.Now())
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate.Raw})
		_ = json.NewEncoder(w).Encode(enrol.Answer{Version: enrol.Version, Certificate: string(text), CA: string(e.CA), Hub: &e.Hub})
	}))
	h.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, ClientCAs: h.authority.Pool()}
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	return h
}

func (h *renewer) enrolment(t *testing.T, key ed25519.PublicKey, at time.Time) enrol.Enrolment {
	der, err := h.authority.Terminal(key, "an-id", at)
	if err != nil {
		t.Error(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Error(err)
	}
	return enrol.Enrolment{
		Hub: enrol.Hub{Version: enrol.Version, Name: "Hall", HTTPS: h.server.URL, Scope: world.Scope, Terminal: world.Terminal},
		CA:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.authority.Root()}), Certificate: leaf,
	}
}

// withCertificate enrols a terminal with one that was issued then, for its own key or
// another.
func withCertificate(issued time.Duration, own bool) func(*testing.T, bench, *site) {
	return func(t *testing.T, _ bench, s *site) {
		identity, err := s.c.openIdentity()
		if err != nil {
			t.Fatal(err)
		}
		key := identity.Public().(ed25519.PublicKey)
		if !own {
			key = make(ed25519.PublicKey, ed25519.PublicKeySize)
		}
		e := newRenewer(t).enrolment(t, key, s.now.Add(issued))
		s.c.Hub.Connect, s.c.enrolled = true, &e
	}
}

// enrolled is a terminal whose certificate was issued at an instant.
func (h *renewer) enrolled(t *testing.T, at time.Time) *config {
	t.Helper()
	w, err := world.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	file, err := w.Install(t.TempDir(), `["tap-use"]`, list)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, "\n[hub]\nconnect = true\n"...), 0o600)
	}
	if err == nil {
		err = h.enrolment(t, w.IdentityKey.Public().(ed25519.PublicKey), at).Write(filepath.Join(filepath.Dir(file), "state"))
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.keys.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// renewsUntil renews as a running agent does, until it says something.
func renewsUntil(t *testing.T, c *config, says string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	logged, ended := new(lockedBuffer), make(chan struct{})
	go func() {
		defer close(ended)
		c.renewCertificates(ctx, slog.New(slog.NewTextHandler(logged, nil)))
	}()
	defer func() { cancel(); <-ended }()
	for deadline := time.Now().Add(15 * time.Second); !strings.Contains(logged.String(), says); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %q:\n%s", says, logged)
		}
	}
}

func TestRunningAgentRenewsItsCertificateInTime(t *testing.T) {
	h := newRenewer(t)
	for name, issued := range map[string]time.Duration{"late in its life": 29 * 24 * time.Hour, "after its end": 60 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := h.enrolled(t, time.Now().Add(-issued))
			before := c.enrolled.Certificate
			renewsUntil(t, c, "certificate renewed")
			after, err := enrol.Read(c.path(c.State))
			if err != nil || !after.Certificate.NotAfter.After(before.NotAfter) || time.Until(after.Certificate.NotAfter) < 29*24*time.Hour {
				t.Errorf("after the renewal: until %v, %v", after.Certificate.NotAfter, err)
			}
		})
	}
}

func TestRefusedRenewalIsToldAndTheCertificateStays(t *testing.T) {
	h := newRenewer(t)
	h.refuses.Store(true)
	c := h.enrolled(t, time.Now().Add(-25*24*time.Hour))
	renewsUntil(t, c, "whether it was retired or replaced")
	if after, err := enrol.Read(c.path(c.State)); err != nil || !after.Certificate.Equal(c.enrolled.Certificate) {
		t.Errorf("another certificate: %v", err)
	}
}
