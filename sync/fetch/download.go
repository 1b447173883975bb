package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	attempts   = 5                // in one call of Download
	leastBytes = 64 << 10         // so much in each
	leastTime  = 30 * time.Second // of these, or the attempt ends
)

// What a source has under a name is not the file that was wanted: waiting does
// not help, only whoever fills the source can.
var (
	// ErrDigest says that a file of the right size is another one.
	ErrDigest = errors.New("wrong SHA-256")
	// ErrSize says that a file has another size.
	ErrSize = errors.New("wrong size")
)

func sizeError(has, want int64) error { return fmt.Errorf("%w: %d bytes, want %d", ErrSize, has, want) }

// Want is a big file, as a verified small one names it.
type Want struct {
	SHA256 [sha256.Size]byte
	Size   int64 // bytes; the caller decides how many are too many
}

// Download brings a big file into dir and hands it out open, at its beginning,
// once its size and SHA-256 are right. It reads at most want.Size bytes of the
// file and keeps none of them in memory.
//
// What came is kept in dir under the file's digest, and the next call goes on
// from there, also after a restart; see [Sweep]. A call makes a few attempts;
// it waits between them, and leaves longer waits to its caller: see
// [StatusError]. A file that is wrong, or whose rest does not fit on the disk,
// is removed.
//
// progress, unless nil, is told how many bytes are there after each piece,
// which is at most 64 KiB.
func (s *Source) Download(ctx context.Context, name string, want Want, dir *os.Root, progress func(done, total int64)) (*os.File, error) {
	f, err := s.download(ctx, name, want, dir, progress)
	if err != nil {
		return nil, fmt.Errorf("%s from %s: %w", name, s.origin, explain(err))
	}
	return f, nil
}

func (s *Source) download(ctx context.Context, name string, want Want, dir *os.Root, progress func(done, total int64)) (_ *os.File, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if want.Size < 0 {
		return nil, fmt.Errorf("a size of %d bytes", want.Size)
	}
	p, err := openPart(dir, want, s.spare, &s.written)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.leave(err))
		}
	}()
	left := attempts
	for {
		found := p.size // by a call before this one
		if err := s.complete(ctx, name, want, p, &left, progress); err != nil {
			return nil, err
		}
		if err = p.verify(ctx); !errors.Is(err, ErrDigest) || found == 0 {
			break
		}
		// The power may have gone before all that came was on the disk.
		if err := p.restart(); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	return p.file, nil
}

// complete makes attempts until all bytes are there.
func (s *Source) complete(ctx context.Context, name string, want Want, p *part, left *int, progress func(done, total int64)) error {
	backoff := Backoff{Base: time.Second, Cap: 15 * time.Second}
	for p.size < want.Size {
		err := s.attempt(ctx, name, want, p, progress)
		*left--
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case *left <= 0 || !is[brokenError](err):
			return err
		}
		wait := time.NewTimer(backoff.Next(attempts-1-*left, s.rand))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
	}
	return nil
}

// attempt brings what is missing, over one connection.
func (s *Source) attempt(ctx context.Context, name string, want Want, p *part, progress func(done, total int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := brokenError{fmt.Errorf("less than %d KiB in %v", leastBytes>>10, leastTime)}
	tooSlow := time.AfterFunc(leastTime, func() { cancel(slow) })
	defer tooSlow.Stop()

	body, skip, err := s.origin.from(ctx, name, p.size, want.Size)
	if err != nil {
		return err
	}
	defer body.Close() // only read
	piece := make([]byte, leastBytes)
	for since := 0; p.size < want.Size; {
		n, err := body.Read(piece[:min(int64(len(piece)), skip+want.Size-p.size)])
		s.received.Add(int64(n))
		if since += n; since >= leastBytes {
			since = 0
			tooSlow.Reset(leastTime)
		}
		b := piece[:n]
		if p.size == 0 && skip == 0 && looksLikePage(b) {
			return errPage()
		}
		skipped := min(skip, int64(n))
		skip -= skipped
		if err := p.write(b[skipped:]); err != nil {
			return err
		}
		if progress != nil && skip == 0 {
			progress(p.size, want.Size)
		}
		switch {
		case p.size == want.Size:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return brokenError{io.ErrUnexpectedEOF}
		case err != nil:
			return brokenError{plain(err)}
		}
	}
	return nil
}

// Sweep removes from dir what downloads have left there, but for the files
// with these digests.
func Sweep(dir *os.Root, keep ...[sha256.Size]byte) error {
	stay := map[string]bool{}
	for _, digest := range keep {
		stay[partName(digest)] = true
	}
	folder, err := dir.Open(".")
	if err != nil {
		return err
	}
	names, err := folder.Readdirnames(-1)
	err = errors.Join(err, folder.Close())
	for _, name := range names {
		if isPart(name) && !stay[name] {
			err = errors.Join(err, dir.Remove(name))
		}
	}
	return err
}

const suffix = ".part"

func partName(digest [sha256.Size]byte) string { return hex.EncodeToString(digest[:]) + suffix }

func isPart(name string) bool {
	b, err := hex.DecodeString(name[:max(0, len(name)-len(suffix))])
	return err == nil && len(b) == sha256.Size && name == partName([sha256.Size]byte(b))
}
