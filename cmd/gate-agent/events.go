package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/gate-agent/gate-agent/terminal"
)

// An eventLog writes decisions as JSON lines. The journal has them all; the
// stream only watches.
type eventLog struct {
	out  *outlet
	mu   sync.Mutex // the lane and staff may decide at once
	enc  *json.Encoder
	file io.Closer // nil: not ours
}

// openEvents starts an event log: to stdout for "-", nowhere for "".
func openEvents(name string, stdout io.Writer, log *slog.Logger) (*eventLog, error) {
	l := &eventLog{}
	w := stdout
	switch name {
	case "":
		w = io.Discard
	case "-":
	default:
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the event log: %w", err)
		}
		w, l.file = f, f
	}
	l.out = newOutlet(w, func(err error) {
		log.Warn("event stream is broken; the journal has every event", "error", err)
	})
	l.enc = json.NewEncoder(l.out)
	return l, nil
}

// add takes a decision without waiting.
func (l *eventLog) add(d terminal.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.enc.Encode(d.Event()) // an event is plain data, and an outlet takes everything
}

// Close writes what waits, and says what was lost.
func (l *eventLog) Close() error {
	err := l.out.Close()
	if err != nil {
		err = fmt.Errorf("event stream: %w (the journal has them)", err)
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}
