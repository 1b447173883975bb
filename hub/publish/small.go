package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Get reads a small file that Put wrote. The error is fs.ErrNotExist when there is none.
func (f *Folder) Get(name string, most int64) ([]byte, error) {
	info, err := f.root.Stat(name)
	if err == nil && info.Size() > most {
		err = fmt.Errorf("%s has %d bytes, at most %d", path.Join(f.dir, name), info.Size(), most)
	}
	if err != nil {
		return nil, err
	}
	return f.root.ReadFile(name)
}

// Remove removes a small file, if it is there.
func (f *Folder) Remove(name string) error {
	err := f.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.sync(path.Dir(name))
	}
	return err
}
