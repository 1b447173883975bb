package enrol

import (
	"net"
	"sync"
	"time"
)

// A secret of 128 bits is not guessed; that somebody tries costs the hub little, and
// shows. Only what was refused counts, so that many terminals behind one address enrol
// at once.
const (
	forgives     = time.Minute // after that an address begins anew
	mostFailures = 20          // of an address within it
	mostAddress  = 4096        // addresses that are remembered
)

// A limiter counts refused requests by address.
type limiter struct {
	now func() time.Time

	mu   sync.Mutex
	from map[string]failures
}

type failures struct {
	since time.Time
	n     int
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, from: make(map[string]failures)}
}

func (l *limiter) allows(remote string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.from[host(remote)]
	return f.n < mostFailures || l.now().Sub(f.since) >= forgives
}

func (l *limiter) count(remote string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, now := host(remote), l.now()
	f, known := l.from[at]
	if !known && len(l.from) >= mostAddress {
		clear(l.from)
	}
	if now.Sub(f.since) >= forgives {
		f = failures{since: now}
	}
	f.n++
	l.from[at] = f
}

func host(remote string) string {
	if h, _, err := net.SplitHostPort(remote); err == nil {
		return h
	}
	return remote
}
