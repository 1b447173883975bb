package enrol

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/sync/link"
)

func TestTokenIsTradedForACertificateOfTheIdentityKey(t *testing.T) {
	r := newRig(t)
	gate := r.enrolled("gate-1")
	e, err := enrol.Read(gate.state)
	r.must(err)
	spki, err := x509.MarshalPKIXPublicKey(gate.keys.Identity.Public())
	r.must(err)
	if e.Hub.Terminal != "gate-1" || e.Hub.Scope != scope || e.Hub.HTTPS != r.server.URL || e.Certificate.Subject.CommonName != link.ID(spki) {
		t.Errorf("enrolled as %+v, certificate of %q", e.Hub, e.Certificate.Subject.CommonName)
	}
	if left := time.Until(enrol.RenewAt(e.Certificate)); left < 19*24*time.Hour || left > 20*24*time.Hour {
		t.Errorf("renewed in %v, want two thirds of 30 days", left)
	}
	first := e.Certificate
	e, err = enrol.Renew(t.Context(), e, gate.credential(gate.keys.Identity))
	if r.must(err); e.Certificate.SerialNumber.Cmp(first.SerialNumber) == 0 || enrol.Fits(e.Certificate, gate.keys.Identity.Public()) != nil {
		t.Error("renewed with the same certificate, or that of another key")
	}
}

func TestReplayedExpiredAndForeignTokensAreRefused(t *testing.T) {
	r := newRig(t)
	token := r.token(registry.Enrolment{Name: "gate-1"})
	first := r.terminal()
	r.must(first.enrol(token))
	r.must(first.enrol(token)) // its answer was lost
	refused(t, "a replay by another terminal", r.terminal().enrol(token), enrol.TokenUsed)

	other := r.token(registry.Enrolment{Name: "gate-2"})
	for attack, change := range map[string]func(*enrol.Token){
		"another name":      func(t *enrol.Token) { t.Terminal = "gate-3" },
		"the first's name":  func(t *enrol.Token) { t.Terminal = "gate-1" },
		"another scope":     func(t *enrol.Token) { t.Scope = "other" },
		"a scope not there": func(t *enrol.Token) { t.Scope = "none" },
		"another secret":    func(t *enrol.Token) { t.Secret[15] ^= 1 },
		"no secret":         func(t *enrol.Token) { t.Secret = [16]byte{} },
	} {
		forged := other
		change(&forged)
		refused(t, attack, r.terminal().enrol(forged), enrol.NoToken)
	}
	r.later.Store(int64(time.Hour))
	refused(t, "an expired token", r.terminal().enrol(other), enrol.TokenEnded)
	refused(t, "an identity key of another terminal", (&terminal{r, t.TempDir(), first.keys}).enrol(r.token(registry.Enrolment{Name: "gate-4"})), enrol.BadKeys)
}

// Whoever takes over a hub's server later cannot have terminals take other lists.
func TestRenewalChangesNoTrust(t *testing.T) {
	r := newRig(t)
	r.trust = enrol.Trust{Root: [][]byte{[]byte("a root")}, Threshold: 1}
	gate := r.enrolled("gate-1")
	r.trust = enrol.Trust{Lists: [][]byte{[]byte("a thief's key")}}
	e, err := enrol.Read(gate.state)
	r.must(err)
	e, err = enrol.Renew(t.Context(), e, gate.credential(gate.keys.Identity))
	r.must(err)
	r.must(e.Write(gate.state))
	e, err = enrol.Read(gate.state)
	r.must(err)
	if t1 := e.Hub.Trust; len(t1.Lists) > 0 || len(t1.Root) != 1 || string(t1.Root[0]) != "a root" || t1.Threshold != 1 {
		t.Errorf("after the renewal it trusts %+v", t1)
	}
}

