package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A site is a terminal under examination. What several checks need is opened once,
// and nothing is changed or made.
type site struct {
	ctx  context.Context
	c    *config // nil: wrong says why
	file string  // of the configuration
	root string  // what /proc and /sys are below
	now  time.Time

	wrong    error
	manifest func() (whitelist.Manifest, error)
	agent    func() (api.Process, error)
}

// newSite reads the configuration. One that is wrong is found by a check.
func newSite(ctx context.Context, file string) (*site, error) {
	s := &site{ctx: ctx, file: file, root: "/", now: time.Now()}
	if s.c, s.wrong = loadConfig(file); s.wrong != nil {
		s.c = nil
		return s, nil
	}
	s.c.keys = newKeyring(ctx)
	s.manifest = sync.OnceValues(s.openManifest)
	s.agent = sync.OnceValues(func() (api.Process, error) {
		p, err := s.c.client().Process(ctx)
		if errors.Is(err, api.ErrNotRunning) {
			err = api.ErrNotRunning // once is enough
		}
		return p, err
	})
	return s, nil
}

func (s *site) close() error {
	if s.c == nil {
		return nil
	}
	return s.c.keys.close()
}

// A check looks at one thing.
type check func(*site) finding

// healthChecks say whether a terminal works, in the order in which one would look.
func healthChecks() []string {
	return []string{"configuration", "keys", "certificates", "staff", "state", "scope-key", "list", "source", "enrolment", "journal", "clock", "disk", "readers", "agent"}
}

// allChecks are all of them, by name.
func allChecks() map[string]check {
	return map[string]check{
		"configuration": (*site).configuration, "certificates": (*site).certificates, "staff": (*site).staff,
		"state": (*site).state, "scope-key": (*site).scopeKey, "list": (*site).list, "source": (*site).source, "enrolment": (*site).enrolment, "journal": (*site).journal, "clock": (*site).clock,
		"disk": (*site).disk, "readers": (*site).readers, "agent": (*site).running,

		"keys": (*site).keys, "key-kind": (*site).keyKind, "keys-apart": (*site).keysApart,
		"not-exportable": (*site).notExportable, "custody": (*site).custody,

		"files-closed": (*site).filesClosed, "files-owned": (*site).filesOwned, "socket": (*site).socket,
		"swap": (*site).swap, "core-dumps": (*site).coreDumps, "agent-user": (*site).agentUser,

		"supervisors": (*site).supervisors, "passcodes": (*site).passcodes,
		"production": (*site).production, "anchors": (*site).anchors, "gate-driver": (*site).gateDriver,
		"holder-check": (*site).holderCheck, "list-age": (*site).listAge, "journal-whole": (*site).journalWhole,
		"checkpoints": (*site).checkpoints, "retention": (*site).retention,
		"deadline": (*site).deadline, "tap-limit": (*site).tapLimit, "tap-aim": (*site).tapAim,
	}
}

// examine makes one check.
func (s *site) examine(name string) finding {
	switch look, known := allChecks()[name]; {
	case !known:
		return unknown(errors.New("this program has no such check"), "update gate-agent")
	case s.c == nil && name != "configuration":
		return unknown(errors.New("the configuration cannot be read"), "correct the configuration first")
	default:
		f := look(s)
		f.Evidence = strings.ReplaceAll(f.Evidence, "\n", "; ") // of joined errors
		return f
	}
}

func fine(format string, a ...any) finding {
	return finding{Result: isOK, Evidence: fmt.Sprintf(format, a...)}
}

func exempt(format string, a ...any) finding {
	return finding{Result: isExempt, Evidence: fmt.Sprintf(format, a...)}
}

func warn(next, format string, a ...any) finding {
	return finding{isWarning, fmt.Sprintf(format, a...), next}
}

func bad(next, format string, a ...any) finding {
	return finding{isFailed, fmt.Sprintf(format, a...), next}
}

// unknown is no success: nobody knows.
func unknown(why error, next string) finding { return bad(next, "not checked: %v", why) }

var errNoState = errors.New("the state folder is not there")

// stateExists keeps a check from making the folder.
func (s *site) stateExists() error {
	_, err := os.Stat(s.c.path(s.c.State))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoState
	}
	return err
}

func (s *site) openManifest() (m whitelist.Manifest, err error) {
	if err := s.stateExists(); err != nil {
		return m, err
	}
	store, err := s.c.openStore()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	view, err := store.Current()
	if err != nil {
		return m, err
	}
	defer view.Release()
	return view.Manifest(), nil
}

var errNoJournal = errors.New("there is no journal yet")

// read opens the journal for one check.
func (s *site) read(f func(*journal.Reader) error) (err error) {
	r, err := journal.OpenReader(s.c.journalPath())
	if errors.Is(err, fs.ErrNotExist) {
		return errNoJournal
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return f(r)
}

// owner is the user to whom the state folder belongs: the agent runs as that one.
func (s *site) owner() (uid int, err error) {
	info, err := os.Stat(s.c.path(s.c.State))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errNoState
	}
	if err != nil {
		return 0, err
	}
	return int(info.Sys().(*syscall.Stat_t).Uid), nil // always so on Linux
}
