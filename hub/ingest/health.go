package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxHealth bounds a heartbeat in bytes.
const maxHealth = 32 << 10

// A Health is what reports need of a heartbeat (docs/link.md).
type Health struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"` // by the terminal's clock

	List *struct {
		Epoch uint64 `json:"epoch"`
		Seq   uint64 `json:"seq"`
	} `json:"list"` // nil: none in force
	ClockTrusted bool     `json:"clock_trusted"`
	KeysLost     []string `json:"keys_lost"` // that cannot sign now
	Lanes        []struct {
		Lane   string `json:"lane"`
		Reader bool   `json:"reader"` // cards can be read
	} `json:"lanes"`
	Unsent uint64 `json:"unsent"` // events that the hub has not acknowledged
	Alarm  string `json:"alarm"`  // why no events are sent any more
}

func parseHealth(b []byte) (h Health, err error) {
	if len(b) > maxHealth {
		return h, fmt.Errorf("a heartbeat of %d bytes, at most %d", len(b), maxHealth)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("reading a heartbeat: %w", err)
	}
	if h.Version != 1 || h.At.IsZero() {
		return h, fmt.Errorf("a heartbeat of version %d, want 1", h.Version)
	}
	return h, nil
}

// A Beat is a heartbeat as it came, at an instant.
type Beat struct {
	Scope, Terminal string
	At              time.Time
	Health          []byte
}

// Heartbeats keep the last heartbeat of each terminal, all at once. One that cannot be
// read is left out, and is the error.
func (s *Store) Heartbeats(ctx context.Context, beats ...Beat) error {
	var unread error
	var offsets []int64
	beats = slices.DeleteFunc(slices.Clone(beats), func(b Beat) bool {
		h, err := parseHealth(b.Health)
		if err != nil {
			unread = errors.Join(unread, fmt.Errorf("terminal %q of %q: %w", b.Terminal, b.Scope, err))
			return true
		}
		offsets = append(offsets, h.At.UnixMilli()-b.At.UnixMilli())
		return false
	})
	err := s.durably(ctx, func(ctx context.Context, t *tx) error {
		for i, b := range beats {
			if _, err := t.exec(ctx, `INSERT INTO heard VALUES (?1, ?2, ?3, ?4, '', ?3, ?5)
				ON CONFLICT (scope, terminal) DO UPDATE SET at = excluded.at, offset_ms = excluded.offset_ms, health_at = excluded.health_at, health = excluded.health`,
				b.Scope, b.Terminal, b.At.UnixMilli(), offsets[i], b.Health); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("keeping heartbeats: %w", err)
	}
	return errors.Join(err, unread)
}
