package procfs

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOwnCostIsCounted(t *testing.T) {
	pid := os.Getpid()
	rss, err := PeakRSS(pid)
	if err != nil || rss < 1<<20 || rss > 1<<40 {
		t.Errorf("%d bytes of memory, %v", rss, err)
	}
	before, err := CPUTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	for took == 0 { // until the kernel's clock has ticked for us
		now, err := CPUTime(pid)
		if err != nil {
			t.Fatal(err)
		}
		took = now - before
	}
	if took < 0 || took > time.Minute {
		t.Errorf("%v of processor time", took)
	}
	wrote, err := Written(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(t.TempDir(), "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if now, err := Written(pid); err != nil || now < wrote { // a disk in memory counts nothing
		t.Errorf("%d bytes after %d, %v", now, wrote, err)
	}
}

func TestProcessThatIsNotThereIsAnError(t *testing.T) {
	const none = 1 << 30 // above the greatest number of a process, proc_sys_kernel(5)
	_, rss := PeakRSS(none)
	_, written := Written(none)
	_, cpu := CPUTime(none)
	for _, err := range []error{rss, written, cpu} {
		if err == nil {
			t.Error("a process that is not there has cost something")
		}
	}
}