// eavesdropper takes connections with a certificate, and counts what it is told.
func eavesdropper(t *testing.T, c tls.Certificate) (address string, heard func() int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan int, 1)
	go func() {
		defer close(told)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c}})) // until the terminal hangs up
		told <- len(b)
	}()
	t.Cleanup(func() { l.Close() })
	return "https://" + l.Addr().String(), func() int { l.Close(); return <-told }
}

// Whoever stands between terminal and hub learns nothing but that somebody connects: not
// with a certificate of its own, not with the hub's authority shown behind it, and not
// with the certificate of a terminal.
func TestManInTheMiddleIsToldNothing(t *testing.T) {
	r := newRig(t)
	other, err := authority.Create(t.TempDir(), "hall", time.Now())
	r.must(err)
	certificate, key, err := other.Server([]string{"127.0.0.1"}, time.Now())
	r.must(err)
	own, err := tls.LoadX509KeyPair(certificate, key)
	r.must(err)
	withTheirs, stolen := own, tls.Certificate{}
	withTheirs.Certificate = [][]byte{own.Certificate[0], r.authority.Root()}
	thief := r.enrolled("gate-9")
	e, err := enrol.Read(thief.state)
	r.must(err)
	stolen.Certificate, stolen.PrivateKey = [][]byte{e.Certificate.Raw, r.authority.Root()}, thief.keys.Identity
	for name, c := range map[string]tls.Certificate{"another authority": own, "the hub's authority behind another server": withTheirs, "a terminal's certificate": stolen} {
		token := r.token(registry.Enrolment{Name: "gate-1"})
		var heard func() int
		token.Address, heard = eavesdropper(t, c)
		err := r.terminal().enrol(token)
		if err == nil || name == "another authority" && !errors.Is(err, enrol.ErrPin) {
			t.Errorf("%s: %v", name, err)
		}
		if n := heard(); n != 0 {
			t.Errorf("%s: was told %d bytes", name, n)
		}
	}
}

