// Package publish makes of what a registry knows the files that terminals fetch:
// sealed rows in snapshots and deltas, and the signed manifest that names them.
// docs/list-distribution.md describes them.
//
// It promises:
//
//   - The same registry gives the same bytes, whichever engine holds it.
//   - Whoever reads the folder never finds a manifest whose files are missing: it
//     is replaced last, and what it named before stays for a while.
//   - A crash at any step loses nothing and mixes nothing up: what is published is
//     what the registry committed, and a number is never given to two manifests.
//   - A list is only placed with the signature of a key that may sign it, and only
//     the newest one is.
//
// A publication has three steps: [Publisher.Draft] builds the files and commits
// the manifest that is to be signed, somebody signs, [Publisher.Place] puts it in
// place. [Publisher.Publish] does all three where the key is at hand.
package publish

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Errors that callers act on.
var (
	// ErrClock: the clock stands before the last publication.
	ErrClock = errors.New("the clock stands before the last publication")
	// ErrNotNewest: what was signed is not the manifest that was drafted last.
	ErrNotNewest = errors.New("not the manifest that was drafted last")
	// ErrSigner: the key may not sign lists, or what else it is asked to, of this scope now.
	ErrSigner = errors.New("the key may not sign for this scope")
	// ErrUnpublished: the scope has no list yet.
	ErrUnpublished = errors.New("nothing was published yet")
)

// A Publisher publishes the lists of one scope. Several may, in several
// processes: they wait for each other.
type Publisher struct {
	Registry *registry.Registry
	Scope    string
	Key      cardid.ScopeKey // not needed to Place
	Folder   *Folder
	Signers  Signers

	// Keep is how long a file stays that no manifest names any more: a terminal may
	// be in the middle of it.
	Keep time.Duration

	// Progress, when not nil, is told now and then how many rows were sealed, and then
	// how many were written into each file.
	Progress func(doing Doing, rows uint64)
}

// Doing is what a long publication is at.
type Doing string

const (
	Sealing Doing = "sealed"
	Writing Doing = "written"
)

// A Draft is a publication that is not signed.
type Draft struct {
	Payload  []byte // to be signed
	Manifest whitelist.Manifest
	Written  int64 // bytes of new files

	Added, Changed, Gone uint64 // rows
}

func (d Draft) changes() uint64 { return d.Added + d.Changed + d.Gone }

