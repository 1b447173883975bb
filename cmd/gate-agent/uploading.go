package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/enrol"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/sync/upload"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// ackFile is the last acknowledgement of the hub, in its folder.
const ackFile = "ack.cose"

// An uploading brings the journal to the hub.
type uploading struct {
	*upload.Uploader
	id upload.Incarnation
}

// openUpload makes what brings a journal to the hub over a connection.
func (c *config) openUpload(ctx context.Context, log *slog.Logger, record *journal.Journal, conn *link.Conn) (*uploading, error) {
	hub := c.enrolled.Hub
	keys, err := upload.Keys(hub.Scope, hub.AckKeys)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("hub.connect: %w", err)}
	}
	id, err := record.Incarnation(ctx)
	if err != nil {
		return nil, err
	}
	return &uploading{upload.New(upload.Config{
		Journal: record, Hub: conn, Subject: conn.Subjects.Events, Scope: hub.Scope, Terminal: hub.Terminal, Agent: cli.Version(),
		Keys: keys, File: filepath.Join(c.path(c.State), enrol.Folder, ackFile), Changed: tellUpload(log),
	}), id}, nil
}

// acknowledged is the last event that retention may delete.
func (u *uploading) acknowledged() uint64 { return u.Acknowledged(u.id) }

// mayDelete says up to which event retention may delete: where a hub takes them in, those
// that it holds, and that the log of the venue was told of.
func (l *hubLink) mayDelete(ctx context.Context) uint64 {
	if l.moved {
		return 0
	}
	most := journal.Everything
	if u := l.upload.Load(); u != nil {
		most = u.acknowledged()
	}
	if l.claims != nil {
		told, err := l.claims.Through(ctx)
		if err != nil {
			return 0
		}
		most = min(most, told)
	}
	return most
}

// tellUpload tells the operator when events stay here, and when they go again. That
// there is no connection is told by the link.
func tellUpload(log *slog.Logger) func(upload.Status) {
	return func(s upload.Status) {
		switch {
		case s.Stopped:
			log.Error("events are not sent any more: the hub knows another journal of this incarnation (docs/upload.md)", "problem", s.Problem, "acknowledged", s.Acknowledged)
		case s.Problem == "":
			log.Info("events are sent", "acknowledged", s.Acknowledged, "of", s.Last)
		case s.Code != "":
			log.Error("the hub does not take events; all are kept here", "code", string(s.Code), "problem", s.Problem)
		}
	}
}

// about adds to a heartbeat and to a status how the upload goes.
func (u *uploading) about(h *link.Health, s *api.HubStatus) {
	is := u.Status()
	unsent := is.Last - min(is.Last, is.Acknowledged)
	if h != nil {
		h.Unsent, h.Alarm = unsent, string(is.Code)
	}
	if s != nil {
		s.Unsent, s.Upload = unsent, is.Problem
	}
}
