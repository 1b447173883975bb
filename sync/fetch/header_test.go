package fetch

import (
	"net/http"
	"testing"
	"time"
)

// FuzzContentRange: what parses is written as it was read, but for leading
// zeros and the case of its unit, and is a range.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes +1-2/3", "bytes 0-9/9", "", "bytes 0-9223372036854775807/9223372036854775808"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseContentRange(s)
		if !ok {
			if r != (contentRange{}) {
				t.Errorf("%q is refused, and %+v", s, r)
			}
			return
		}
		if r.first < 0 || r.last < r.first || r.total >= 0 && r.last >= r.total {
			t.Errorf("%q is %+v", s, r)
		}
		if again, ok := parseContentRange(r.String()); r.total >= 0 && (!ok || again != r) {
			t.Errorf("%q is %+v and then %+v", s, r, again)
		}
	})
}

func TestContentRangesThatAreNone(t *testing.T) {
	for _, s := range []string{"", "bytes", "bytes ", "bytes */10", "bytes 9-5/10", "bytes +1-2/3", "bytes 0-9/9", "bytes 0-9", "bytes 0-9/", "lines 0-9/10",
		"bytes -9/10", "bytes 0-/10", "bytes 0 - 9/10", "bytes 0-9/10 ", "bytes 0-9/10,bytes 0-9/10", "bytes 0-99999999999999999999/*"} {
		if r, ok := parseContentRange(s); ok {
			t.Errorf("%q is %v", s, r)
		}
	}
	for s, want := range map[string]contentRange{"bytes 0-0/1": {0, 0, 1}, "Bytes 5-9/10": {5, 9, 10}, "bytes 5-9/*": {5, 9, -1}} {
		if r, ok := parseContentRange(s); !ok || r != want {
			t.Errorf("%q is %v, %v", s, r, ok)
		}
	}
}

// FuzzRetryAfter: no server makes a terminal wait longer than an hour, or less
// than nothing.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "120", "-1", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31-Dec-99 23:59:59 GMT"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, after, date string) {
		h := http.Header{"Retry-After": {after}, "Date": {date}}
		if d := retryAfter(h, time.Unix(1e9, 0)); d < 0 || d > maxRetryAfter {
			t.Errorf("%q at %q: %v", after, date, d)
		}
	})
}

// The terminal's clock is wrong by a year; the server's date tells.
func TestRetryAfterADateCountsFromTheServersClock(t *testing.T) {
	h := http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}, "Date": {"Fri, 31 Dec 1999 23:58:59 GMT"}}
	if d := retryAfter(h, time.Unix(1e9, 0)); d != time.Minute {
		t.Errorf("%v, want 1m", d)
	}
}