// Publish publishes the list as of an instant. It asks the key first whether it
// may: one that may not makes no draft.
func (p *Publisher) Publish(ctx context.Context, signer crypto.Signer, at time.Time, full bool) (d Draft, err error) {
	unlock, err := p.Folder.Lock(ctx)
	if err != nil {
		return Draft{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return p.publish(ctx, signer, at, full)
}

// PublishDue publishes the list as of an instant if that is due, and says why it
// was: "" when it was not, or not any more once other publishers were done.
func (p *Publisher) PublishDue(ctx context.Context, signer crypto.Signer, at time.Time) (d Draft, why string, err error) {
	if why, err = p.Due(ctx, at); err != nil || why == "" {
		return Draft{}, why, err
	}
	unlock, err := p.Folder.Lock(ctx)
	if err != nil {
		return Draft{}, why, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if why, err = p.Due(ctx, at); err != nil || why == "" {
		return Draft{}, why, err
	}
	d, err = p.publish(ctx, signer, at, false)
	return d, why, err
}

// publish is Publish in a folder that is locked.
func (p *Publisher) publish(ctx context.Context, signer crypto.Signer, at time.Time, full bool) (Draft, error) {
	if err := p.mayPublish(ctx, signer.Public(), at); err != nil {
		return Draft{}, err
	}
	d, err := p.draft(ctx, at, full)
	if err != nil {
		return d, err
	}
	signed, err := Sign(d.Payload, signer)
	if err != nil {
		return d, err
	}
	_, err = p.place(ctx, signed, at)
	return d, err
}

// Sign signs the payload of a draft.
func Sign(payload []byte, signer crypto.Signer) ([]byte, error) {
	signed, err := sign1.Sign(nil, sign1.RoleList, signer, payload)
	if err != nil {
		return nil, fmt.Errorf("signing the list: %w", err)
	}
	return signed, nil
}

func (p *Publisher) mayPublish(ctx context.Context, public crypto.PublicKey, at time.Time) error {
	s, err := p.Registry.Scope(ctx, p.Scope)
	if err != nil {
		return err
	}
	if _, err = p.Signers.MaySign(sign1.RoleList, s, public, at); err != nil {
		return err
	}
	return p.Signers.Follow(p.Folder)
}

// Draft builds the list as of an instant, of the rows that changed, or with full
// of all. It writes files, and commits to the registry the manifest that names
// them: the next draft has a higher number, whether this one is ever signed or not.
func (p *Publisher) Draft(ctx context.Context, at time.Time, full bool) (d Draft, err error) {
	unlock, err := p.Folder.Lock(ctx)
	if err != nil {
		return Draft{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return p.draft(ctx, at, full)
}

// draft is Draft in a folder that is locked.
func (p *Publisher) draft(ctx context.Context, at time.Time, full bool) (d Draft, err error) {
	last, err := p.Newest(ctx)
	if err != nil && !errors.Is(err, ErrUnpublished) {
		return Draft{}, err
	}
	at = at.UTC().Truncate(time.Second)
	if at.Before(last.IssuedAt) {
		return Draft{}, fmt.Errorf("%w: it is %s, and the last list is of %s: set the clock right, no terminal takes an older list; if the clock was ahead then, begin a new epoch (gate-hub scope new-epoch)",
			ErrClock, at.Format(time.RFC3339), last.IssuedAt.Format(time.RFC3339))
	}
	err = p.Registry.Publish(ctx, p.Scope, full, func(tx *registry.Publication) error {
		b := builder{Publisher: p, tx: tx, at: at}
		if err := b.build(ctx); err != nil {
			return err
		}
		d = b.draft
		return tx.Finish(ctx, d.Manifest.Seq, d.Manifest.Set.Seq, d.Payload)
	})
	if err != nil {
		return Draft{}, err
	}
	return d, nil
}

// Newest is the manifest that was drafted last, ErrUnpublished before the first
// of an epoch.
func (p *Publisher) Newest(ctx context.Context) (whitelist.Manifest, error) {
	payload, err := p.payload(ctx)
	if err != nil {
		return whitelist.Manifest{}, err
	}
	return whitelist.PeekManifest(payload)
}

func (p *Publisher) payload(ctx context.Context) ([]byte, error) {
	payload, err := p.Registry.Manifest(ctx, p.Scope)
	if err == nil && payload == nil {
		err = fmt.Errorf("scope %q: %w", p.Scope, ErrUnpublished)
	}
	return payload, err
}

// Place puts a signed manifest in place, which must be the newest draft, signed by
// a key that may do so at an instant. A delegation in front of it is left away:
// the publisher's own comes there.
func (p *Publisher) Place(ctx context.Context, signed []byte, at time.Time) (m whitelist.Manifest, err error) {
	unlock, err := p.Folder.Lock(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return p.place(ctx, signed, at)
}

// place is Place in a folder that is locked.
func (p *Publisher) place(ctx context.Context, signed []byte, at time.Time) (m whitelist.Manifest, err error) {
	if _, signed, err = roles.Cut(signed); err != nil {
		return m, fmt.Errorf("reading the signed list: %w", err)
	}
	said, err := sign1.UnverifiedPayload(signed)
	if err != nil {
		return m, fmt.Errorf("reading the signed list: %w", err)
	}
	payload, err := p.payload(ctx)
	if err != nil {
		return m, err
	}
	if !bytes.Equal(said, payload) {
		return m, fmt.Errorf("%w: export it again and have that signed", ErrNotNewest)
	}
	if m, err = whitelist.PeekManifest(payload); err != nil {
		return m, err
	}
	if err := p.Signers.verify(m, signed, at); err != nil {
		return m, err
	}
	if err := p.Signers.Follow(p.Folder); err != nil {
		return m, err
	}
	for _, x := range names(m) {
		if !p.Folder.has(x) {
			return m, fmt.Errorf("%s/%s is missing or cut short: publish again, which writes it anew", p.Folder.dir, x.name)
		}
	}
	head := append(bytes.Clone(p.Signers.Delegation), signed...)
	return m, p.Folder.place(head, m, at, p.Keep)
}
