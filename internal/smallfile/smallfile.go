// Package smallfile reads the small files that a person names: a configuration, a
// roster, a passcode. What lies in their place, a pipe or a file of gigabytes, does
// not hang the program or fill its memory, and what others may not see or change is
// refused when they can.
package smallfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Read returns the content of a regular file of at most most bytes whose mode has
// none of the bits of forbidden, such as 0o077 for a secret. Its errors name the
// file.
func Read(path string, most int64, forbidden fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not hang
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&forbidden != 0:
		return nil, fmt.Errorf("%s can be read or written by others (mode %04o): run chmod 0600 %[1]s", path, info.Mode().Perm())
	case info.Size() > most:
		return nil, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}
