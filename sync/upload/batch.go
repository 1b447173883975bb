package upload

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Errors of ParseBatch.
var (
	ErrMalformed = errors.New("malformed batch")
	ErrTooLarge  = errors.New("batch is too large")
	ErrVersion   = errors.New("batch of an unknown version")
)

// A Batch is some events of one journal, in sequence; none is a question: how much
// of it does the hub hold?
type Batch struct {
	Scope, Terminal string
	Incarnation     Incarnation
	Agent           string    // version of the program
	Sent            time.Time // by the terminal's clock, whole milliseconds

	Last   uint64 // number of the last event that the journal has
	Pruned uint64 // its events up to this one were deleted by retention

	First  uint64 // number of the first event here, or of the one that would be
	Prev   Hash   // hash of the event before it
	Events [][]byte

	// Omitted is the hash of the one event First, whose bytes are longer than
	// MaxEvent and stay behind; Events is empty then.
	Omitted *Hash
}

// header is the first line of a batch. The bytes of the events follow, each with a
// newline; sizes, not newlines, part them, for an event that was tampered with may
// have one.
type header struct {
	Version     int    `json:"version"`
	Scope       string `json:"scope"`
	Terminal    string `json:"terminal"`
	Incarnation string `json:"incarnation"`
	Agent       string `json:"agent"`
	Sent        string `json:"sent"`
	Last        uint64 `json:"last"`
	Pruned      uint64 `json:"pruned"`
	First       uint64 `json:"first"`
	Prev        string `json:"prev"`
	Sizes       []int  `json:"sizes"`
	Omitted     string `json:"omitted,omitempty"`
}

// Encode gives the bytes of a batch.
func (b *Batch) Encode() ([]byte, error) {
	h := header{
		Version: version, Scope: b.Scope, Terminal: b.Terminal, Incarnation: hex.EncodeToString(b.Incarnation[:]),
		Agent: b.Agent, Sent: instant(b.Sent), Last: b.Last, Pruned: b.Pruned,
		First: b.First, Prev: hex.EncodeToString(b.Prev[:]), Sizes: make([]int, len(b.Events)),
	}
	if b.Omitted != nil {
		h.Omitted = hex.EncodeToString(b.Omitted[:])
	}
	for i, e := range b.Events {
		h.Sizes[i] = len(e)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out) // which ends the line
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return nil, fmt.Errorf("encoding a batch: %w", err)
	}
	for _, e := range b.Events {
		out.Write(e)
		out.WriteByte('\n')
	}
	if out.Len() > MaxBatch {
		return nil, fmt.Errorf("encoding a batch: %w: %d bytes", ErrTooLarge, out.Len())
	}
	return out.Bytes(), nil
}

// ParseBatch reads a batch, and trusts nothing in it. What the events say is for
// others to read. Its errors are ErrMalformed, ErrTooLarge and ErrVersion. The
// events are parts of text.
func ParseBatch(text []byte) (*Batch, error) {
	if len(text) > MaxBatch {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(text), MaxBatch)
	}
	line, rest, ok := bytes.Cut(text, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("%w: no header line", ErrMalformed)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return nil, fmt.Errorf("%w: header: %v", ErrMalformed, err)
	}
	if v.Version != version {
		return nil, fmt.Errorf("%w: %d, this program knows %d", ErrVersion, v.Version, version)
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, fmt.Errorf("%w: header: %v", ErrMalformed, err)
	}
	b, err := h.batch()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	for i, n := range h.Sizes {
		if n < 0 || n >= len(rest) || rest[n] != '\n' {
			return nil, fmt.Errorf("%w: event %d of it is not %d bytes and a newline", ErrMalformed, i+1, n)
		}
		b.Events = append(b.Events, rest[:n:n])
		rest = rest[n+1:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the events", ErrMalformed, len(rest))
	}
	return b, nil
}

// batch is that of the header, without the events.
func (h *header) batch() (*Batch, error) {
	b := &Batch{Scope: h.Scope, Terminal: h.Terminal, Agent: h.Agent, Last: h.Last, Pruned: h.Pruned, First: h.First}
	if err := fixed(b.Incarnation[:], h.Incarnation); err != nil {
		return nil, fmt.Errorf("incarnation: %w", err)
	}
	if err := fixed(b.Prev[:], h.Prev); err != nil {
		return nil, fmt.Errorf("prev: %w", err)
	}
	var err error
	if b.Sent, err = parseInstant(h.Sent); err != nil {
		return nil, err
	}
	if h.Omitted != "" {
		b.Omitted = new(Hash)
		if err := fixed(b.Omitted[:], h.Omitted); err != nil {
			return nil, fmt.Errorf("omitted: %w", err)
		}
	}
	n := uint64(len(h.Sizes))
	if b.Omitted != nil {
		n++
	}
	switch {
	case len(h.Sizes) > MaxEvents || b.Omitted != nil && len(h.Sizes) > 0:
		return nil, fmt.Errorf("%d events, at most %d are allowed, and none beside an omitted one", len(h.Sizes), MaxEvents)
	case len(h.Scope) > maxName || len(h.Terminal) > maxName || len(h.Agent) > maxName:
		return nil, fmt.Errorf("a name has more than %d bytes", maxName)
	case h.First == 0 || h.Last >= math.MaxInt64 || h.Pruned >= h.First || h.First > h.Last+1 || h.First+n-1 > h.Last:
		return nil, fmt.Errorf("events %d to %d of a journal that has %d to %d", h.First, h.First+n-1, h.Pruned+1, h.Last)
	case h.First == 1 && b.Prev != FirstHash(b.Incarnation):
		return nil, errors.New("its first event does not follow from its incarnation")
	}
	return b, nil
}
