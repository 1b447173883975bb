package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/sync/fetch"
)

// What a terminal has from the hub with which it is enrolled. The configuration has the
// last word: what it names, the hub does not say.

// useEnrolment has the configuration say what it leaves to the hub.
func (c *config) useEnrolment() error {
	if !c.Hub.Connect || c.State == "" {
		return nil
	}
	e, err := enrol.Read(c.path(c.State))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c.enrolling && c.Gate.Name == "" {
			c.Gate.Name = "new" // that of the terminal, once it has one
		}
		return nil
	case err != nil:
		return fmt.Errorf("hub.connect: %w: enrol again", err)
	}
	if c.Scope == "" {
		c.Scope = e.Hub.Scope
	}
	if c.Terminal == "" {
		c.Terminal = e.Hub.Terminal
	}
	if c.Gate.Name == "" && len(c.Lanes) == 0 {
		c.Gate.Name = c.Terminal
	}
	if c.Scope != e.Hub.Scope || c.Terminal != e.Hub.Terminal {
		if c.enrolling {
			return nil
		}
		return fmt.Errorf("hub.connect: this terminal is enrolled as %q in scope %q, and the configuration has %q in %q: enrol again, or correct it", e.Hub.Terminal, e.Hub.Scope, c.Terminal, c.Scope)
	}
	c.enrolled = &e
	if c.List.Source == "" {
		c.List.Source = e.Hub.HTTPS + "/" + scopeMark + "/"
		if c.List.CA == "" {
			c.List.CA = filepath.Join(c.State, enrol.Folder, enrol.CAFile)
		}
	}
	if len(c.List.Keys)+len(c.Root.Keys)+len(c.ScopeKey.Keys)+len(c.Commands.Keys) > 0 {
		return nil
	}
	// All or nothing: keys of two minds would be nobody's.
	files := e.Hub.Trust.Files(c.State)
	c.trusting = ", from the hub"
	c.List.Keys, c.Commands.Keys, c.Root.Keys, c.Root.Threshold = files.Lists, files.Commands, files.Root, e.Hub.Trust.Threshold
	if c.ScopeKey.File == "" {
		c.ScopeKey.Lease, c.ScopeKey.Keys = true, files.Leases
	}
	return nil
}

// describeHub says with which hub the terminal is enrolled.
func (c *config) describeHub(now time.Time) string {
	switch {
	case !c.Hub.Connect:
		return "none: hub.connect is not true"
	case c.enrolled == nil:
		return "NOT ENROLLED: run gate-agent enrol with a token"
	}
	e := c.enrolled
	text := fmt.Sprintf("%s at %s, certificate until %s", shown(e.Hub.Name), e.Hub.HTTPS, localTime(e.Certificate.NotAfter))
	if now.After(e.Certificate.NotAfter) {
		text += ": IT HAS ENDED, run gate-agent enrol --renew / 期限切れ"
	}
	return text
}

// awaits is whether a terminal that is enrolling will have a value from its hub.
func (c *config) awaits(key string) bool {
	return c.enrolling && c.Hub.Connect && (key == "scope" || key == "terminal" || key == "trust")
}

// credential is what the terminal shows its hub. Its key may be on a medium that is not
// there: then it is told when somebody asks for it.
func (c *config) credential(ctx context.Context) (enrol.Credential, error) {
	k, err := c.keys.lost("identity.key", c.Identity.Key, keystore.Identity)
	if err != nil {
		return enrol.Credential{}, err
	}
	if k.Check(ctx) == nil {
		err = c.keys.apart("identity.key", k)
	}
	return enrol.Credential{State: c.path(c.State), Signer: k}, err
}

// credentialFor is the certificate for the source of a scope's lists, nil where the
// terminal is not enrolled, or in another scope: to that it is nobody in particular.
func (c *config) credentialFor(scope string) (func(*tls.CertificateRequestInfo) (*tls.Certificate, error), error) {
	if c.enrolled == nil || scope != c.enrolled.Hub.Scope || c.Identity.Key == "" {
		return nil, nil
	}
	credential, err := c.credential(c.keys.ctx)
	return credential.ForTLS, err
}

// How a running agent renews its certificate.
const (
	lookAtCertificate = time.Minute
	renewSpread       = 6 * time.Hour // over which a fleet that enrolled together renews
)

// renewCertificates renews the certificate when two thirds of its life are over, until
// ctx ends. Whatever comes of it, the gate goes on.
func (c *config) renewCertificates(ctx context.Context, log *slog.Logger) {
	if c.enrolled == nil {
		return
	}
	failures, next, said := 0, time.Time{}, ""
	for ; ctx.Err() == nil; pause(ctx, lookAtCertificate) {
		e, err := enrol.Read(c.path(c.State))
		due := time.Time{}
		if err == nil {
			due = enrol.RenewAt(e.Certificate).Add(fetch.Phase(c.Terminal, renewSpread))
		}
		if now := time.Now(); now.Before(due) || now.Before(next) {
			continue
		}
		if err == nil {
			e, err = c.renew(ctx, e)
		}
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failures, said = 0, ""
			log.Info("certificate renewed", "not_after", e.Certificate.NotAfter)
		default:
			next = time.Now().Add(fetch.Backoff{Base: 2 * time.Minute, Cap: 2 * time.Hour}.Next(failures, rand.Int64N))
			failures++
			if err.Error() != said {
				said = err.Error()
				log.Warn("certificate not renewed", "error", err, "hint", renewHint(err))
			}
		}
	}
}

// renew renews the certificate once, and keeps it.
func (c *config) renew(ctx context.Context, e enrol.Enrolment) (enrol.Enrolment, error) {
	credential, err := c.credential(ctx)
	if err != nil {
		return e, err
	}
	renewed, err := enrol.Renew(ctx, e, credential)
	if err != nil {
		return e, err
	}
	return renewed, renewed.Write(c.path(c.State))
}

// renewHint is the next step.
func renewHint(err error) string {
	if refusal, ok := errors.AsType[*enrol.Refusal](err); ok && refusal.Code == enrol.Unknown {
		return "the hub does not know this terminal any more: ask whether it was retired or replaced; if not, enrol again with gate-hub terminal swap"
	}
	return "is the hub reached, and the clock right? gate-agent enrol --renew tries again"
}
