package main

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

const (
	outletBacklog  = 1024        // lines that may wait for a slow reader
	outletPatience = time.Second // how long Close waits for one that does not read
)

// An outlet passes lines on to whoever watches the gate: the log, the event
// stream. They can be slow, hang or go away, and no tap waits for them: a line
// that finds no room is counted and lost.
type outlet struct {
	queue chan []byte
	quit  chan struct{} // closed by Close
	done  chan struct{} // closed when everything is written
	lost  atomic.Int64
}

// newOutlet starts an outlet to w. broken, when not nil, is told the first
// error of writing.
func newOutlet(w io.Writer, broken func(error)) *outlet {
	o := &outlet{queue: make(chan []byte, outletBacklog), quit: make(chan struct{}), done: make(chan struct{})}
	write := func(line []byte) {
		if _, err := w.Write(line); err != nil && broken != nil {
			broken(err)
			broken = nil
		}
	}
	go func() { // Close waits for it, within reason
		defer close(o.done)
		for {
			select {
			case line := <-o.queue:
				write(line)
				continue
			case <-o.quit:
			}
			for {
				select {
				case line := <-o.queue:
					write(line)
				default:
					return
				}
			}
		}
	}()
	return o
}

// Write takes one line. It does not wait and never fails. After Close nobody
// writes what it takes: a timer of the gate may still go off then.
func (o *outlet) Write(line []byte) (int, error) {
	select {
	case o.queue <- bytes.Clone(line):
	default:
		o.lost.Add(1)
	}
	return len(line), nil
}

// Close writes what waits, and says how much was lost. It is called once.
func (o *outlet) Close() error {
	close(o.quit)
	select {
	case <-o.done:
	case <-time.After(outletPatience):
		o.lost.Add(int64(len(o.queue)) + 1) // and the one that is being written
	}
	if n := o.lost.Load(); n > 0 {
		return fmt.Errorf("%d lines were not written: their reader was too slow", n)
	}
	return nil
}
