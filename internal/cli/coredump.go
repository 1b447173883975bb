package cli

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// noCoreDumps keeps the memory of this process, which may hold keys, from being
// written to a disk when it crashes, and from being read by other processes of its
// user (prctl(2), PR_SET_DUMPABLE). The kernel asks neither the limit nor the
// pattern of core dumps for a process that is not dumpable; the limit is what an
// inspector sees.
func noCoreDumps() error {
	err := errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	if err != nil {
		return fmt.Errorf("disabling core dumps: %w", err)
	}
	return nil
}
