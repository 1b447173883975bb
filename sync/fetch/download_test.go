package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/sync/fetch"
)

// partial answers as a server that knows ranges, and breaks the connection
// behind most bytes.
func partial(t *testing.T, w http.ResponseWriter, r *http.Request, content []byte, most int) {
	t.Helper()
	first, last := 0, len(content)-1
	if s := r.Header.Get("Range"); s != "" {
		if _, err := fmt.Sscanf(s, "bytes=%d-%d", &first, &last); err != nil || last >= len(content) || first > last {
			t.Errorf("Range %q", s)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(content)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(last+1-first))
	if first > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	b := content[first : last+1]
	w.Write(b[:min(most, len(b))])
}

func TestBrokenDownloadGoesOnFromWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, want := big()
		var ranges []string
		most := 300_000
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/lists/demo/snapshot/abc" {
				t.Errorf("%v", r.URL)
			}
			ranges = append(ranges, r.Header.Get("Range"))
			partial(t, w, r, content, most)
		})
		dir := folder(t)
		last := int64(-1)
		progress := func(done, total int64) {
			if done < last || done > total || total != want.Size {
				t.Errorf("progress from %d to %d of %d", last, done, total)
			}
			last = done
		}
		start := time.Now()
		f, err := s.Download(t.Context(), "snapshot/abc", want, dir, progress)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != (1+2+4)*time.Second {
			t.Errorf("waits %v between attempts", took)
		}
		if want := []string{"", "bytes=300000-1048575", "bytes=600000-1048575", "bytes=900000-1048575"}; !slices.Equal(ranges, want) {
			t.Errorf("asks for %q", ranges)
		}
		if last != want.Size || read(t, f) != string(content) {
			t.Errorf("ends at %d, or with another content", last)
		}
		if c := s.Counts(); c.Received != want.Size || c.Written != want.Size {
			t.Errorf("%+v for %d bytes", c, want.Size)
		}
		// It is there already: nothing is asked.
		f, err = s.Download(t.Context(), "snapshot/abc", want, dir, nil)
		if err != nil || len(ranges) != 4 {
			t.Fatalf("%v, asks %d times", err, len(ranges))
		}
		read(t, f)
	})
}

func TestAttemptsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, want := big()
		asked := 0
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			partial(t, w, r, content, 100_000)
		})
		dir := folder(t)
		if _, err := s.Download(t.Context(), "abc", want, dir, nil); !strings.Contains(fmt.Sprint(err), "unexpected EOF") || asked != 5 {
			t.Errorf("%v after %d attempts", err, asked)
		}
		if m := left(t, dir); m[partName(want)] != 500_000 {
			t.Errorf("left: %v", m)
		}
		for range 2 { // as a caller does who comes again
			f, err := s.Download(t.Context(), "abc", want, dir, nil)
			if err == nil {
				read(t, f)
				break
			}
		}
		if m := left(t, dir); m[partName(want)] != want.Size || asked != 11 {
			t.Errorf("left: %v after %d attempts", m, asked)
		}
	})
}

func TestServerWithoutRangesDoesNotRewriteWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, want := big()
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content)
		})
		dir := folder(t)
		put(t, dir, want, content[:1_000_000])
		f, err := s.Download(t.Context(), "abc", want, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if read(t, f) != string(content) {
			t.Error("another content")
		}
		if c := s.Counts(); c.Written != 48_576 || c.Received != want.Size {
			t.Errorf("%+v", c)
		}
	})
}

func TestPartThatAPowerCutSpoiltIsBroughtAnew(t *testing.T) {
	content, want := big()
	for name, there := range map[string][]byte{
		"zeros at its end": append(slices.Clone(content[:500_000]), make([]byte, 1000)...),
		"all of it wrong":  make([]byte, len(content)),
		"too long":         append(slices.Clone(content), 0),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, func(w http.ResponseWriter, r *http.Request) { partial(t, w, r, content, len(content)) })
				dir := folder(t)
				put(t, dir, want, there)
				f, err := s.Download(t.Context(), "abc", want, dir, nil)
				if err != nil {
					t.Fatal(err)
				}
				if read(t, f) != string(content) {
					t.Error("another content")
				}
			})
		})
	}
}

