package fetch_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/sync/fetch"
)

func TestSourceIsHTTPSOrAFile(t *testing.T) {
	for _, s := range []string{
		"https://hub.example", "https://hub.example:8443/lists/demo-hall", "http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x",
		"file:/media/usb", "file:///media/usb", "file:lists",
	} {
		if _, err := fetch.New(s, fetch.Options{}); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"":                          "want https:",
		"/media/usb":                "want https:",
		"file:":                     "want https:",
		"file://":                   "want https:",
		"ftp://hub.example/x":       "want https:",
		"https://u:hunter2@hub:x/":  "want https:",
		"ftp://u:hunter2@hub/":      "want https:",
		"https:///x":                "want https:",
		"http://hub.example/x":      "use https",
		"http://127.0.0.1.evil/x":   "use https",
		"http://localhost.evil/x":   "use https",
		"https://u:hunter2@hub/x":   "with neither user",
		"https://hub.example/x?a=b": "with neither user",
		"https://hub.example/x#y":   "with neither user",
	} {
		_, err := fetch.New(s, fetch.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestNameLeadsNowhereElse(t *testing.T) {
	web, err := fetch.New("https://hub.example/lists", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a\x00b", "a\nb", `a\b`, "a%2e%2e"} {
		if _, err := web.Get(t.Context(), name, 100); err == nil || !strings.Contains(err.Error(), "no name of a file") {
			t.Errorf("get %q: %v", name, err)
		}
		if _, err := web.Download(t.Context(), name, fetch.Want{}, folder(t), nil); err == nil || !strings.Contains(err.Error(), "no name of a file") {
			t.Errorf("download %q: %v", name, err)
		}
	}
}

// By whatever a server tells versions apart, and by nothing: a file that was
// kept comes again when it is another.
func TestKeptFileIsBroughtAgainWhenItChanges(t *testing.T) {
	for _, header := range []string{"ETag", "Last-Modified", ""} {
		t.Run(header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tagOf := func(n int) string {
					if header == "Last-Modified" {
						return time.Now().Add(time.Duration(n-9) * time.Second).UTC().Format(http.TimeFormat)
					}
					return fmt.Sprintf("%q", fmt.Sprint(n))
				}
				content, tag, asked := "one", tagOf(1), ""
				s := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/lists/demo/manifest" || r.Header.Get("Accept-Encoding") != "identity" || r.UserAgent() != "gate-agent" {
						t.Errorf("%v %v", r.URL, r.Header)
					}
					asked = r.Header.Get("If-None-Match") + r.Header.Get("If-Modified-Since")
					if header != "" {
						w.Header().Set(header, tag)
						if asked == tag {
							w.WriteHeader(http.StatusNotModified)
							return
						}
					}
					fmt.Fprint(w, content)
				})
				get := func(want string) fetch.Answer {
					t.Helper()
					a, err := s.Get(t.Context(), "manifest", 100)
					if err != nil || string(a.Body) != want {
						t.Fatalf("%q, %v, want %q", a.Body, err, want)
					}
					return a
				}
				get("one")
				get("one").Keep() // was not kept yet
				if _, err := s.Get(t.Context(), "manifest", 100); !errors.Is(err, fetch.ErrUnchanged) {
					t.Errorf("kept, and brought again: %v", err)
				}
				if header != "" && asked != tag {
					t.Errorf("asked with %q, want %q", asked, tag)
				}
				tag = tagOf(2) // published again as it was
				for range 2 {
					if _, err := s.Get(t.Context(), "manifest", 100); !errors.Is(err, fetch.ErrUnchanged) {
						t.Errorf("the same bytes under another tag: %v", err)
					}
				}
				if header != "" && asked != tag {
					t.Errorf("asked with %q, want %q", asked, tag)
				}
				content, tag = "two", tagOf(3)
				get("two")
			})
		})
	}
}

// A file that was changed in this second may be changed once more in it.
func TestFileOfThisSecondIsNotToldFromTheNextByItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content, at := "one", time.Now()
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "manifest", at, strings.NewReader(content))
		})
		for _, content = range []string{"one", "two", "three"} {
			a, err := s.Get(t.Context(), "manifest", 100)
			if err != nil || string(a.Body) != content {
				t.Fatalf("%q, %v, want %q", a.Body, err, content)
			}
			a.Keep()
			time.Sleep(300 * time.Millisecond)
		}
	})
}

