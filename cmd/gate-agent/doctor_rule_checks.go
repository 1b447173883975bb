package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/anchor"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// Whether configuration, list and record are as the rules want them.

func (s *site) production() finding {
	if s.c.Mode != anchor.Production {
		return bad(`set mode = "production", with production lists and certificates`, "mode is %q", s.c.Mode)
	}
	return fine("mode is %q", s.c.Mode)
}

func (s *site) anchors() finding {
	anchors, err := s.c.openAnchors()
	if err != nil {
		return unknown(err, "see docs/configuration.md, anchors")
	}
	surface, err := s.c.openSurfaceKeys()
	if err != nil {
		return unknown(err, "see docs/configuration.md, anchors.surface_keys")
	}
	n, authorities := len(anchors.Certificates()), len(surface)
	switch {
	case s.c.Mode != anchor.Production && n+authorities > 0:
		return bad("remove test authorities, set production mode", "mode %q: %d CA certificates and %d card-surface authorities of tests", s.c.Mode, n, authorities)
	case s.c.Anchors.SurfaceKeys == builtinKeys:
		return warn("compare their digests (check-config) with what the issuer says", "%d CA certificates by pin; card-surface authorities are built in, J-LIS does not publish them", n)
	}
	return fine("%d CA certificates, %d card-surface authorities, none of tests", n, authorities)
}

func (s *site) gateDriver() finding {
	var simulated []string
	venue := false
	for _, l := range s.c.lanes() {
		venue = venue || l.Gate.Mode == terminal.Venue
		if l.Gate.Mode == terminal.Venue && l.Gate.Driver != driverGPIO {
			simulated = append(simulated, l.label())
		}
	}
	switch {
	case !venue:
		return exempt("no lane is a gate: a desk or shelter has no relay")
	case simulated != nil:
		return bad(`set gate.driver = "gpio" (docs/gate-hardware.md)`, "simulated: %s", strings.Join(simulated, ", "))
	}
	return fine("every gate has driver %q", driverGPIO)
}

func (s *site) holderCheck() finding {
	if !s.c.withMethodA() {
		return exempt("method A is not configured")
	}
	who := s.c.HolderCheck.ExternalAuth
	everywhere := !slices.ContainsFunc(s.c.lanes(), func(l laneConfig) bool { return l.Gate.Mode != terminal.Counter })
	switch {
	case everywhere: // staff compares at a desk, whatever else is configured
		return fine("every lane is a counter, where staff compares")
	case who == terminal.CheckNone:
		return bad(`set holder_check.external-auth = "staff" or "external"`, "holder_check.external-auth is %q: nobody compares", who)
	}
	return fine("holder_check.external-auth is %q", who)
}

func (s *site) listAge() finding {
	m, err := s.manifest()
	if err != nil {
		return unknown(err, "run gate-agent list import")
	}
	if old := s.stale(m); old != nil {
		return bad("bring a newer list (gate-agent list import)", "%s", old[0].what)
	}
	return fine("%v left; revocation data are %v old, at most %v", m.NotAfter.Sub(s.now).Truncate(time.Second),
		s.now.Sub(m.RevocationAsOf).Truncate(time.Second), m.Policy.RevocationMaxAge)
}

func (s *site) journalWhole() finding {
	keys, n, err := s.c.checkpointKeys(nil)
	if err != nil {
		return unknown(err, "see docs/keystore.md")
	}
	var report journal.Report
	err = s.read(func(r *journal.Reader) (err error) {
		if n == 0 {
			report, err = r.Verify(s.ctx)
		} else {
			report, err = r.VerifySigned(s.ctx, keys)
		}
		return err
	})
	switch {
	case errors.Is(err, errNoJournal):
		return unknown(err, "start the agent, which makes it")
	case err != nil:
		return bad("keep the files as they are; compare with gate-agent journal verify --checkpoint", "%v", err)
	}
	return fine("%d events, %d checkpoints, head %x", report.Events, report.Checkpoints, report.Head)
}

func (s *site) checkpoints() finding {
	switch every := s.c.Journal.Checkpoint.Duration; {
	case s.c.Checkpoint.Key == "":
		return bad("name a key in checkpoint.key (docs/journal.md)", "no checkpoints: checkpoint.key names no key")
	case every == 0:
		return bad(`set journal.checkpoint = "1h"`, "a checkpoint is signed only when somebody asks")
	default:
		return fine("every %v, by checkpoint.key", every)
	}
}

func (s *site) retention() finding {
	if s.c.Journal.Keep.Duration == 0 {
		return bad(`set journal.keep, such as "720h" (docs/journal.md)`, "every event is kept for ever")
	}
	return fine("events are deleted after %v", s.c.Journal.Keep.Duration)
}