func TestNobodyIsLetInBeforeApproval(t *testing.T) {
	r := newRig(t)
	token := r.token(registry.Enrolment{Name: "gate-1", Approve: true})
	gate := r.terminal()
	ctx, cancel := context.WithCancel(t.Context())
	shown := ""
	_, err := enrol.Enrol(ctx, token, gate.keys, func(fingerprint string, _ error) { shown = fingerprint; cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("it did not wait: %v", err)
	}
	refused(t, "somebody else with the token", r.terminal().enrol(token), enrol.TokenUsed)
	all, err := r.registry.Enrolments(t.Context(), scope)
	r.must(err)
	if enrol.Fingerprint(all[0].Identity, all[0].Delivery) != shown {
		t.Error("the two sides show different fingerprints")
	}
	if enrol.Fingerprint(all[0].Identity, nil) == shown {
		t.Error("the fingerprint is not of the delivery key")
	}
	r.must(r.registry.ApproveTerminal(t.Context(), r.by(), scope, "gate-1", all[0].Identity, all[0].Delivery))
	r.must(gate.enrol(token))
}

func TestRetiredAndReplacedTerminalsAreCutOff(t *testing.T) {
	r := newRig(t)
	gate := r.enrolled("gate-1")
	client := gate.client()
	if got := r.get(client, "/hall/manifest"); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	e, err := enrol.Read(gate.state)
	r.must(err)
	spare := r.terminal()
	r.must(spare.enrol(r.token(registry.Enrolment{Name: "gate-1", Replace: true})))
	if got := r.get(client, "/hall/manifest"); got != http.StatusForbidden { // on the same connection
		t.Errorf("the replaced terminal still gets %d", got)
	}
	_, err = enrol.Renew(t.Context(), e, gate.credential(gate.keys.Identity))
	refused(t, "renewal by the replaced terminal", err, enrol.Unknown)
	client = spare.client()
	if got := r.get(client, "/hall/lease/gate-1"); got != http.StatusOK {
		t.Errorf("the spare gets %d", got)
	}
	r.must(r.registry.RetireTerminal(t.Context(), r.by(), scope, "gate-1"))
	if got := r.get(client, "/hall/lease/gate-1"); got != http.StatusForbidden {
		t.Errorf("the retired terminal still gets %d", got)
	}
	e, err = enrol.Read(spare.state)
	r.must(err)
	_, err = enrol.Renew(t.Context(), e, spare.credential(spare.keys.Identity))
	refused(t, "renewal by the retired terminal", err, enrol.Unknown)
}

func TestTerminalReadsItsOwnScopeAndLeaseAlone(t *testing.T) {
	r := newRig(t)
	one, nobody := r.enrolled("gate-1").client(), r.client(nil)
	for path, may := range map[string]bool{
		"/hall/manifest": true, "/hall/lease/gate-1": true, "/hall/commands/gate-1": true, "/healthz": true,
		"/hall/lease/gate-2": false, "/hall/commands/gate-2": false, "/other/manifest": false, "/other/lease/gate-1": false, "/": false, "/hall": false,
	} {
		if got := r.get(one, path); may != (got == http.StatusOK) || !may && got != http.StatusForbidden && got != http.StatusNotFound {
			t.Errorf("%s: status %d", path, got)
		}
	}
	if got := r.get(nobody, "/hall/manifest"); got != http.StatusOK {
		t.Errorf("whoever shows nothing gets %d", got)
	}
	r.required.Store(true)
	if got := r.get(nobody, "/hall/manifest"); got != http.StatusForbidden {
		t.Errorf("whoever shows nothing gets %d where a certificate is required", got)
	}
	if got := r.get(nobody, "/healthz"); got != http.StatusOK {
		t.Errorf("health is told with %d", got)
	}
}

// What a terminal shows has to be by this hub's authority, and in force.
func TestOtherCertificatesAreNobodys(t *testing.T) {
	r := newRig(t)
	gate := r.enrolled("gate-1")
	e, err := enrol.Read(gate.state)
	r.must(err)
	key := gate.keys.Identity
	self := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: e.Certificate.Subject.CommonName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	r.must(err)
	forged := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der, r.authority.Root()}, PrivateKey: key}, nil
	}
	if got := r.get(r.client(forged), "/hall/manifest"); got != http.StatusForbidden {
		t.Errorf("a certificate made by the terminal itself gets %d", got)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	r.must(err)
	if _, err := r.client(func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{e.Certificate.Raw}, PrivateKey: other}, nil
	}).Get(r.server.URL + "/hall/manifest"); err == nil {
		t.Error("a certificate is shown without its key")
	}
	r.later.Store(int64(40 * 24 * time.Hour)) // a season in a box
	ended := gate.credential(key)
	ended.Ended = true
	if got := r.get(r.client(ended.ForTLS), "/hall/manifest"); got != http.StatusForbidden {
		t.Errorf("a certificate that has ended gets %d", got)
	}
}

