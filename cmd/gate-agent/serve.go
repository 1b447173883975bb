package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/api"
	"github.com/gate-agent/gate-agent/terminal/staff"
)

// socketPath is where the running agent is asked.
func (c *config) socketPath() string { return filepath.Join(c.path(c.State), api.SocketName) }

// openRoster opens the roster, nil when none is configured.
func (c *config) openRoster() (*staff.Roster, error) {
	if c.Staff.File == "" {
		return nil, nil
	}
	roster, err := staff.Load(c.path(c.Staff.File), nil)
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("staff.file: %w", err)}
	}
	return roster, nil
}

// lookForReaders bounds how long a status waits for pcscd.
const lookForReaders = 2 * time.Second

// asked fills in what is asked about, by staff and by the hub.
func (c *config) asked(lanes []station, parts api.Parts) api.Parts {
	parts.Terminal, parts.Version, parts.Now = c.Terminal, version(), time.Now
	for _, l := range lanes {
		parts.Lanes = append(parts.Lanes, api.Lane{
			Gate: l.Gate.Name, Direction: l.Gate.Direction, Mode: l.Gate.Mode, Desk: l.Lane,
			Readers: func(ctx context.Context) (string, bool) {
				ctx, cancel := context.WithTimeout(ctx, lookForReaders)
				defer cancel()
				now := describeReaders(ctx, l.reader, l.Reader.Slots)
				return now.text, now.ready
			},
		})
	}
	return parts
}

// serveAPI answers staff at the socket until ctx ends. That it fails is told,
// and does not shut the gate.
func (c *config) serveAPI(ctx context.Context, log *slog.Logger, parts api.Parts) (serve func(), err error) {
	socket, err := api.Listen(c.socketPath())
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	server := api.New(parts)
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	return func() {
		if err := api.Serve(ctx, server, socket); err != nil {
			log.Error("staff is not answered any more", "error", err)
		}
	}, nil
}
