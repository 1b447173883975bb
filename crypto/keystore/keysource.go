package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxKeySource = 4 << 10 // bytes

// readKeySource reads the secret that seals a file: 1 to 4096 bytes.
func readKeySource(path string) ([]byte, error) {
	return readSecret("key source", path, maxKeySource)
}

// readSecret reads a secret from a file that is closed to others: up to most
// bytes, of which one trailing newline does not count. "credential:NAME" is the
// file of that name in the folder that systemd gives a service (systemd.exec(5),
// "Credentials"); "file:" before a path is RFC 7512's way to write one.
func readSecret(what, path string, most int64) ([]byte, error) {
	file, err := secretPath(path)
	if err != nil {
		return nil, err
	}
	secret, err := readPrivate(what, file, most+1, ErrKeySource)
	if err != nil {
		return nil, err
	}
	secret = bytes.TrimSuffix(secret, []byte("\n"))
	switch {
	case len(secret) == 0:
		return nil, fmt.Errorf("%w: %s is empty", ErrKeySource, path)
	case int64(len(secret)) > most:
		clear(secret)
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrKeySource, path, most)
	}
	return secret, nil
}

// secretPath is the file that a key-source or pin-source names.
func secretPath(source string) (string, error) {
	if name, ok := strings.CutPrefix(source, "credential:"); ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		switch {
		case dir == "":
			return "", fmt.Errorf("%w: %s: CREDENTIALS_DIRECTORY is not set: it names the credentials of a systemd service (LoadCredential=, LoadCredentialEncrypted=)", ErrKeySource, source)
		case name == "" || name != filepath.Base(name):
			return "", fmt.Errorf("%w: %s: want the name of a credential, without a folder", ErrKeySource, source)
		}
		return filepath.Join(dir, name), nil
	}
	return strings.TrimPrefix(source, "file:"), nil
}

// readPrivate reads a file of at most that many bytes. Its mode
// must have none of the bits of forbidden. What is wrong with the file itself wraps refused.
func readPrivate(what, path string, most int64, refused error) (content []byte, err error) {
	// O_NONBLOCK: a FIFO in the place of the file must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", what, err)
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file", refused, path)
	case fi.Mode().Perm()&forbidden(path) != 0:
		return nil, fmt.Errorf("%w: %s can be read by others (mode %04o): run chmod 0600 %s", refused, path, fi.Mode().Perm(), path)
	}
	content, err = io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%w: %s is larger than %d bytes", refused, path, most)
	}
	if err != nil {
		clear(content)
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return content, nil
}

// forbidden are the bits that the mode of a secret file must not have: those of
// group and world. systemd opens a credential to the service's user by an access
// control list, whose mask shows as group bits (0440) although no group may read;
// the directory that it names in CREDENTIALS_DIRECTORY is closed to all others
// (systemd.exec(5), "Credentials").
func forbidden(path string) os.FileMode {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		return 0o027
	}
	return 0o077
}

// onMemoryFS reports whether a file lies on a file system without a disk.
func onMemoryFS(path string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	switch uint32(fs.Type) { // 32 bits, signed or not, by architecture
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return true, nil
	}
	return false, nil
}
