package publish

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Names in the folder of a scope.
const (
	manifestFile = whitelist.HeadName
	snapshotDir  = "snapshot"
	deltasDir    = "delta"
	drafts       = ".draft-" // files in the making begin with it, and end with a number
)

// A file is what a manifest names.
type file struct {
	name string // below the folder, with slashes
	size int64
}

func snapshotFile(s whitelist.Snapshot) file { return file{s.Name(), s.Size} }
func deltaFile(d whitelist.Delta) file       { return file{d.Name(), d.Size} }

// names are the files of a manifest.
func names(m whitelist.Manifest) []file {
	all := []file{snapshotFile(m.Snapshot)}
	for _, d := range m.Deltas {
		all = append(all, deltaFile(d))
	}
	return all
}

// A Folder is what terminals of one scope see. What it holds may be read by
// everybody: a web server of another user serves it.
type Folder struct {
	root *os.Root
	dir  string
}

// OpenFolder opens the folder of a scope below that of all scopes, and makes it
// when there is none.
func OpenFolder(files, scope string) (*Folder, error) {
	dir := filepath.Join(files, filename.Of(scope))
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), syncDir(files))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the folder of a scope: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of a scope: %w", err)
	}
	return &Folder{root, dir}, nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Path is where the folder lies.
func (f *Folder) Path() string { return f.dir }

// Lock keeps others out who change what is published: publishers, and whoever else
// takes it, in this process and in others.
func (f *Folder) Lock(ctx context.Context) (unlock func() error, err error) {
	d, err := f.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", f.dir, err)
	}
	for {
		switch err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return d.Close, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("locking %s: %w", f.dir, err), d.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another publisher of %s: %w", f.dir, context.Cause(ctx)), d.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// has reports whether a file is there, whole.
func (f *Folder) has(x file) bool {
	info, err := f.root.Stat(x.name)
	return err == nil && info.Mode().IsRegular() && info.Size() == x.size
}

// write writes rows to a file of dir that their digest names. One of more than
// most bytes, 0 for any number, is not kept.
func (f *Folder) write(dir string, rows iter.Seq2[whitelist.SealedRow, error], most int64, at time.Time) (sum [32]byte, size int64, err error) {
	failed := func(err error) ([32]byte, int64, error) {
		return sum, 0, fmt.Errorf("writing %s: %w", path.Join(f.dir, dir), err)
	}
	if err := f.mkdir(dir); err != nil {
		return failed(err)
	}
	d, err := f.draft(dir)
	if err != nil {
		return failed(err)
	}
	defer func() { err = errors.Join(err, d.discard()) }()
	if sum, size, err = whitelist.WriteRows(d.File, rows); err != nil {
		return failed(err)
	}
	if most > 0 && size > most {
		return sum, size, nil
	}
	if err := d.keep(path.Join(dir, hex.EncodeToString(sum[:])), at); err != nil {
		return failed(err)
	}
	return sum, size, nil
}

// Put writes a small file in the place of the one that is there, if any, such as
// the lease of a terminal. Its name has one slash at most.
func (f *Folder) Put(name string, content []byte, at time.Time) (err error) {
	if err = f.mkdir(path.Dir(name)); err == nil {
		err = f.put(name, content, at)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path.Join(f.dir, name), err)
	}
	return nil
}

// put gives a file that replaces another a time that is a second later, at least:
// web servers make ETags of size and time, in seconds, and two manifests may well
// have one size.
func (f *Folder) put(name string, content []byte, at time.Time) (err error) {
	if before, err := f.root.Stat(name); err == nil && at.Before(before.ModTime().Add(time.Second)) {
		at = before.ModTime().Add(time.Second)
	}
	d, err := f.draft(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.discard()) }()
	if _, err := d.Write(content); err != nil {
		return err
	}
	return d.keep(name, at)
}

// mkdir makes a folder and those above it, for good.
func (f *Folder) mkdir(dir string) error {
	if dir == "." {
		return nil
	}
	if info, err := f.root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := path.Dir(dir)
	if err := f.mkdir(parent); err != nil {
		return err
	}
	if err := f.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(f.root.Chmod(dir, 0o755), f.sync(parent)) // whatever the umask is
}

