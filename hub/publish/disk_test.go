package publish

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
)

func TestFullDiskLeavesTheListInPlace(t *testing.T) {
	dir, ok := smalldisk.Mount(t)
	if !ok {
		return
	}
	h := newHub(t, "", 1)
	folder, err := OpenFolder(dir, scope)
	h.do(err)
	t.Cleanup(func() { folder.Close() })
	h.Folder, h.files = folder, folder.Path()
	h.order(1, "")
	h.publish()
	before := h.tree()

	for n := range 200 {
		h.order(n, "another")
	}
	smalldisk.Fill(t, dir, 8<<10)
	if _, err := h.Publish(t.Context(), h.list, h.at, false); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%v, want a full disk", err)
	}
	if !maps.Equal(before, h.tree()) {
		t.Error("files changed")
	}
	if s := h.scope(); s.Seq != 1 {
		t.Errorf("list %d was committed", s.Seq)
	}
	full, err := filepath.Glob(filepath.Join(dir, "*"))
	h.do(err)
	for _, name := range full {
		if name != h.files {
			h.do(os.Remove(name))
		}
	}
	h.publish()
	var x terminal
	h.fetch(&x, h.trust())
	if len(x.rows) != 200 {
		t.Errorf("%d rows", len(x.rows))
	}
}