func TestHostileAnswersToADownload(t *testing.T) {
	content, want := big()
	const there = 1000 // bytes, from before
	ranged := func(contentRange string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body)
		}
	}
	flood := func(w http.ResponseWriter, r *http.Request) {
		for b := make([]byte, 1<<16); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
	trickle := func(bytes int, every time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, bytes)); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(every)
			}
		}
	}
	for name, test := range map[string]struct {
		server http.HandlerFunc
		fresh  bool // nothing there from before
		want   string
		left   int64 // -1: nothing
		most   time.Duration
	}{
		"another content": {func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, len(content))) }, true, "wrong SHA-256", -1, 0},
		"another content, to the end": {func(w http.ResponseWriter, r *http.Request) {
			partial(t, w, r, make([]byte, len(content)), len(content))
		}, false, "wrong SHA-256", -1, 0},
		"another size, as it says": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "99999999999")
			flood(w, r)
		}, true, "99999999999 bytes, want 1048576", -1, 0},
		"gigantic, unsaid":        {flood, true, "wrong SHA-256", -1, 0},
		"gigantic, as a part":     {ranged("bytes 1000-1048575/1048576", slices.Concat(make([]byte, 2<<20), content)), false, "206", -1, 0},
		"another range":           {ranged("bytes 0-1048575/1048576", content), false, "another range", there, 0},
		"a shorter range":         {ranged("bytes 1000-1999/1048576", content[1000:2000]), false, "another range", there, 0},
		"a range of another file": {ranged("bytes 1000-1048575/1048577", content[1000:]), false, "another range", there, 0},
		"no range":                {ranged("", content[1000:]), false, "another range", there, 0},
		"a part, unasked":         {ranged("bytes 0-1048575/1048576", content), true, "206", -1, 0},
		"several parts": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			ranged("", content[1000:])(w, r)
		}, false, "another range", there, 0},
		"compressed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			w.Write(content)
		}, false, "encodes the file", there, 0},
		"HTML": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Write(content)
		}, false, "web page", there, 0},
		"HTML, unsaid": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(slices.Concat([]byte("\n<html>"), content[7:]))
		}, true, "web page", -1, 0},
		"gone":              {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, true, "404", -1, 0},
		"busy":              {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, false, "503", there, 0},
		"no such range":     {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(416) }, false, "416", there, 0},
		"redirected":        {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://x.example/", 302) }, false, "from https to http", there, 0},
		"silent":            {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false, "less than 64 KiB in 30s", there, 3 * time.Minute},
		"one byte a second": {trickle(1, 1001*time.Millisecond), true, "less than 64 KiB in 30s", 30, 3 * time.Minute},
		"silence at the end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:len(content)-1])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, true, "less than 64 KiB in 30s", want.Size - 1, 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, test.server)
				dir := folder(t)
				if !test.fresh {
					put(t, dir, want, content[:there])
				}
				start := time.Now()
				f, err := s.Download(t.Context(), "abc", want, dir, nil)
				if f != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "abc from example.com: ") {
					t.Fatalf("%v, want %q", err, test.want)
				}
				if errors.Is(err, fetch.ErrDigest) != (test.want == "wrong SHA-256") || errors.Is(err, fs.ErrNotExist) != (test.want == "404") {
					t.Errorf("%v is another error than it says", err)
				}
				if took := time.Since(start); took > test.most {
					t.Errorf("holds the agent for %v", took)
				}
				if got := s.Counts(); got.Received > 5*want.Size || got.Written > 2*want.Size {
					t.Errorf("%+v for %d bytes", got, want.Size)
				}
				m := left(t, dir)
				if size, ok := m[partName(want)]; test.left < 0 && len(m) > 0 || test.left >= 0 && (!ok || size != test.left) {
					t.Errorf("left: %v, want %d", m, test.left)
				}
			})
		})
	}
}

