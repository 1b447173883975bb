package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/hub/authority"
	hubenrol "github.com/gate-agent/gate-agent/hub/enrol"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/sync/enrol"
)

// authority opens the authority that vouches for terminals, and for the hub's server
// where no other does.
func (s *site) authority() (authority.Authority, error) {
	a, err := authority.Need(filepath.Join(s.folder, tlsFolder), s.Name, time.Now())
	if err != nil {
		return a, cli.ConfigError{Err: err}
	}
	return a, nil
}

// known answers terminals that enrol, and gives those that are known their files.
func (s *site) known(files http.Handler, own authority.Authority, log *slog.Logger) http.Handler {
	server := hubenrol.New(hubenrol.Config{
		Registry: s.registry, Authority: own, Now: time.Now,
		Offer: func(scope string) (enrol.Hub, []byte, error) { return s.offer(scope, own) },
		Tell: func(what, scope, terminal string, err error) {
			args := []any{"scope", scope, "terminal", terminal}
			if refusal, ok := errors.AsType[*enrol.Refusal](err); ok {
				log.Warn(what, "code", string(refusal.Code))
			} else if err != nil {
				log.Error(what, "error", err)
			} else {
				log.Info(what, args...)
			}
		},
	})
	return server.Handler(hub.Guard{
		Files: files, Required: s.Serve.Clients == clientsRequired,
		Terminal: func(r *http.Request) (scope, terminal string, err error) {
			scope, terminal, err = server.Identify(r)
			if err != nil && !errors.Is(err, hub.ErrNoCertificate) && !errors.Is(err, hub.ErrUnknownTerminal) {
				log.Error("terminal not looked up", "error", err)
			}
			return scope, terminal, err
		},
	})
}

// address is that by which terminals reach the hub over HTTPS.
func (c *config) address() (string, error) {
	if len(c.Serve.Hosts) == 0 {
		return "", cli.UsageError("serve.hosts is empty: give --address, by which terminals reach this hub")
	}
	_, port, err := net.SplitHostPort(c.Serve.Listen)
	if err != nil || port == "" || port == "0" {
		return "", cli.UsageError(fmt.Sprintf("serve.listen is %q, without a port that terminals could reach: give --address", c.Serve.Listen))
	}
	return "https://" + net.JoinHostPort(c.Serve.Hosts[0], port), nil
}

// shown are the certificates by which terminals know the hub's server, PEM, and the
// digest of the one that a token pins: the authority's own, or the last one of a chain by
// another.
func (s *site) shown(own authority.Authority) (ca []byte, pin [sha256.Size]byte, err error) {
	ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Root()})
	if s.Serve.Certificate == "" {
		return ca, sha256.Sum256(own.Root()), nil
	}
	text, err := smallfile.Read(s.path(s.Serve.Certificate), maxFile, 0)
	if err != nil {
		return nil, pin, cli.ConfigError{Err: fmt.Errorf("serve.certificate: %w", err)}
	}
	var last *pem.Block
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		last = block
	}
	if last == nil {
		return nil, pin, cli.ConfigError{Err: errors.New("serve.certificate: no certificate in PEM")}
	}
	if c, err := x509.ParseCertificate(last.Bytes); err != nil || !c.IsCA {
		return nil, pin, cli.ConfigError{Err: errors.New("serve.certificate: it does not end with the certificate of an authority: append that of the root, which terminals trust from now on (docs/enrolment.md)")}
	}
	return append(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: last.Bytes})...), sha256.Sum256(last.Bytes), nil
}

// offer is what a terminal of a scope is told when it enrols.
func (s *site) offer(scope string, own authority.Authority) (h enrol.Hub, ca []byte, err error) {
	h.Name, h.NATS = s.Name, s.addresses(scope)
	if h.AckKeys, err = s.ackKeys(); err != nil {
		return h, nil, err
	}
	if h.HTTPS, err = s.address(); err != nil {
		return h, nil, err
	}
	if ca, _, err = s.shown(own); err != nil {
		return h, nil, err
	}
	c, err := s.loadScope(scope)
	if err != nil {
		return h, nil, err
	}
	h.Trust, err = c.offered()
	return h, ca, err
}

// offered is whose signatures terminals of the scope are told to take. Where there is a
// delegation, it is the root that delegates, or nobody: no key besides it counts.
func (c *scopeConfig) offered() (t enrol.Trust, err error) {
	if c.Delegation != "" {
		t.Threshold = c.Root.Threshold
		t.Root, err = c.spkis("root.keys", c.Root.Keys)
		return t, err
	}
	if t.Lists, err = c.spkis("list_public", c.ListPublic); err != nil {
		return t, err
	}
	if t.Commands, err = c.spkis("command_public", c.CommandPublic); err != nil {
		return t, err
	}
	if c.LeaseKey == "" {
		return t, nil
	}
	t.Leases, err = c.spkis("lease_key", []string{"lease.pub.pem"})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // the key lies elsewhere: terminals are told by their configuration
	}
	return t, err
}

func (c *scopeConfig) spkis(name string, files []string) (all [][]byte, err error) {
	keys, err := c.publicKeys(name, files)
	for _, k := range keys {
		var spki []byte
		if spki, err = x509.MarshalPKIXPublicKey(k); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, spki)
	}
	return all, err
}
