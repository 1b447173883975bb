package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// eventBacklog is how many events may wait for a slow reader of the event
// stream. The journal has them all; the stream only watches.
const eventBacklog = 1024

// eventPatience is how long Close waits for a reader that does not read.
const eventPatience = time.Second

// An eventLog writes decisions as JSON lines, beside the tap path: whoever
// reads them can be slow, hang or go away, and the gate works on.
type eventLog struct {
	queue  chan terminal.Event
	done   chan struct{} // closed when everything is written
	closer io.Closer
	lost   atomic.Int64
}

// openEvents starts an event log: to stdout for "-", nowhere for "".
func openEvents(name string, stdout io.Writer, log *slog.Logger) (*eventLog, error) {
	l := &eventLog{queue: make(chan terminal.Event, eventBacklog), done: make(chan struct{})}
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
		w, l.closer = f, f
	}
	go func() { // Close waits for it, within reason
		defer close(l.done)
		enc, broken := json.NewEncoder(w), false
		for e := range l.queue {
			if err := enc.Encode(e); err != nil && !broken {
				broken = true
				log.Warn("event stream is broken; the journal has every event", "error", err)
			}
		}
	}()
	return l, nil
}

// add takes a decision without waiting. What does not fit is counted.
func (l *eventLog) add(d terminal.Decision) {
	select {
	case l.queue <- d.Event():
	default:
		l.lost.Add(1)
	}
}

// Close writes what waits, and says what was lost.
func (l *eventLog) Close() error {
	close(l.queue)
	var err error
	select {
	case <-l.done:
	case <-time.After(eventPatience):
		l.lost.Add(int64(len(l.queue)) + 1) // and the one that is being written
	}
	if n := l.lost.Load(); n > 0 {
		err = fmt.Errorf("%d events were not written to the event stream: its reader was too slow (the journal has them)", n)
	}
	if l.closer != nil {
		err = errors.Join(err, l.closer.Close())
	}
	return err
}