func TestHostileAnswersToAPoll(t *testing.T) {
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	answer := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			if code == http.StatusOK {
				fmt.Fprint(w, "\x84")
			}
		}
	}
	body := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			fmt.Fprint(w, s)
		}
	}
	for name, test := range map[string]struct {
		server http.HandlerFunc
		want   string
		hint   string
	}{
		"gigantic, as it says": {answer(200, "Content-Length", "99999999999"), "99999999999 bytes, at most 100", ""},
		"gigantic, unsaid": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}, "more than 100 bytes", ""},
		"truncated": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "50")
			fmt.Fprint(w, "\x84")
		}, "unexpected EOF", ""},
		"one byte a second": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				fmt.Fprint(w, "\x84")
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		}, "not whole after 30s", ""},
		"silent":                 {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "not whole after 30s", ""},
		"endless header":         {answer(200, "X-Pad", strings.Repeat("x", 1<<20)), "exceeded", ""},
		"compressed":             {answer(200, "Content-Encoding", "gzip"), "gzip", "compression off"},
		"HTML, as it says":       {answer(200, "Content-Type", "text/html; charset=utf-8"), "web page", "login page"},
		"HTML, unsaid":           {body("\xef\xbb\xbf\r\n <html>"), "web page", "login page"},
		"login required":         {answer(511), "web page", "login page"},
		"redirected in a circle": {redirect("/again"), "more than 3 redirects", "source"},
		"redirected to http":     {redirect("http://login.example/?mac=11:22"), "from https to http://login.example", "login page"},
		"redirected to loopback": {redirect("http://127.0.0.1:631/x"), "from https to http://127.0.0.1:631", ""},
		"redirected to a file":   {redirect("file:///etc/passwd"), "from https to file://", ""},
		"unchanged, unasked":     {answer(304), "304", ""},
		"part, unasked":          {answer(206, "Content-Range", "bytes 0-0/1"), "206", ""},
		"forbidden":              {answer(403), "403 Forbidden", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, test.server)
				start := time.Now()
				_, err := s.Get(t.Context(), "manifest", 100)
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "manifest from example.com: ") {
					t.Fatalf("%v, want %q", err, test.want)
				}
				if strings.Contains(err.Error(), "mac") {
					t.Errorf("tells who asked: %v", err)
				}
				if e, ok := errors.AsType[*fetch.Error](err); test.hint != "" && (!ok || !strings.Contains(e.Hint, test.hint)) {
					t.Errorf("%v has no hint with %q", err, test.hint)
				}
				if took := time.Since(start); took > 30*time.Second {
					t.Errorf("holds the agent for %v", took)
				}
				if got := s.Counts().Received; got > 101 {
					t.Errorf("%d bytes read", got)
				}
			})
		})
	}
}

func TestServerSaysWhenToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		code, after := 0, ""
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if after != "" {
				w.Header().Set("Retry-After", after)
			}
			w.WriteHeader(code)
		})
		for _, test := range []struct {
			code  int
			after string
			want  time.Duration
			gone  bool
		}{
			{503, "120", 2 * time.Minute, false},
			{429, "1", time.Second, false},
			{503, time.Now().Add(5 * time.Minute).UTC().Format(http.TimeFormat), 5 * time.Minute, false},
			{503, time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat), 0, false},
			{503, "999999999999999999999999", time.Hour, false},
			{503, "-5", 0, false},
			{503, "soon", 0, false},
			{503, "", 0, false},
			{500, "120", 0, false},
			{404, "120", 0, true},
			{410, "", 0, true},
		} {
			code, after = test.code, test.after
			_, err := s.Get(t.Context(), "manifest", 100)
			e, ok := errors.AsType[*fetch.StatusError](err)
			if !ok || e.Code != test.code || e.RetryAfter != test.want || errors.Is(err, fs.ErrNotExist) != test.gone {
				t.Errorf("%d, Retry-After %q: %+v", test.code, test.after, err)
			}
		}
	})
}

func TestRedirectToAnotherServerIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "example.com" {
				http.Redirect(w, r, "https://cdn.example.com"+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			fmt.Fprint(w, r.Host)
		})
		a, err := s.Get(t.Context(), "manifest", 100)
		if err != nil || string(a.Body) != "cdn.example.com" {
			t.Errorf("%q, %v", a.Body, err)
		}
	})
}
