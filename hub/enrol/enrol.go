// Package enrol answers terminals that enrol or renew their certificate, and says which
// terminal a connection is. docs/enrolment.md has the protocol.
//
// It promises that a terminal is known by its identity key in the registry alone: of a
// certificate nothing counts but that this hub's authority issued it for that key; that a
// certificate is issued for a key whose holder has signed the request; and that a body of
// any size or shape costs little.
package enrol

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/sync/link"
)

// askAgain is how many seconds a terminal waits that somebody has to approve.
const askAgain = 3

// actor is who enrols, in the history.
const actor = "gate-hub serve"

// A Server answers at enrol.Path and enrol.RenewPath. Make one with New.
type Server struct {
	c        Config
	failures *limiter
	busy     chan struct{} // requests at a time
}

// A Config is what a Server works with. All of it is needed.
type Config struct {
	Registry  *registry.Registry
	Authority authority.Authority

	// Offer is what a terminal of a scope is told of the hub, but for its own names; ca
	// are the certificates, PEM, that vouch for the hub's servers.
	Offer func(scope string) (h enrol.Hub, ca []byte, err error)
	Now   func() time.Time
	// Tell is told what happened, and what failed that is no fault of who asks.
	Tell func(what, scope, terminal string, err error)
}

// atOnce is how many requests are answered at a time; others are told to come again.
const atOnce = 16

// New makes a server.
func New(c Config) *Server {
	return &Server{c: c, failures: newLimiter(c.Now), busy: make(chan struct{}, atOnce)}
}

// Handler answers at the paths of enrolment, and has others do it at all others.
func (s *Server) Handler(others http.Handler) http.Handler {
	first, again := s.guard(s.enrol), s.guard(s.renew)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case enrol.Path:
			first.ServeHTTP(w, r)
		case enrol.RenewPath:
			again.ServeHTTP(w, r)
		default:
			others.ServeHTTP(w, r)
		}
	})
}

