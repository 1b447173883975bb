package hub

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/internal/nginx"
)

// Debian's nginx, configured as docs/hub.md has it, serves what the hub itself serves,
// and nothing else.
func TestSampleOfThePageServesAsTheHubDoes(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "hub.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("rows"))
	digest := hex.EncodeToString(sum[:])
	for _, name := range []string{
		"arena/manifest", "arena/snapshot/" + digest, "arena/delta/1-2/" + digest, "arena/lease/gate-1", "arena/lease/~0123456789abcdef",
		"arena/commands/gate-1", "arena/lease/.gate-1.draft", "arena/.lock", "arena/lock", "arena/snapshot/.draft", "arena/delta/1-x/" + digest,
		".hidden/manifest", "manifest", "arena/deeper/manifest", "arena/lease/deeper/gate-1", "hub.toml",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("rows"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	own := httptest.NewServer(NewHandler(root, nil))
	defer own.Close()
	web := nginx.Sample(t, string(page), dir)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: web.Roots}, DisableCompression: true}}
	defer client.CloseIdleConnections()

	get := func(url, ifNoneMatch string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip")
		if ifNoneMatch != "" {
			r.Header.Set("If-None-Match", ifNoneMatch)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	served := 0
	for _, path := range []string{
		"arena/manifest", "arena/snapshot/" + digest, "arena/delta/1-2/" + digest, "arena/lease/gate-1", "arena/lease/~0123456789abcdef", "arena/commands/gate-1",
		"", "arena", "arena/", "arena/snapshot/", "arena/lease/", "arena/lease/gate-2", "arena/lease/.gate-1.draft", "arena/.lock", "arena/lock",
		"arena/snapshot/.draft", "arena/delta/1-x/" + digest, ".hidden/manifest", "manifest", "arena/deeper/manifest", "arena/lease/deeper/gate-1",
		"hub.toml", "arena/%2e%2e/hub.toml", "arena/lease/%2e%2e/manifest/", "arena/manifest/",
	} {
		a, b := get(own.URL+"/"+path, ""), get(web.URL+"/"+path, "")
		if a.StatusCode != b.StatusCode {
			t.Errorf("%q: the hub answers %d, nginx %d", path, a.StatusCode, b.StatusCode)
			continue
		}
		if a.StatusCode != http.StatusOK {
			continue
		}
		served++
		for _, name := range []string{"Cache-Control", "X-Content-Type-Options", "Content-Type", "Content-Length", "Content-Encoding", "Accept-Ranges"} {
			if a.Header.Get(name) != b.Header.Get(name) {
				t.Errorf("%q: %s is %q of the hub's, %q of nginx", path, name, a.Header.Get(name), b.Header.Get(name))
			}
		}
		tag := b.Header.Get("ETag")
		if tag == "" || strings.HasPrefix(tag, "W/") {
			t.Errorf("%q: ETag %q", path, tag)
		} else if again := get(web.URL+"/"+path, tag); again.StatusCode != http.StatusNotModified {
			t.Errorf("%q, asked for again: %d", path, again.StatusCode)
		}
	}
	if served != 6 {
		t.Errorf("%d files served, want 6", served)
	}
}