// A draft is a file in the making.
type draft struct {
	*os.File
	folder *Folder
	name   string
}

func (f *Folder) draft(dir string) (draft, error) {
	for n := 0; ; n++ {
		name := path.Join(dir, fmt.Sprint(drafts, n))
		file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return draft{file, f, name}, err
		}
	}
}

// keep gives the draft its name, and the time of an instant.
func (d draft) keep(name string, at time.Time) error {
	if err := errors.Join(d.Chmod(0o644), d.folder.root.Chtimes(d.name, at, at), d.Sync()); err != nil {
		return err
	}
	if err := d.folder.root.Rename(d.name, name); err != nil {
		return err
	}
	return d.folder.sync(path.Dir(name))
}

// discard closes the draft, and removes it unless it was kept.
func (d draft) discard() error {
	err := d.folder.root.Remove(d.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

func (f *Folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Head is what is in place: a manifest, signed, with the delegation in front of
// it. The error is fs.ErrNotExist when there is none.
func (f *Folder) Head() ([]byte, error) {
	info, err := f.root.Stat(manifestFile)
	if err == nil && info.Size() > whitelist.MaxHead {
		err = fmt.Errorf("%s has %d bytes", path.Join(f.dir, manifestFile), info.Size())
	}
	if err != nil {
		return nil, err
	}
	return f.root.ReadFile(manifestFile)
}

// Placed is the manifest that is in place, unverified: the folder is the hub's
// own. The error is fs.ErrNotExist when there is none.
func (f *Folder) Placed() (m whitelist.Manifest, delegation, payload []byte, err error) {
	head, err := f.Head()
	if err != nil {
		return m, nil, nil, err
	}
	delegation, signed, err := roles.Cut(head)
	if err == nil {
		payload, err = sign1.UnverifiedPayload(signed)
	}
	if err == nil {
		m, err = whitelist.PeekManifest(payload)
	}
	if err != nil {
		return m, nil, nil, fmt.Errorf("reading %s: %w", path.Join(f.dir, manifestFile), err)
	}
	return m, delegation, payload, nil
}

// place puts a head in place and removes files that no manifest has named for
// longer than keep.
func (f *Folder) place(head []byte, m whitelist.Manifest, at time.Time, keep time.Duration) error {
	named := make(map[string]bool)
	for _, x := range names(m) {
		named[x.name] = true
	}
	// From now on the files of the manifest before have their time.
	if before, _, _, err := f.Placed(); err == nil {
		for _, x := range names(before) {
			if named[x.name] {
				continue
			}
			if err := f.root.Chtimes(x.name, at, at); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("placing the list: %w", err)
			}
		}
	}
	if err := f.put(manifestFile, head, at); err != nil {
		return fmt.Errorf("placing the list: %w", err)
	}
	if err := f.sweep(named, at.Add(-keep)); err != nil {
		return fmt.Errorf("removing old files: %w", err)
	}
	return nil
}

// ours are the files that sweep may remove, and dead those of a publisher that was
// killed: whoever makes files holds the lock, and so does who sweeps.
var (
	ours = regexp.MustCompile(`^(?:snapshot|delta/[0-9]+-[0-9]+)/[0-9a-f]{64}$`)
	dead = regexp.MustCompile(`^(?:|snapshot/|delta/[0-9]+-[0-9]+/)\.draft-[0-9]+$`)
)

// sweep removes files that are neither named nor younger than an instant.
func (f *Folder) sweep(named map[string]bool, since time.Time) error {
	var folders []string
	err := fs.WalkDir(f.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			if strings.HasPrefix(name, deltasDir+"/") {
				folders = append(folders, name)
			}
			if name != "." && name != snapshotDir && name != deltasDir && !strings.HasPrefix(name, deltasDir+"/") {
				return fs.SkipDir // of terminals, and of others
			}
			return nil
		case dead.MatchString(name):
			return f.root.Remove(name)
		case named[name] || !ours.MatchString(name):
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.ModTime().After(since) {
			return nil
		}
		return f.root.Remove(name)
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, dir := range folders {
		if e := f.root.Remove(dir); e != nil && !errors.Is(e, unix.ENOTEMPTY) && !errors.Is(e, unix.EEXIST) {
			err = errors.Join(err, e)
		}
	}
	return err
}
