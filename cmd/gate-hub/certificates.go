package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/internal/smallfile"
)

// certificates is the certificate that the server shows, which is another one
// after some weeks.
type certificates struct {
	site    *site
	current atomic.Pointer[tls.Certificate]
	text    string // of its file
}

// followCertificates is how often files of certificates are looked at.
const followCertificates = time.Minute

func (s *site) openCertificates(at time.Time) (*certificates, error) {
	c := &certificates{site: s}
	_, err := c.refresh(at)
	return c, err
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// follow takes over a certificate that was replaced, and replaces the hub's own
// before it ends, until ctx ends.
func (c *certificates) follow(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(followCertificates)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		changed, err := c.refresh(time.Now())
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			log.Error("the certificate stays as it is", "error", err)
		case err == nil && changed:
			said = ""
			log.Info("another certificate", "not_after", c.current.Load().Leaf.NotAfter)
		}
	}
}

func (c *certificates) refresh(at time.Time) (changed bool, err error) {
	certificate, key := c.site.path(c.site.Serve.Certificate), c.site.path(c.site.Serve.Key)
	var root []byte // that the server shows, for terminals that know no more than its digest
	if c.site.Serve.Certificate == "" {
		own, err := authority.Open(filepath.Join(c.site.folder, tlsFolder))
		if err != nil {
			return false, fmt.Errorf("%w (or name serve.certificate and serve.key)", err)
		}
		root = own.Root()
		if certificate, key, err = own.Server(c.site.Serve.Hosts, at); err != nil {
			return false, err
		}
	}
	text, err := smallfile.Read(certificate, maxFile, 0)
	if err != nil {
		return false, fmt.Errorf("serve.certificate: %w", err)
	}
	if string(text) == c.text {
		return false, nil
	}
	private, err := smallfile.Read(key, maxFile, 0o007)
	if err != nil {
		return false, fmt.Errorf("serve.key: %w", err)
	}
	pair, err := tls.X509KeyPair(text, private)
	if err != nil {
		return false, fmt.Errorf("certificate and key of the server: %w", err)
	}
	if root != nil {
		pair.Certificate = append(pair.Certificate, root)
	}
	c.current.Store(&pair)
	c.text = string(text)
	return true, nil
}
