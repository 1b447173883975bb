package enrol

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/whitelist"
)

const scope = "hall"

// A rig is a hub that enrols terminals and serves files, over real TLS.
type rig struct {
	*testing.T
	registry  *registry.Registry
	authority authority.Authority
	server    *httptest.Server
	files     string
	trust     enrol.Trust // that is offered
	required  atomic.Bool
	later     atomic.Int64 // how far the hub's clock is ahead
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.later.Load())) }

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, files: t.TempDir()}
	var err error
	r.registry, err = registry.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "registry.db"))
	r.must(err)
	t.Cleanup(func() {
		if err := r.registry.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{scope, "other"} {
		r.must(r.registry.AddScope(t.Context(), r.by(), registry.Scope{Name: name, Hierarchy: whitelist.Test, Lifetime: time.Hour, LeaseDays: 7}))
		for _, path := range []string{"manifest", "lease/gate-1", "lease/gate-2", "commands/gate-1", "commands/gate-2"} {
			path = filepath.Join(r.files, name, path)
			r.must(os.MkdirAll(filepath.Dir(path), 0o700))
			r.must(os.WriteFile(path, []byte(path), 0o600))
		}
	}
	r.authority, err = authority.Create(t.TempDir(), "hall", time.Now().AddDate(-3, 0, 0))
	r.must(err)
	certificate, key, err := r.authority.Server([]string{"127.0.0.1"}, time.Now())
	r.must(err)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	r.must(err)
	pair.Certificate = append(pair.Certificate, r.authority.Root())

	server := New(Config{
		Registry: r.registry, Authority: r.authority, Now: r.now,
		Tell: func(what, _, _ string, err error) {
			if _, refused := errors.AsType[*enrol.Refusal](err); err != nil && !refused {
				t.Errorf("%s: %v", what, err)
			}
		},
		Offer: func(string) (enrol.Hub, []byte, error) {
			return enrol.Hub{Name: "Hall", HTTPS: r.server.URL, NATS: []string{}, Trust: r.trust}, r.ca(), nil
		},
	})
	root, err := os.OpenRoot(r.files)
	r.must(err)
	t.Cleanup(func() { root.Close() })
	files := hub.NewHandler(root, nil)
	r.server = httptest.NewUnstartedServer(server.Handler(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		hub.Guard{Files: files, Required: r.required.Load(), Terminal: server.Identify}.ServeHTTP(w, q)
	})))
	r.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, ClientCAs: r.authority.Pool()}
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) by() registry.By { return registry.By{Actor: "desk", Reason: "a test", At: r.now()} }

func (r *rig) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.authority.Root()})
}

// token issues one for a name.
func (r *rig) token(e registry.Enrolment) enrol.Token {
	r.Helper()
	t := enrol.Token{Address: r.server.URL, CA: sha256.Sum256(r.authority.Root()), Scope: scope, Terminal: e.Name, Secret: enrol.NewSecret(), Expires: r.now().Add(time.Hour)}
	e.Expires = t.Expires
	r.must(r.registry.IssueToken(r.Context(), r.by(), scope, e, sha256.Sum256(t.Secret[:])))
	return t
}

// A terminal has an identity key and a state folder.
type terminal struct {
	rig   *rig
	state string
	keys  enrol.Keys
}

func (r *rig) terminal() *terminal {
	r.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	r.must(err)
	delivery, err := ecdh.X25519().GenerateKey(rand.Reader)
	r.must(err)
	spki, err := x509.MarshalPKIXPublicKey(delivery.Public())
	r.must(err)
	return &terminal{r, r.TempDir(), enrol.Keys{Identity: key, Delivery: spki}}
}

func (t *terminal) enrol(token enrol.Token) error {
	e, err := enrol.Enrol(t.rig.Context(), token, t.keys, func(string, error) {})
	if err != nil {
		return err
	}
	return e.Write(t.state)
}

func (t *terminal) credential(signer crypto.Signer) enrol.Credential {
	return enrol.Credential{State: t.state, Signer: signer}
}

// enrolled is a terminal of that name.
func (r *rig) enrolled(name string) *terminal {
	r.Helper()
	t := r.terminal()
	r.must(t.enrol(r.token(registry.Enrolment{Name: name})))
	return t
}

// client shows a certificate, or none.
func (r *rig) client(show func(*tls.CertificateRequestInfo) (*tls.Certificate, error)) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.authority.Pool(), GetClientCertificate: show}}
	r.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (t *terminal) client() *http.Client {
	return t.rig.client(t.credential(t.keys.Identity).ForTLS)
}

// get is the status of a file.
func (r *rig) get(c *http.Client, path string) int {
	r.Helper()
	resp, err := c.Get(r.server.URL + path)
	r.must(err)
	_, err = io.Copy(io.Discard, resp.Body)
	r.must(errors.Join(err, resp.Body.Close()))
	return resp.StatusCode
}

// refused wants a refusal of a code.
func refused(t *testing.T, attack string, err error, code enrol.Code) {
	t.Helper()
	if r, ok := errors.AsType[*enrol.Refusal](err); !ok || r.Code != code {
		t.Errorf("%s: %v, want the refusal %q", attack, err, code)
	}
}