// A line that is slow, but not too slow, brings a list in the end.
func TestSlowLineIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, want := big()
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			for piece := range slices.Chunk(content, 8<<10) { // 64 KiB in 24 s
				w.Write(piece)
				w.(http.Flusher).Flush()
				time.Sleep(3 * time.Second)
			}
		})
		f, err := s.Download(t.Context(), "abc", want, folder(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		read(t, f)
	})
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	content, want := big()
	why := errors.New("the agent stops")
	for name, at := range map[string]time.Duration{"in an attempt": 5 * time.Second, "between two": 30*time.Second + time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, func(w http.ResponseWriter, r *http.Request) {
					w.Write(content[:1000])
					w.(http.Flusher).Flush()
					<-r.Context().Done()
				})
				dir := folder(t)
				ctx, cancel := context.WithTimeoutCause(t.Context(), at, why)
				defer cancel()
				start := time.Now()
				if _, err := s.Download(ctx, "abc", want, dir, nil); !errors.Is(err, why) || time.Since(start) != at {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				if m := left(t, dir); m[partName(want)] != 1000 {
					t.Errorf("left: %v", m)
				}
			})
		})
	}
}

func TestOneFileIsDownloadedByOneAtATime(t *testing.T) {
	stick := folder(t)
	content, want := big()
	if err := stick.WriteFile("abc", content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, dir := source(t, stick.Name()), folder(t)
	f, err := s.Download(t.Context(), "abc", want, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Download(t.Context(), "abc", want, dir, nil); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("twice at once: %v", err)
	}
	if read(t, f) != string(content) {
		t.Error("another content")
	}
}

func TestFullDiskIsSaidAndKeepsNothingHalf(t *testing.T) {
	disk, ok := smalldisk.Mount(t)
	if !ok {
		return
	}
	stick := folder(t)
	content, want := big()
	if err := stick.WriteFile("abc", content, 0o600); err != nil {
		t.Fatal(err)
	}
	smalldisk.Fill(t, disk, 1<<19)
	dir, err := os.OpenRoot(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := source(t, stick.Name())
	spare, err := fetch.New("file:"+stick.Name(), fetch.Options{Spare: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	if err := stick.WriteFile("half", content[:1<<18+1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spare.Download(t.Context(), "half", wanted(content[:1<<18+1]), dir, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("takes what is to spare: %v", err)
	}
	for _, there := range []int{0, 1 << 18} {
		if there > 0 {
			put(t, dir, want, content[:there])
		}
		_, err = s.Download(t.Context(), "abc", want, dir, nil)
		if e, ok := errors.AsType[*fetch.Error](err); !ok || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(e.Hint, "make room") {
			t.Errorf("%v", err)
		}
		if m := left(t, dir); len(m) != 1 { // the ballast
			t.Errorf("left: %v", m)
		}
	}
	if c := s.Counts(); c.Written != 0 {
		t.Errorf("%d bytes are written before the disk is found full", c.Written)
	}
}

func TestSweepRemovesLeftoversAndNothingElse(t *testing.T) {
	dir := folder(t)
	_, want := big()
	old := want
	old.SHA256[0]++
	put(t, dir, want, []byte("a"))
	put(t, dir, old, []byte("b"))
	for _, name := range []string{"list.db", "x.part", strings.ToUpper(partName(old)), partName(old) + "x"} {
		if err := dir.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := fetch.Sweep(dir, want.SHA256); err != nil {
		t.Fatal(err)
	}
	if m := left(t, dir); len(m) != 5 || m[partName(want)] != 1 {
		t.Errorf("left: %v", m)
	}
	if err := fetch.Sweep(dir); err != nil || len(left(t, dir)) != 4 {
		t.Errorf("%v, left: %v", err, left(t, dir))
	}
}
