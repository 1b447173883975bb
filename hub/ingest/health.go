package ingest

import (
	"context"
	"encoding/json"
	"fmt"
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

// Heartbeat keeps the last heartbeat of a terminal, which came at an instant.
func (s *Store) Heartbeat(ctx context.Context, scope, terminal string, message []byte, at time.Time) error {
	h, err := parseHealth(message)
	if err != nil {
		return err
	}
	offset := h.At.UnixMilli() - at.UnixMilli()
	if err := s.durably(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO heard VALUES (?1, ?2, ?3, ?4, '', ?3, ?5)
			ON CONFLICT (scope, terminal) DO UPDATE SET at = excluded.at, offset_ms = excluded.offset_ms, health_at = excluded.health_at, health = excluded.health`,
			scope, terminal, at.UnixMilli(), offset, message)
		return err
	}); err != nil {
		return fmt.Errorf("keeping a heartbeat: %w", err)
	}
	return nil
}
