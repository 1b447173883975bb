// Package procfs reads what a process has cost, as the kernel counts it (proc(5)): for
// benchmarks.
package procfs

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// PeakRSS is the most memory that a process has had resident (VmHWM), in bytes.
func PeakRSS(pid int) (int64, error) {
	kib, err := figure(pid, "status", "VmHWM:")
	return kib << 10, err
}

// Written is how many bytes a process has had written to disks.
func Written(pid int) (int64, error) { return figure(pid, "io", "write_bytes:") }

// figure reads the number behind a name at the beginning of a line.
func figure(pid int, file, name string) (n int64, err error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	_, behind, ok := strings.Cut("\n"+string(text), "\n"+name)
	if !ok {
		return 0, fmt.Errorf("no %s in %s", name, path)
	}
	if _, err := fmt.Sscan(behind, &n); err != nil {
		return 0, fmt.Errorf("%s in %s: %w", name, path, err)
	}
	return n, nil
}

// CPUTime is the processor time that a process has taken, in its own code and in the
// kernel's.
func CPUTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// Behind the name, which ends with the last ")", utime and stime are the 12th and
	// 13th field, in hundredths of a second (USER_HZ).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%d fields in %s", len(fields), path)
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("times in %s: %w", path, err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
