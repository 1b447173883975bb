package world

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Published is a folder of lists as a hub publishes them, with a delta from each
// set to the next one. It is for tests: it holds all rows in memory, and a hostile
// one is made by changing what it would sign.
type Published struct {
	Dir string

	// Key signs, the world's list key when nil; Delegation justifies it.
	Key        crypto.Signer
	Delegation []byte

	world  *World
	epoch  uint64
	rows   map[cardid.CardID][]byte // of the newest set
	set    whitelist.SetID
	shot   whitelist.Snapshot
	deltas []whitelist.Delta
}

// Publish returns an empty folder of lists of the world.
func (w *World) Publish(dir string) *Published { return &Published{Dir: dir, world: w} }

// List publishes rows under the world's manifest, whose Seq, or Epoch, is to be a
// new one. change, unless nil, changes the manifest before it is signed. A new
// epoch begins with a snapshot, and so do rows of which whole is said.
func (p *Published) List(whole bool, change func(*whitelist.Manifest), rows ...whitelist.Listed) (whitelist.Manifest, error) {
	m := p.world.Manifest
	sealed, err := p.seal(rows)
	if err != nil {
		return m, err
	}
	begins := p.rows == nil || m.Epoch != p.epoch
	if begins {
		p.deltas = nil
	}
	if begins || !maps.EqualFunc(p.rows, sealed, bytes.Equal) {
		if err := p.next(m.Seq, sealed, begins); err != nil {
			return m, err
		}
	}
	if begins || whole {
		p.shot.Seq = p.set.Seq
		if p.shot.SHA256, p.shot.Size, err = p.write(ascending(sealed), func(sum [32]byte) string { return whitelist.Snapshot{SHA256: sum}.Name() }); err != nil {
			return m, err
		}
	}
	p.epoch, p.rows = m.Epoch, sealed
	m.RowsSHA256, m.ScopeKeyCheck, m.Rows = [32]byte{}, p.world.ScopeKey.Check(), uint64(len(sealed))
	m.Set, m.Snapshot, m.Deltas = p.set, p.shot, slices.Clone(p.deltas)
	if change != nil {
		change(&m)
	}
	return m, p.Sign(m)
}

// Sign publishes a manifest, whatever stands in it.
func (p *Published) Sign(m whitelist.Manifest) error {
	key := p.Key
	if key == nil {
		key = p.world.ListKey
	}
	head, err := m.Sign(key, p.Delegation)
	if err != nil {
		return err
	}
	return p.put(whitelist.HeadName, head)
}

// next makes the set of a publication, and the delta that leads to it.
func (p *Published) next(seq uint64, sealed map[cardid.CardID][]byte, begins bool) error {
	var set whitelist.Set
	for row := range ascending(sealed) {
		set.Add(row)
	}
	from := p.set.Seq
	p.set = whitelist.SetID{Seq: seq, Digest: set.Digest()}
	if begins {
		return nil
	}
	touched := map[cardid.CardID][]byte{}
	for id, b := range sealed {
		if !bytes.Equal(b, p.rows[id]) {
			touched[id] = b
		}
	}
	for id := range p.rows {
		if sealed[id] == nil {
			touched[id] = nil
		}
	}
	return p.Delta(from, seq, touched)
}

// Delta publishes and names a delta of rows, nil of those that are gone.
func (p *Published) Delta(from, to uint64, touched map[cardid.CardID][]byte) (err error) {
	d := whitelist.Delta{From: from, To: to}
	d.SHA256, d.Size, err = p.write(ascending(touched), func(sum [32]byte) string { return whitelist.Delta{From: from, To: to, SHA256: sum}.Name() })
	p.deltas = append(p.deltas, d)
	return err
}

// Named publishes a manifest that names the deltas of p in the place of its own.
func (p *Published) Named(m whitelist.Manifest) error {
	m.Deltas = slices.Clone(p.deltas)
	return p.Sign(m)
}

// Rows are those of the newest set, sealed.
func (p *Published) Rows() map[cardid.CardID][]byte { return maps.Clone(p.rows) }

// seal seals rows as a list has them.
func (p *Published) seal(rows []whitelist.Listed) (map[cardid.CardID][]byte, error) {
	list, err := p.world.List(rows...)
	if err != nil {
		return nil, err
	}
	keys, err := p.world.ListKeys()
	if err != nil {
		return nil, err
	}
	r, err := whitelist.NewReader(bytes.NewReader(list), roles.Trust{Pinned: keys})
	if err != nil {
		return nil, err
	}
	sealed := map[cardid.CardID][]byte{}
	for {
		row, err := r.Next()
		if err == io.EOF {
			return sealed, nil
		}
		if err != nil {
			return nil, err
		}
		sealed[row.ID] = bytes.Clone(row.Sealed)
	}
}

// write writes rows into a file whose name has their digest.
func (p *Published) write(rows iter.Seq2[whitelist.SealedRow, error], name func([32]byte) string) (sum [32]byte, size int64, err error) {
	var b bytes.Buffer
	if sum, size, err = whitelist.WriteRows(&b, rows); err != nil {
		return sum, size, err
	}
	return sum, size, p.put(name(sum), b.Bytes())
}

// put writes a file as a careful hub does: whole or not at all.
func (p *Published) put(name string, content []byte) error {
	path := filepath.Join(p.Dir, name)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path+".new", content, 0o644), os.Rename(path+".new", path))
}

func ascending(rows map[cardid.CardID][]byte) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		for _, id := range slices.SortedFunc(maps.Keys(rows), func(a, b cardid.CardID) int { return bytes.Compare(a[:], b[:]) }) {
			if !yield(whitelist.SealedRow{ID: id, Sealed: rows[id]}, nil) {
				return
			}
		}
	}
}
