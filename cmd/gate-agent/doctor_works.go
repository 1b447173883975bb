package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// Whether a terminal works.

func (s *site) configuration() finding {
	if s.c == nil {
		return bad("correct the file: docs/configuration.md has every key", "%v", s.wrong)
	}
	return fine("%s, scope %s, mode %s, lanes: %d", s.c.Terminal, s.c.Scope, s.c.Mode, len(s.c.lanes()))
}

// certificates opens what a card is proved with.
func (s *site) certificates() finding {
	p, err := s.c.openProof()
	if err != nil {
		return bad("see docs/configuration.md, anchors and external_auth", "%v", err)
	}
	with := "method A is not configured"
	if p.keys != nil {
		with = "the terminal's certificates are of its key: " + strings.Join(p.keys.describe(), "; ")
	}
	return fine("%d CA certificates, %d card-surface authorities; %s", len(p.anchors.Certificates()), len(p.surface), with)
}

func (s *site) staff() finding {
	switch roster, err := s.c.openRoster(); {
	case err != nil:
		return bad("see docs/staff.md", "%v", err)
	case roster == nil:
		return warn("name a roster in staff.file (docs/staff.md)", "no roster: nobody can let people in, annul or stop the gate")
	default:
		return fine("%d people in the roster", roster.Len())
	}
}

func (s *site) state() finding {
	path := s.c.path(s.c.State)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad("run gate-agent list import as the agent's user, which makes it", "%s is not there", path)
	case err != nil:
		return bad("look at the path", "%v", err)
	case !info.IsDir():
		return bad("correct state in the configuration", "%s is no folder", path)
	case info.Mode().Perm()&0o077 != 0:
		return bad("run chmod 0700 "+path, "%s is open to others (mode %04o)", path, info.Mode().Perm())
	}
	return fine("%s, mode %04o", path, info.Mode().Perm())
}

// scopeKey is whether the key of the list is there, and until when.
func (s *site) scopeKey() finding {
	if s.c.memory.State().Wiped.Number > 0 {
		return bad("set it up anew, then gate-agent command revive", "this terminal is wiped")
	}
	if !s.c.ScopeKey.Lease {
		return fine("%s", endless)
	}
	at := latestOf(s.now, s.c.memory.State().Seen)
	l, _, err := s.c.storedLease(at)
	switch {
	case errors.Is(err, fs.ErrNotExist): // of the delivery key
		return bad("run gate-agent key delivery, and give its public half to the hub", "there is no delivery key, so no lease can come")
	case errors.Is(err, errNoLease), errors.Is(err, errLeaseEnded):
		return bad("bring the terminal to its hub, and look at list.source; gate-hub lease issues it", "every card is denied: %v", err)
	case err != nil:
		return bad("see docs/terminal-commands.md", "%v", err)
	case leaseShort(l.Terms, at):
		return warn("bring the terminal to its hub: when the lease ends every card is denied", "leased until %s, less than a third is left", localTime(l.NotAfter))
	}
	return fine("leased until %s", localTime(l.NotAfter))
}

func (s *site) list() finding {
	m, err := s.manifest()
	switch {
	case errors.Is(err, listdb.ErrNoList), errors.Is(err, errNoState):
		return bad("run gate-agent list import", "no list is in force: every card is denied")
	case err != nil:
		return bad("run gate-agent list import with a good list", "%v", err)
	}
	text := fmt.Sprintf("epoch %d, seq %d, %d rows, not after %s", m.Epoch, m.Seq, m.Rows, localTime(m.NotAfter))
	const next = "bring a newer list (gate-agent list import)"
	for _, old := range s.stale(m) {
		if old.action == whitelist.Deny {
			return bad(next, "%s: %s, and its policy denies", text, old.what)
		}
		return warn(next, "%s: %s, which its policy lets pass", text, old.what)
	}
	return fine("%s", text)
}

type staleness struct {
	what   string
	action whitelist.Action
}

// stale is what of a list is too old, by the list itself.
func (s *site) stale(m whitelist.Manifest) (all []staleness) {
	if s.now.After(m.NotAfter) {
		all = append(all, staleness{fmt.Sprintf("EXPIRED %v ago", s.now.Sub(m.NotAfter).Truncate(time.Second)), m.Policy.Expired})
	}
	if m.RevocationAsOf.IsZero() {
		all = append(all, staleness{"it has no revocation data", m.Policy.StaleRevocation})
	} else if age := s.now.Sub(m.RevocationAsOf); age > m.Policy.RevocationMaxAge {
		all = append(all, staleness{fmt.Sprintf("revocation data are %v old, at most %v", age.Truncate(time.Second), m.Policy.RevocationMaxAge), m.Policy.StaleRevocation})
	}
	return all
}

