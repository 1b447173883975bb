package lists

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Preview is what a source has, of which nothing is in force.
type Preview struct {
	Manifest whitelist.Manifest
	Same     bool // it is the list in force

	// Snapshot, unless it is nil, and Deltas behind it lead to the rows; without
	// it the deltas begin with the rows in force.
	Snapshot *whitelist.RowsReader
	Deltas   []*whitelist.RowsReader

	// File is a whole list, where the source is one; nothing else is there then.
	File io.Reader
}

// Look brings what a source has now into a folder and shows it. It takes no lock
// of a round, and leaves the list in force and sync.json as they are. Of cfg it
// needs Source, Store, Now and Tell.
func Look(ctx context.Context, cfg Config, dir *os.Root, show func(Preview) error) (err error) {
	cfg.preset()
	file, err := cfg.Source.Whole(whitelist.MaxFile)
	if err == nil {
		return errors.Join(show(Preview{File: file}), file.Close())
	}
	if !errors.Is(err, fetch.ErrFolder) {
		return err
	}
	answer, err := cfg.Source.Get(ctx, whitelist.HeadName, whitelist.MaxHead)
	if err != nil {
		return err
	}
	h, from, same, err := cfg.Store.Examine(ctx, answer.Body, cfg.Now())
	if err != nil {
		return err
	}
	v := Preview{Manifest: h.Manifest, Same: same}
	if same {
		return show(v)
	}
	p := planFor(h.Manifest, from)
	files, shut, err := p.download(ctx, cfg.Source, dir, cfg.Tell)
	if err != nil && p.way == ByDeltas && spoilt(err) && ctx.Err() == nil {
		err = shut()
		if err == nil {
			p = bySnapshot(h.Manifest)
			files, shut, err = p.download(ctx, cfg.Source, dir, cfg.Tell)
		}
	}
	defer func() { err = errors.Join(err, shut()) }()
	if err != nil {
		return err
	}
	if p.snapshot != nil {
		v.Snapshot = p.snapshot.Reader(files.Snapshot)
	}
	for i, d := range p.deltas {
		v.Deltas = append(v.Deltas, d.Reader(files.Deltas[i]))
	}
	return show(v)
}
