package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInitThatFailsLeavesNothing(t *testing.T) {
	for name, x := range map[string]struct {
		o    initOptions
		says string
	}{
		"a name over two lines":        {initOptions{name: "A\nb", scope: "s"}, "name"},
		"a name beyond a certificate":  {initOptions{name: strings.Repeat("A", 65), scope: "s"}, "name"},
		"a host that is a path":        {initOptions{name: "A", scope: "s", hosts: []string{"hub/.."}}, "serve.hosts"},
		"a host with a port":           {initOptions{name: "A", scope: "s", hosts: []string{"hub.example.jp:8443"}}, "without a port"},
		"no host":                      {initOptions{name: "A", scope: "s", hosts: []string{""}}, "serve.hosts"},
		"an address without port":      {initOptions{name: "A", scope: "s", listen: "h"}, "serve.listen"},
		"a certificate that is absent": {initOptions{name: "A", scope: "s", certificate: "/nowhere.pem", key: "/nowhere.key"}, "nowhere.pem"},
		"a scope over two lines":       {initOptions{name: "A", scope: "s\ns"}, "scope"},
		"a database of another kind":   {initOptions{name: "A", scope: "s", db: "mysql://u:geheim@h/x"}, "postgres://"},
		"a database that is not there": {initOptions{name: "A", scope: "s", db: "postgres://u:geheim@127.0.0.1:1/x"}, "refused"},
		"a URL over two lines":         {initOptions{name: "A", scope: "s", db: "postgres://u:geheim@127.0.0.1:1/x\n"}, "characters"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "hub")
			if x.o.hosts == nil {
				x.o.hosts = []string{"127.0.0.1"}
			}
			if x.o.listen == "" {
				x.o.listen = ":8443"
			}
			x.o.hierarchy = "test"
			_, err := x.o.init(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), x.says) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%v, want %q and no password in it", err, x.says)
			}
			entries, err := os.ReadDir(dir)
			if err == nil && len(entries) > 0 || err != nil && !os.IsNotExist(err) {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}
