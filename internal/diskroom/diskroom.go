// Package diskroom keeps big files, which can wait, from filling a disk on which
// small ones cannot: a journal that cannot be written shuts a gate.
package diskroom

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	most = 16 << 20 // bytes
	part = 16       // of a small disk, one of so many
)

// Spare is how many bytes writers of big files leave free on the disk of a folder:
// 16 MiB, or a sixteenth of a small disk.
func Spare(dir string) (int64, error) {
	spare, _, err := read(dir)
	return int64(spare), err
}

// Check says whether that much is free. The error is unix.ENOSPC when it is not.
func Check(dir string) error {
	spare, free, err := read(dir)
	if err == nil && free < spare {
		err = unix.ENOSPC
	}
	if err != nil {
		return fmt.Errorf("leaving %d bytes free in %s: %w", spare, dir, err)
	}
	return nil
}

func read(dir string) (spare, free uint64, err error) {
	var disk unix.Statfs_t
	err = unix.EINTR
	for err == unix.EINTR {
		err = unix.Statfs(dir, &disk)
	}
	block := uint64(disk.Bsize)
	return min(most, uint64(disk.Blocks)*block/part), uint64(disk.Bavail) * block, err
}
