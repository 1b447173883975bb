package pcsc

import (
	"context"
	"fmt"
	"sync"
)

// maxOrphans bounds the calls that are blocked in the client library with
// nobody waiting for them: no session begins while there are so many. Each
// holds a thread of this process and one of pcscd's. A lane reaches the bound
// only when a reader or pcscd is broken.
const maxOrphans = 16

// calls keeps count of one lane's calls into the client library. Any of them
// can block for ever, and none but SCardGetStatusChange can be cancelled, so
// each runs in a goroutine that can be abandoned; Close waits for them here.
type calls struct {
	mu      sync.Mutex
	running int           // goroutines in a call or cleaning up after it
	orphans int           // those of them that were abandoned
	idle    chan struct{} // closed when running falls to zero; nil: nobody waits

	tags  []int // returned and free
	taken int   // how many tags were ever made
}

// abandoned is the error of a call that nobody waits for any more.
type abandoned struct{ cause error }

func (e abandoned) Error() string { return e.cause.Error() }
func (e abandoned) Unwrap() error { return e.cause }

// do runs f and returns what it returned. When ctx ends first, it returns at
// once with the cause, and f is abandoned: whenever f returns, late gets its
// result and must release what came of it. Of the two exactly one happens.
func do[T any](ctx context.Context, c *calls, f func() (T, error), late func(T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	c.begin()
	type result struct {
		value T
		err   error
	}
	done := make(chan result) // no buffer: a result is taken, or goes to late
	gone := make(chan struct{})
	go func() {
		value, err := f()
		select {
		case done <- result{value, err}:
			c.end(false)
		case <-gone:
			late(value, err)
			c.end(true)
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		c.abandon()
		close(gone)
		return none, abandoned{context.Cause(ctx)}
	}
}

func (c *calls) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running++
}

func (c *calls) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orphans++
}

func (c *calls) end(orphan bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if orphan {
		c.orphans--
	}
	c.running--
	if c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// blocked is how many calls have been abandoned and have not come back.
func (c *calls) blocked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.orphans
}

// wait waits until no call is under way, at most until ctx ends.
func (c *calls) wait(ctx context.Context) error {
	c.mu.Lock()
	if c.running == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %d calls", ErrStuck, c.blocked())
	}
}

// takeTag and returnTag lend the tags of sessions; see session.tag.
func (c *calls) takeTag() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.tags); n > 0 {
		tag := c.tags[n-1]
		c.tags = c.tags[:n-1]
		return tag
	}
	c.taken++
	return c.taken
}

func (c *calls) returnTag(tag int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tags = append(c.tags, tag)
}
