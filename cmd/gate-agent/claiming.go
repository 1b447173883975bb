package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/claims/claimer"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// claimsFile is what was heard of the venue's log, in the state folder. It may be deleted.
const claimsFile = "claims.db"

// A claiming claims entries in the log of the venue, for all lanes.
type claiming struct {
	*claimer.Claimer
	record *journal.Journal
}

// openClaims opens the terminal's half of the claims of its venue, nil in a shelter, which
// asks nobody.
func (c *config) openClaims(log *slog.Logger, record *journal.Journal, conn *link.Conn) (*claiming, error) {
	if c.Gate.Mode == terminal.Muster {
		return nil, nil
	}
	js, err := conn.JetStream()
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("hub.connect: %w", err)}
	}
	claims, err := claimer.Open(claimer.Config{
		Path: filepath.Join(c.path(c.State), claimsFile), Scope: c.Scope, Terminal: c.Terminal, Bucket: conn.Subjects.Bucket,
		JetStream: js, Connected: conn.Connected, Journal: record.Reader, Report: tellClaims(log),
	})
	if err != nil {
		return nil, err
	}
	return &claiming{claims, record}, nil
}

// tellClaims tells the operator what goes wrong, each thing once in a row.
func tellClaims(log *slog.Logger) func(error) {
	var mu sync.Mutex
	said := ""
	return func(err error) {
		mu.Lock()
		again := said == err.Error()
		said = err.Error()
		mu.Unlock()
		if !again {
			log.Warn("the log of the venue", "error", err)
		}
	}
}

// status is how the terminal stands to the log.
func (c *claiming) status(ctx context.Context) api.ClaimsStatus {
	is, err := c.Status(ctx)
	var last uint64
	if err == nil {
		_, last, err = c.record.Ends(ctx)
	}
	if err != nil {
		return api.ClaimsStatus{Apart: true, Detail: err.Error()}
	}
	return api.ClaimsStatus{Apart: is.Apart, Untold: last - min(last, is.Through), Loose: is.Loose, Unread: is.Unread}
}

// describeClaims says how the terminal stands to the log of its venue.
func describeClaims(s api.ClaimsStatus) string {
	text := "the venue is asked / 会場と照合中"
	switch {
	case s.Detail != "":
		text = "NOT KNOWN / 不明: " + s.Detail
	case s.Apart:
		text = "APART: nobody is asked, the policy of the zone decides / 会場と照合できません"
	}
	if s.Untold > 0 {
		text += fmt.Sprintf("; %d events to tell", s.Untold)
	}
	if s.Loose > 0 {
		text += fmt.Sprintf("; %d claims to give back", s.Loose)
	}
	if s.Unread > 0 {
		text += fmt.Sprintf("; %d KEYS CANNOT BE READ, see the log of the agent", s.Unread)
	}
	return text
}
