// Package rescue saves what a terminal has recorded for its operator, before the
// terminal is wiped: a tar archive (POSIX.1-2001) of the journal's files, encrypted
// with age (C2SP age-encryption.org/v1) to the operator's X25519 recipient. The
// program age opens it as well as this package.
//
// It promises that nobody without the operator's identity reads what was written, and
// that a file which was cut or changed does not open to its end. It does not say who
// wrote it: the journal's chain and checkpoints do.
package rescue

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"
)

// About says what a rescue file is of. It is encrypted with the rest.
type About struct {
	Terminal string    `json:"terminal"`
	Scope    string    `json:"scope"`
	Command  uint64    `json:"command"` // number of the wipe
	At       time.Time `json:"at"`
}

// aboutFile is the first file of the archive.
const aboutFile = "rescue.json"

// Files are those that an archive may hold beside.
func Files() []string { return []string{"journal.db", "journal.db-wal"} }

// NewIdentity makes a key pair for the operator: identity is secret, recipient goes
// into a wipe.
func NewIdentity() (identity, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("making a rescue key: %w", err)
	}
	return id.String(), id.Recipient().String(), nil
}

// CheckRecipient says whether a text is one X25519 recipient of age, to which one can
// encrypt: to a point of small order one cannot (RFC 7748 §6.1), and a terminal that is to
// be wiped for such a one would never be.
func CheckRecipient(text string) error {
	to, err := age.ParseX25519Recipient(text)
	if err == nil {
		_, err = age.Encrypt(io.Discard, to)
	}
	if err != nil {
		return errors.New("not an X25519 recipient of age (age1…)")
	}
	return nil
}

// Write encrypts the files of dir that are there, of those that Files names. Nobody
// may write to them meanwhile.
func Write(w io.Writer, recipient string, about About, dir string) error {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return fmt.Errorf("writing a rescue file: %w", CheckRecipient(recipient))
	}
	sealed, err := age.Encrypt(w, to)
	if err != nil {
		return fmt.Errorf("writing a rescue file: %w", err)
	}
	archive := tar.NewWriter(sealed)
	err = addAbout(archive, about)
	for _, name := range Files() {
		if err == nil {
			err = addFile(archive, about, dir, name)
		}
	}
	if err = errors.Join(err, archive.Close(), sealed.Close()); err != nil {
		return fmt.Errorf("writing a rescue file: %w", err)
	}
	return nil
}

func addAbout(archive *tar.Writer, about About) error {
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(header(aboutFile, int64(len(text)), about)); err != nil {
		return err
	}
	_, err = archive.Write(text)
	return err
}

func addFile(archive *tar.Writer, about About, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(header(name, info.Size(), about)); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

func header(name string, size int64, about About) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: about.At, Format: tar.FormatPAX}
}

// Open decrypts a rescue file with the operator's identity (lines of
// AGE-SECRET-KEY-1…) and writes what it holds into the folder, in which none of it may
// be there yet. What it has written when it fails is not to be relied on.
func Open(r io.Reader, identity io.Reader, folder *os.Root) (about About, err error) {
	failed := func(err error) (About, error) { return About{}, fmt.Errorf("opening a rescue file: %w", err) }
	ids, err := age.ParseIdentities(identity)
	if err != nil {
		return failed(errors.New("no identity of age (AGE-SECRET-KEY-1…) was given"))
	}
	plain, err := age.Decrypt(r, ids...)
	if err != nil {
		return failed(err)
	}
	archive := tar.NewReader(plain)
	h, err := archive.Next()
	if err != nil || h.Name != aboutFile {
		return failed(errors.Join(errors.New("it does not begin as one"), err))
	}
	if err := json.NewDecoder(io.LimitReader(archive, 4<<10)).Decode(&about); err != nil {
		return failed(err)
	}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && (!slices.Contains(Files(), h.Name) || h.Typeflag != tar.TypeReg) {
			err = fmt.Errorf("it holds %q, which no terminal puts there", h.Name)
		}
		if err == nil {
			err = extract(folder, h.Name, archive)
		}
		if err != nil {
			return failed(err)
		}
	}
	// To the end: age has authenticated every chunk only then.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return failed(err)
	}
	return about, nil
}

func extract(folder *os.Root, name string, content io.Reader) error {
	f, err := folder.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}
