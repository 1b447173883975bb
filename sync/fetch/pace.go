package fetch

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"time"
)

// A Backoff is how long to wait after failures: a random time, from zero to
// twice as much after each. That the whole of it is random ("full jitter")
// keeps a fleet which failed together from coming back together.
type Backoff struct {
	Base time.Duration // at most so long after the first failure
	Cap  time.Duration // at most so long after any
}

// Next is the wait after failure number attempt, which counts from zero. The
// random number in [0, n) is rand's, such as that of math/rand/v2.Int64N.
func (b Backoff) Next(attempt int, rand func(n int64) int64) time.Duration {
	most := b.Base
	for ; attempt > 0 && most < b.Cap; attempt-- {
		most = min(2*most, b.Cap)
	}
	return time.Duration(rand(int64(min(most, b.Cap)) + 1))
}

// Phase is where in each interval a terminal polls, from zero to every: by its
// name, so that it is always the same and those of a fleet are spread evenly.
func Phase(terminal string, every time.Duration) time.Duration {
	digest := sha256.Sum256([]byte(terminal))
	phase, _ := bits.Mul64(binary.BigEndian.Uint64(digest[:]), uint64(every))
	return time.Duration(phase)
}

// Slot is the first instant after t that is phase after a multiple of every, counted from
// 1970. It keeps t's reading of the monotonic clock: whoever waits for it waits as long
// when the clock is set.
func Slot(t time.Time, every, phase time.Duration) time.Time {
	since := time.Duration((t.UnixNano() - int64(phase)) % int64(every))
	if since < 0 {
		since += every
	}
	return t.Add(every - since)
}