// guard is what both have in common. f answers with what it returns.
func (s *Server) guard(f func(r *http.Request) (enrol.Answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Type", "application/json")
		if r.Method != http.MethodPost {
			h.Set("Allow", http.MethodPost)
			write(w, http.StatusMethodNotAllowed, refusal(enrol.Malformed, "only POST"))
			return
		}
		if !s.failures.allows(r.RemoteAddr) {
			h.Set("Retry-After", strconv.Itoa(int(forgives/time.Second)))
			write(w, http.StatusTooManyRequests, refusal(enrol.Busy, "too many requests from this address were refused"))
			return
		}
		select {
		case s.busy <- struct{}{}:
			defer func() { <-s.busy }()
		default:
			h.Set("Retry-After", "1")
			write(w, http.StatusServiceUnavailable, refusal(enrol.Busy, "too many terminals enrol at once"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, enrol.MaxRequest+1)
		a, err := f(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		status := http.StatusOK
		if a.Waiting {
			status = http.StatusAccepted
			h.Set("Retry-After", strconv.Itoa(askAgain))
		}
		a.Version = enrol.Version
		write(w, status, a)
	})
}

func write(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil { // of types that always can
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(b) // whoever is gone asks again
}

func refusal(code enrol.Code, message string) *enrol.Refusal {
	return &enrol.Refusal{Version: enrol.Version, Code: code, Message: message}
}

// refuse answers with an error, and counts it against the address unless it is the
// hub's own.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	said, ok := errors.AsType[*enrol.Refusal](err)
	status := http.StatusForbidden
	switch {
	case !ok:
		s.c.Tell("enrolment failed", "", "", err)
		said, status = refusal(enrol.Failed, "the hub has a problem of its own; see its log"), http.StatusInternalServerError
	case said.Code == enrol.Malformed || said.Code == enrol.BadVersion || said.Code == enrol.BadRequest:
		status = http.StatusBadRequest
	case said.Code == enrol.BadKeys:
		status = http.StatusConflict
	}
	if ok {
		s.failures.count(r.RemoteAddr)
		s.c.Tell("enrolment refused", "", "", said)
	}
	write(w, status, said)
}

// read reads a body, and the key that has signed the certificate request in it.
func read(r *http.Request) (q enrol.Request, key crypto.PublicKey, identity []byte, err error) {
	if q, err = enrol.ReadRequest(r.Body); errors.Is(err, enrol.ErrVersion) {
		return q, nil, nil, refusal(enrol.BadVersion, fmt.Sprintf("this hub knows version %d", enrol.Version))
	} else if err != nil {
		return q, nil, nil, refusal(enrol.Malformed, fmt.Sprintf("want one JSON object of at most %d bytes", enrol.MaxRequest))
	}
	csr, err := x509.ParseCertificateRequest(q.CSR)
	if err == nil {
		err = csr.CheckSignature() // whoever asks has the key
	}
	if err == nil {
		identity, err = x509.MarshalPKIXPublicKey(csr.PublicKey)
	}
	if err != nil {
		return q, nil, nil, refusal(enrol.BadRequest, "the certificate request is none that its own key has signed")
	}
	return q, csr.PublicKey, identity, nil
}

func (s *Server) enrol(r *http.Request) (a enrol.Answer, err error) {
	q, key, identity, err := read(r)
	if err != nil {
		return a, err
	}
	defer clear(q.Secret)
	if len(q.Delivery) > 0 && !isDelivery(q.Delivery) {
		return a, refusal(enrol.BadRequest, "the delivery key is not one of X25519")
	}
	by := registry.By{Actor: actor, Reason: "enrolled with a token", At: s.c.Now()}
	waiting, err := s.c.Registry.EnrolTerminal(r.Context(), by, q.Scope, q.Terminal, q.Secret, identity, q.Delivery)
	switch {
	case errors.Is(err, registry.ErrToken):
		return a, refusal(enrol.NoToken, "no token has this secret for this terminal: was it copied whole, and is it the last one?")
	case errors.Is(err, registry.ErrTokenEnded):
		return a, refusal(enrol.TokenEnded, "the token has expired: ask for another one")
	case errors.Is(err, registry.ErrTokenUsed):
		return a, refusal(enrol.TokenUsed, "the token was used, by other keys: if that was not you, retire the terminal")
	case errors.Is(err, registry.ErrExists):
		return a, refusal(enrol.BadKeys, "this identity key is another terminal's, or a terminal of this name was added meanwhile")
	case errors.Is(err, registry.ErrInvalid):
		return a, refusal(enrol.BadKeys, "keys of a kind that nobody signs with, or a terminal that was retired")
	case err != nil:
		return a, err
	}
	if waiting {
		return enrol.Answer{Waiting: true, Fingerprint: enrol.Fingerprint(identity, q.Delivery)}, nil
	}
	s.c.Tell("terminal enrolled", q.Scope, q.Terminal, nil)
	return s.answer(q.Scope, q.Terminal, key, identity)
}

func isDelivery(spki []byte) bool {
	public, err := x509.ParsePKIXPublicKey(spki)
	k, ok := public.(*ecdh.PublicKey)
	return err == nil && ok && k.Curve() == ecdh.X25519()
}

func (s *Server) renew(r *http.Request) (a enrol.Answer, err error) {
	scope, terminal, err := s.identify(r, true)
	if errors.Is(err, hub.ErrNoCertificate) || errors.Is(err, hub.ErrUnknownTerminal) {
		return a, refusal(enrol.Unknown, "no terminal in force has this key: it was retired, or replaced, or never enrolled")
	}
	if err != nil {
		return a, err
	}
	_, key, identity, err := read(r)
	if err != nil {
		return a, err
	}
	if !bytes.Equal(identity, terminal.Identity) {
		return a, refusal(enrol.BadRequest, "a request for another key than the one that asks")
	}
	s.c.Tell("certificate renewed", scope, terminal.Name, nil)
	return s.answer(scope, terminal.Name, key, identity)
}

func (s *Server) answer(scope, terminal string, key crypto.PublicKey, identity []byte) (a enrol.Answer, err error) {
	h, ca, err := s.c.Offer(scope)
	if err != nil {
		return a, err
	}
	h.Version, h.Scope, h.Terminal = enrol.Version, scope, terminal
	der, err := s.c.Authority.Terminal(key, link.ID(identity), s.c.Now())
	if err != nil {
		return a, err
	}
	return enrol.Answer{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), CA: string(ca), Hub: &h}, nil
}
