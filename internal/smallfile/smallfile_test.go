package smallfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/internal/smallfile"
)

func TestWhatIsNoSmallFileOfOnesOwnIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe") // nobody ever writes to it
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path      string
		mode      fs.FileMode
		most      int64
		forbidden fs.FileMode
		want      string // of the error, "" when there is none
	}{
		{file, 0o600, 5, 0o077, ""},
		{file, 0o644, 5, 0, ""},
		{file, 0o640, 5, 0o027, ""},
		{file, 0o644, 5, 0o077, "mode 0644"},
		{file, 0o620, 5, 0o027, "mode 0620"},
		{file, 0o600, 4, 0, "has 5 bytes, at most 4"},
		{pipe, 0o600, 5, 0, "not a regular file"},
		{dir, 0o700, 5, 0, "not a regular file"},
		{filepath.Join(dir, "none"), 0, 5, 0, "no such file"},
	} {
		if c.mode != 0 {
			if err := os.Chmod(c.path, c.mode); err != nil {
				t.Fatal(err)
			}
		}
		b, err := smallfile.Read(c.path, c.most, c.forbidden)
		switch {
		case c.want == "" && (err != nil || string(b) != "12345"):
			t.Errorf("%+v: %q, %v", c, b, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path)):
			t.Errorf("%+v: %q, %v", c, b, err)
		}
	}
}
