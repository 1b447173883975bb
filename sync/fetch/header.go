package fetch

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A contentRange is a Content-Range in bytes (RFC 9110, 14.4).
type contentRange struct {
	first, last int64 // both inclusive
	total       int64 // -1: not said
}

func (r contentRange) String() string {
	return fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, r.total)
}

func parseContentRange(s string) (contentRange, bool) {
	unit, s, _ := strings.Cut(s, " ")
	span, size, found := strings.Cut(s, "/")
	from, to, _ := strings.Cut(span, "-")
	first, ok1 := digits(from)
	last, ok2 := digits(to)
	total, ok3 := int64(-1), true
	if size != "*" {
		total, ok3 = digits(size)
	}
	ok := strings.EqualFold(unit, "bytes") && found && ok1 && ok2 && ok3 &&
		first <= last && (total < 0 || last < total)
	if !ok {
		return contentRange{}, false
	}
	return contentRange{first, last, total}, true
}

// digits parses 1*DIGIT (RFC 9110, 2.1), which has no sign.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

const maxRetryAfter = time.Hour

// retryAfter is how long the server asks to be left alone (RFC 9110, 10.2.3),
// at most maxRetryAfter. A date counts from the server's own, where it says
// one: the terminal's clock may be wrong.
func retryAfter(h http.Header, now time.Time) time.Duration {
	s := h.Get("Retry-After")
	if s != "" && strings.Trim(s, "0123456789") == "" {
		seconds, ok := digits(s)
		if !ok || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
