package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/gate-agent/gate-agent/terminal"
)

// eventBacklog is how many events may wait for a slow reader of the event
// stream. The journal has them all; the stream only watches.
const eventBacklog = 1024

// An eventLog writes decisions as JSON lines, beside the tap path.
type eventLog struct {
	queue  chan terminal.Event
	done   sync.WaitGroup
	closer io.Closer

	mu   sync.Mutex
	err  error // the first
	lost int
}

// openEvents starts an event log: to stdout for "-", nowhere for "".
func openEvents(name string, stdout io.Writer) (*eventLog, error) {
	l := &eventLog{queue: make(chan terminal.Event, eventBacklog)}
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
	l.done.Go(func() {
		enc := json.NewEncoder(w)
		for e := range l.queue {
			if err := enc.Encode(e); err != nil {
				l.fail(err)
			}
		}
	})
	return l, nil
}

// add takes a decision without waiting. What does not fit is counted.
func (l *eventLog) add(d terminal.Decision) {
	select {
	case l.queue <- d.Event():
	default:
		l.mu.Lock()
		l.lost++
		l.mu.Unlock()
	}
}

func (l *eventLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// Close writes what waits, and says what was lost.
func (l *eventLog) Close() error {
	close(l.queue)
	l.done.Wait()
	err := l.err
	if l.lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d events were not written to the event log: its reader was too slow (the journal has them)", l.lost))
	}
	if l.closer != nil {
		err = errors.Join(err, l.closer.Close())
	}
	return err
}
