package enrol

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/hub/registry"
)

// Identify is which terminal a request comes from. TLS has seen that it has the key of
// the certificate that it shows. The error is hub.ErrNoCertificate, hub.ErrUnknownTerminal, or about the
// registry.
func (s *Server) Identify(r *http.Request) (scope, terminal string, err error) {
	scope, t, err := s.identify(r, false)
	return scope, t.Name, err
}

func (s *Server) identify(r *http.Request, renewal bool) (scope string, t registry.Terminal, err error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", t, hub.ErrNoCertificate
	}
	leaf := r.TLS.PeerCertificates[0]
	if err := s.c.Authority.CheckTerminal(leaf, s.c.Now(), renewal); err != nil {
		return "", t, fmt.Errorf("%w: %w", hub.ErrUnknownTerminal, err)
	}
	identity, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err != nil {
		return "", t, fmt.Errorf("%w: %w", hub.ErrUnknownTerminal, err)
	}
	scope, t, err = s.c.Registry.TerminalWith(r.Context(), identity)
	if errors.Is(err, registry.ErrNotFound) {
		err = fmt.Errorf("%w: %w", hub.ErrUnknownTerminal, err)
	}
	return scope, t, err
}
