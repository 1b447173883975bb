package link

import (
	"encoding/json"
	"fmt"
	"time"
)

// HealthVersion is the version of a heartbeat.
const HealthVersion = 1

// maxHealth bounds a heartbeat in bytes.
const maxHealth = 32 << 10

// A Health is what a heartbeat says. docs/link.md promises its members: further ones may
// come, and whoever reads one takes no offence at them.
type Health struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"` // by the terminal's clock

	Agent  string `json:"agent"` // version of the program
	UpForS int64  `json:"up_for_s"`

	List         *HealthList `json:"list"` // null: none in force
	ClockTrusted bool        `json:"clock_trusted"`
	KeysLost     []string    `json:"keys_lost"` // places of the configuration whose key cannot sign now

	Lanes []HealthLane `json:"lanes"`

	InDoubt uint64        `json:"in_doubt"`         // entries for staff to settle
	Unsent  uint64        `json:"unsent"`           // events that the hub has not acknowledged
	Claims  *HealthClaims `json:"claims,omitempty"` // left out of a terminal that claims nothing

	Alarm string `json:"alarm"` // why no events are sent any more, such as "clone"; "" is nothing
}

// HealthList is the list in force.
type HealthList struct {
	Epoch    uint64    `json:"epoch"`
	Seq      uint64    `json:"seq"`
	NotAfter time.Time `json:"not_after"`
}

// HealthClaims is how the terminal stands to the log of its venue.
type HealthClaims struct {
	Apart  bool   `json:"apart"`  // nobody can be asked
	Untold uint64 `json:"untold"` // events that the log has not been told of
	Unread int    `json:"unread"` // keys that cannot be read, or were written twice
}

// HealthLane is one lane.
type HealthLane struct {
	Lane   string   `json:"lane"`   // its label
	Signal string   `json:"signal"` // what its lamps show: ready, caution, out_of_order, emergency
	Why    []string `json:"why"`    // reasons that it is not ready
	Reader bool     `json:"reader"` // cards can be read
}

// ParseHealth reads a heartbeat. One of another version is an error.
func ParseHealth(b []byte) (h Health, err error) {
	if len(b) > maxHealth {
		return h, fmt.Errorf("a heartbeat of %d bytes, at most %d", len(b), maxHealth)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return Health{}, fmt.Errorf("reading a heartbeat: %w", err)
	}
	if h.Version != HealthVersion || h.At.IsZero() {
		return Health{}, fmt.Errorf("a heartbeat of version %d, want %d", h.Version, HealthVersion)
	}
	return h, nil
}
