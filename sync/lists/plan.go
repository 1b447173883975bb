package lists

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A plan says which files lead to the set of a manifest.
type plan struct {
	way      Way
	snapshot *whitelist.Snapshot // nil: from the set in force
	deltas   []whitelist.Delta   // in their order
}

// planFor takes the way with the fewest bytes from a set, which is 0 when there is
// none to go on from. Deltas win over a snapshot of the same size: they touch fewer
// rows on the disk.
func planFor(m whitelist.Manifest, from uint64) plan {
	whole := bySnapshot(m)
	deltas, ok := m.Path(from)
	switch p := (plan{way: ByDeltas, deltas: deltas}); {
	case from == 0 || !ok:
		return whole
	case len(deltas) == 0:
		return plan{way: ByHead}
	case p.size() > whole.size():
		return whole
	default:
		return p
	}
}

func bySnapshot(m whitelist.Manifest) plan {
	deltas, _ := m.Path(m.Snapshot.Seq) // a manifest without one is malformed
	return plan{BySnapshot, &m.Snapshot, deltas}
}

func (p plan) size() (bytes int64) {
	if p.snapshot != nil {
		bytes = p.snapshot.Size
	}
	for _, d := range p.deltas {
		bytes += d.Size
	}
	return bytes
}

func (p plan) digests() (all [][32]byte) {
	if p.snapshot != nil {
		all = append(all, p.snapshot.SHA256)
	}
	for _, d := range p.deltas {
		all = append(all, d.SHA256)
	}
	return all
}

// download brings the files of a plan into a folder. Two of them may be one: a row
// that is blocked, let in again and blocked again makes the same delta twice.
func (p plan) download(ctx context.Context, source *fetch.Source, dir *os.Root, tell func(Progress)) (files whitelist.Files, shut func() error, err error) {
	open := make(map[[32]byte]*os.File)
	shut = func() (err error) {
		for _, f := range open {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	bring := func(name string, digest [32]byte, size int64) (io.Reader, error) {
		f, known := open[digest]
		if !known {
			var err error
			if f, err = source.Download(ctx, name, fetch.Want{SHA256: digest, Size: size}, dir, func(done, total int64) {
				tell(Progress{Doing: Fetching, File: name, Done: done, Total: total})
			}); err != nil {
				return nil, err
			}
			open[digest] = f
		}
		return io.NewSectionReader(f, 0, size), nil
	}
	if s := p.snapshot; s != nil {
		if files.Snapshot, err = bring(s.Name(), s.SHA256, s.Size); err != nil {
			return files, shut, err
		}
	}
	for _, d := range p.deltas {
		f, err := bring(d.Name(), d.SHA256, d.Size)
		if err != nil {
			return files, shut, err
		}
		files.Deltas = append(files.Deltas, f)
	}
	return files, shut, nil
}