func TestBodiesAreBoundedAndStrict(t *testing.T) {
	r := newRig(t)
	token := r.token(registry.Enrolment{Name: "gate-1"})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	r.must(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	r.must(err)
	good := enrol.Request{Version: 1, Secret: token.Secret[:], Scope: scope, Terminal: "gate-1", CSR: csr}
	body := func(change func(*enrol.Request)) string {
		q := good
		q.CSR = bytes.Clone(csr)
		change(&q)
		b, err := json.Marshal(q)
		r.must(err)
		return string(b)
	}
	text := body(func(*enrol.Request) {})
	for name, c := range map[string]struct {
		body string
		code enrol.Code
	}{
		"nothing":             {"", enrol.Malformed},
		"no JSON":             {"<html>", enrol.Malformed},
		"cut short":           {text[:len(text)-9], enrol.Malformed},
		"two of them":         {text + text, enrol.Malformed},
		"an unknown member":   {strings.Replace(text, `"version":1`, `"version":1,"extra":2`, 1), enrol.Malformed},
		"too long":            {text + strings.Repeat(" ", enrol.MaxRequest), enrol.Malformed},
		"a newer version":     {body(func(q *enrol.Request) { q.Version = 2 }), enrol.BadVersion},
		"no version":          {body(func(q *enrol.Request) { q.Version = 0 }), enrol.BadVersion},
		"a changed request":   {body(func(q *enrol.Request) { q.CSR[len(q.CSR)-1] ^= 1 }), enrol.BadRequest},
		"no request":          {body(func(q *enrol.Request) { q.CSR = nil }), enrol.BadRequest},
		"another key in it":   {body(func(q *enrol.Request) { q.CSR = withKey(t, csr, key) }), enrol.BadRequest},
		"no delivery key":     {body(func(q *enrol.Request) { q.Delivery = []byte("delivery") }), enrol.BadRequest},
		"an identity to seal": {body(func(q *enrol.Request) { q.Delivery = spkiOf(t, key) }), enrol.BadRequest},
	} {
		r.later.Add(int64(2 * forgives)) // every one is refused: not for the number of them
		resp, err := r.client(nil).Post(r.server.URL+enrol.Path, "application/json", strings.NewReader(c.body))
		r.must(err)
		var said enrol.Refusal
		err = json.NewDecoder(resp.Body).Decode(&said)
		r.must(errors.Join(err, resp.Body.Close()))
		if said.Code != c.code || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %+v, want %q", name, resp.StatusCode, said, c.code)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the answer may be kept", name)
		}
	}
	if got := r.get(r.client(nil), enrol.Path+"?secret=x"); got != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", got)
	}
}

func spkiOf(t *testing.T, key ed25519.PrivateKey) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

// withKey puts another public key into a request that the first has signed.
func withKey(t *testing.T, csr []byte, key ed25519.PrivateKey) []byte {
	t.Helper()
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Replace(csr, key.Public().(ed25519.PublicKey), other, 1)
}

// A terminal cannot have a certificate issued for a key that is not its own.
func TestRenewalIsForTheSameKeyAlone(t *testing.T) {
	r := newRig(t)
	gate := r.enrolled("gate-1")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	r.must(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	r.must(err)
	b, err := json.Marshal(enrol.Request{Version: 1, CSR: csr})
	r.must(err)
	for name, c := range map[string]struct {
		client *http.Client
		code   enrol.Code
	}{"another key": {gate.client(), enrol.BadRequest}, "no certificate": {r.client(nil), enrol.Unknown}} {
		resp, err := c.client.Post(r.server.URL+enrol.RenewPath, "application/json", bytes.NewReader(b))
		r.must(err)
		var said enrol.Refusal
		err = json.NewDecoder(resp.Body).Decode(&said)
		r.must(errors.Join(err, resp.Body.Close()))
		if said.Code != c.code {
			t.Errorf("%s: %+v, want %q", name, said, c.code)
		}
	}
}

// Who guesses is soon asked to stop; others, and later that address too, are not.
func TestGuessingIsSlowedDown(t *testing.T) {
	r := newRig(t)
	token := r.token(registry.Enrolment{Name: "gate-1"})
	guess := token
	for range mostFailures {
		guess.Secret = enrol.NewSecret()
		refused(t, "a guess", r.terminal().enrol(guess), enrol.NoToken)
	}
	refused(t, "one guess more", r.terminal().enrol(guess), enrol.Busy)
	refused(t, "the right one, among guesses", r.terminal().enrol(token), enrol.Busy)
	r.later.Store(int64(forgives))
	r.must(r.terminal().enrol(token))
}

func TestAddressesThatAreRememberedAreBounded(t *testing.T) {
	now := time.Now()
	l := newLimiter(func() time.Time { return now })
	for i := range 3 * mostAddress {
		l.count(net.JoinHostPort(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String(), "1"))
	}
	if len(l.from) > mostAddress {
		t.Errorf("%d addresses are remembered", len(l.from))
	}
}