func (s *site) journal() finding {
	var last, open, doubtful uint64
	err := s.read(func(r *journal.Reader) (err error) {
		if last, err = r.CheckTail(s.ctx); err == nil {
			open, doubtful, err = r.Unsettled(s.ctx)
		}
		return err
	})
	switch {
	case errors.Is(err, errNoJournal):
		return warn("start the agent, which makes it", "%v", err)
	case err != nil:
		return bad("keep the files, and see docs/journal.md, “When it cannot be written”", "%v", err)
	case doubtful > 0:
		return warn("settle them with gate-agent annul (docs/staff.md)", "%d events; %d entries are in doubt", last, doubtful)
	}
	return fine("%d events, the newest ones follow from each other; %d entries open", last, open)
}

// leeway is how far clocks may differ, as at a tap.
const leeway = time.Minute

func (s *site) clock() finding {
	const next = "set the clock; when it is right, gate-agent clock accept (docs/staff.md)"
	compared := ""
	if m, err := s.manifest(); err == nil {
		if s.now.Before(m.IssuedAt.Add(-leeway)) {
			return bad(next, "it shows %s, the list was issued %s", localTime(s.now), localTime(m.IssuedAt))
		}
		compared = "list"
	}
	var latest time.Time
	err := s.read(func(r *journal.Reader) (err error) {
		_, latest, err = r.Recall(s.ctx)
		return err
	})
	if err == nil && !latest.IsZero() {
		if s.now.Before(latest.Add(-leeway)) {
			return bad(next, "it shows %s, an event is of %s", localTime(s.now), localTime(latest))
		}
		if compared != "" {
			compared += " and "
		}
		compared += "journal"
	}
	if status, err := s.c.client().Status(s.ctx); err == nil && !status.Clock.Trusted {
		return bad(next, "the running agent does not trust it: it was set while the agent ran")
	}
	if compared == "" {
		return unknown(errors.New("neither list nor journal says a time"), "import a list")
	}
	return fine("%s, not behind %s", localTime(s.now), compared)
}

// Room that a terminal wants: below the first a list or an hour's events may not
// fit, above the second nobody needs to look.
const (
	leastFree = 64 << 20
	muchFree  = 512 << 20
)

func (s *site) disk() finding {
	path := s.c.path(s.c.State)
	var disk unix.Statfs_t
	if err := unix.Statfs(path, &disk); err != nil {
		return unknown(&os.PathError{Op: "statfs", Path: path, Err: err}, "run gate-agent list import, which makes the folder")
	}
	const next = "make room: journal.keep deletes old events (docs/journal.md)"
	free := disk.Bavail * uint64(disk.Bsize)
	text := fmt.Sprintf("%d MiB free for the state folder", free>>20)
	switch {
	case disk.Flags&unix.ST_RDONLY != 0:
		return bad("mount it for writing", "the disk of the state folder is read-only")
	case free < leastFree || disk.Files > 0 && disk.Ffree < 100:
		return bad(next, "%s, %d inodes", text, disk.Ffree)
	case free < muchFree:
		return warn(next, "%s", text)
	}
	return fine("%s", text)
}

func (s *site) readers() finding {
	text, ready := "", true
	for _, l := range s.c.lanes() {
		reader, err := l.openReader()
		if err != nil {
			return bad("correct reader.slots", "%v", err)
		}
		ctx, cancel := context.WithTimeout(s.ctx, lookForReaders)
		now := describeReaders(ctx, reader, l.Reader.Slots)
		cancel()
		if err := reader.Close(); err != nil {
			return bad("restart pcscd", "%v", err)
		}
		if text != "" {
			text += "; "
		}
		text, ready = text+l.label()+": "+now.text, ready && now.ready
	}
	if !ready {
		return bad("plug the reader in, start pcscd (systemctl start pcscd.socket)", "%s", text)
	}
	return fine("%s", text)
}

func (s *site) running() finding {
	status, err := s.c.client().Status(s.ctx)
	if errors.Is(err, api.ErrNotRunning) {
		err = api.ErrNotRunning
	}
	if err != nil {
		return bad("start it, and see its log (journalctl -u gate-agent)", "%v", err)
	}
	for _, l := range status.Lanes {
		if l.Signal == "out_of_order" || l.Signal == "emergency" {
			return warn("run gate-agent status, which says why", "%s shows %s", l.Lane, l.Signal)
		}
	}
	if h := status.Hub; h != nil && h.Connected && h.Upload != "" {
		return warn("docs/upload.md says what to do; all events are kept here", "%d events do not reach the hub: %s", h.Unsent, h.Upload)
	}
	if h := status.Hub; h != nil && h.Claims != nil && (h.Claims.Unread > 0 || h.Connected && h.Claims.Apart) {
		return warn("see the log of the agent, and docs/claims.md", "claims: %s", describeClaims(*h.Claims))
	}
	return fine("version %s, for %v", status.Version, age(status.UptimeS))
}
