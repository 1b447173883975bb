package registry

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Publication is a list of a scope in the making, while nothing else changes
// the registry.
type Publication struct {
	t     *tx
	scope Scope
	full  bool
	state []byte
	done  bool

	puts  batch
	inPut map[cardid.CardID]bool
}

// A Subject is a head whose row may have changed.
type Subject struct {
	Head []byte // of a certificate or an order
	Row  whitelist.Row
	Gone bool // it has no row any more; Row is zero
}

// Publish calls f within the transaction in which a list of the scope is built.
// Full has it build every row. What f did is kept when it called
// [Publication.Finish] and returned nil; otherwise nothing is.
func (r *Registry) Publish(ctx context.Context, scope string, full bool, f func(*Publication) error) error {
	unfinished := errors.New("unfinished")
	err := r.write(ctx, func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		p := &Publication{t: t, scope: s, full: full || s.rebuild, inPut: map[cardid.CardID]bool{}}
		p.puts = newBatch(`INSERT INTO published (scope, card_id, sealed, set_seq) VALUES `, 4,
			` ON CONFLICT (scope, card_id) DO UPDATE SET sealed = excluded.sealed, set_seq = excluded.set_seq`)
		if err := t.queryRow(ctx, `SELECT state FROM scopes WHERE id = ?1`, s.id).Scan(&p.state); err != nil {
			return err
		}
		if err := p.prepare(ctx); err != nil {
			return err
		}
		if err := f(p); err != nil {
			return err
		}
		if !p.done {
			return unfinished
		}
		return nil
	})
	if errors.Is(err, unfinished) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("publishing %q: %w", scope, err)
	}
	return nil
}

// prepare has the engine look at the tables where there is much to do.
func (p *Publication) prepare(ctx context.Context) error {
	var marks int
	if err := p.t.queryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM touched WHERE scope = ?1 LIMIT ?2) m`, p.scope.id, many).Scan(&marks); err != nil {
		return err
	}
	if !p.full && marks < many {
		return nil
	}
	return p.t.learn(ctx)
}

// Scope is the scope with the numbers of its last publication.
func (p *Publication) Scope() Scope { return p.scope }

// Full reports whether Changed gives every row: because the caller asked, or
// because an epoch began or a setting of the scope changed them all.
func (p *Publication) Full() bool { return p.full }

// page is how many rows are in memory at once.
const page = 512

// Changed gives the heads touched since the last publication, or all and those:
// certificates, then orders, each in ascending order. The loop may use p.
func (p *Publication) Changed(ctx context.Context) iter.Seq2[Subject, error] {
	return func(yield func(Subject, error) bool) {
		if err := p.t.flush(ctx); err != nil {
			yield(Subject{}, err)
			return
		}
		for _, kind := range []struct {
			heads merged
			rows  func(context.Context, [][]byte) ([]Subject, error)
		}{
			{p.sources(p.touched(nil, firstOrder), p.certificates), p.certificateRows},
			{p.sources(p.touched(firstOrder, []byte{0xFF}), p.orders), p.orderRows},
		} {
			for {
				some, err := kind.heads.page(ctx)
				var subjects []Subject
				if err == nil && len(some) > 0 {
					subjects, err = kind.rows(ctx, some)
				}
				if err != nil {
					yield(Subject{}, fmt.Errorf("reading changed rows: %w", err))
					return
				}
				for _, s := range subjects {
					if !yield(s, nil) {
						return
					}
				}
				if len(some) == 0 {
					break
				}
			}
		}
	}
}

// firstOrder is below every order head and above every certificate head, which
// begins with 30.
var firstOrder = []byte{0x31}

// sources are the marks, and in a full publication what there is as well.
func (p *Publication) sources(marks, all headSource) merged {
	if !p.full {
		return merged{{next: marks}}
	}
	return merged{{next: marks}, {next: all}}
}

// touched gives marked heads between two.
func (p *Publication) touched(from, before []byte) headSource {
	return func(ctx context.Context, after []byte) ([][]byte, error) {
		if bytes.Compare(after, from) < 0 {
			after = from
		}
		return p.heads(ctx, `SELECT head FROM touched WHERE scope = ?1 AND head > ?2 AND head < ?4 ORDER BY head LIMIT ?3`, p.scope.id, after, page, before)
	}
}

func (p *Publication) certificates(ctx context.Context, after []byte) ([][]byte, error) {
	return p.heads(ctx, `SELECT head FROM credentials WHERE scope = ?1 AND head > ?2 ORDER BY head LIMIT ?3`, p.scope.id, after, page)
}

func (p *Publication) orders(ctx context.Context, after []byte) ([][]byte, error) {
	numbers, err := p.heads(ctx, `SELECT DISTINCT order_number FROM entitlements WHERE scope = ?1 AND order_number > ?2 ORDER BY order_number LIMIT ?3`, p.scope.id, orderNumber(after), page)
	for i, n := range numbers {
		numbers[i] = orderHead(string(n))
	}
	return numbers, err
}

func (p *Publication) heads(ctx context.Context, query string, args ...any) (heads [][]byte, err error) {
	rows, err := p.t.query(ctx, query, args...)
	err = each(rows, err, func() error {
		var head []byte
		err := rows.Scan(&head)
		heads = append(heads, head)
		return err
	})
	return heads, err
}

// certificateRows are the rows of one page.
func (p *Publication) certificateRows(ctx context.Context, heads [][]byte) (some []Subject, err error) {
	listed, err := credentials(ctx, p.t, `c.scope = ?1 AND c.head IN (`+parameters(1, len(heads))+`) ORDER BY c.head`, anys([]any{p.scope.id}, heads)...)
	if err != nil {
		return nil, err
	}
	var holders []int64
	for _, c := range listed {
		holders = append(holders, c.Holder)
	}
	held := map[int64][]stored{}
	if len(holders) > 0 {
		all, err := p.t.entitlements(ctx, `holder IN (`+parameters(0, len(holders))+`)`, anys(nil, holders)...)
		if err != nil {
			return nil, err
		}
		for _, t := range all {
			held[t.holder] = append(held[t.holder], t)
		}
	}
	for _, head := range heads {
		subject := Subject{Head: head, Gone: true}
		if len(listed) > 0 && bytes.Equal(listed[0].Head, head) {
			if row, ok := rowOf(p.scope, listed[0], held[listed[0].Holder]); ok {
				subject.Row, subject.Gone = row, false
			}
			listed = listed[1:]
		}
		some = append(some, subject)
	}
	return some, nil
}

// orderRows are the rows of one page.
func (p *Publication) orderRows(ctx context.Context, heads [][]byte) (some []Subject, err error) {
	var numbers []string
	for _, head := range heads {
		numbers = append(numbers, orderNumber(head))
	}
	all, err := p.t.entitlements(ctx, `scope = ?1 AND order_number IN (`+parameters(1, len(numbers))+`)`, anys([]any{p.scope.id}, numbers)...)
	if err != nil {
		return nil, err
	}
	ordered := map[string][]stored{}
	for _, t := range all {
		ordered[t.order] = append(ordered[t.order], t)
	}
	for i, n := range numbers {
		row, ok := entitled(p.scope.Venue, ordered[n])
		if !ok {
			row = whitelist.Row{}
		}
		some = append(some, Subject{Head: heads[i], Row: row, Gone: !ok})
	}
	return some, nil
}

// Put keeps what is published for a CardID, nil when it is gone, and the number
// of the set in which that changed.
func (p *Publication) Put(ctx context.Context, id cardid.CardID, sealed []byte, setSeq uint64) error {
	if p.inPut[id] {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	if sealed != nil {
		sealed = bytes.Clone(sealed) // it waits in a batch
	}
	if err := p.puts.add(ctx, p.t, p.scope.id, bytes.Clone(id[:]), sealed, int64(setSeq)); err != nil {
		return fmt.Errorf("keeping a published row: %w", err)
	}
	if len(p.puts.args) == 0 {
		clear(p.inPut)
	} else {
		p.inPut[id] = true
	}
	return nil
}

func (p *Publication) flush(ctx context.Context) error {
	clear(p.inPut)
	if err := p.puts.flush(ctx, p.t); err != nil {
		return fmt.Errorf("keeping published rows: %w", err)
	}
	return nil
}

// Published returns what is published for a CardID, nil when nothing is.
func (p *Publication) Published(ctx context.Context, id cardid.CardID) (sealed []byte, err error) {
	if p.inPut[id] {
		if err := p.flush(ctx); err != nil {
			return nil, err
		}
	}
	err = p.t.queryRow(ctx, `SELECT sealed FROM published WHERE scope = ?1 AND card_id = ?2`, p.scope.id, id[:]).Scan(&sealed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("reading a published row: %w", err)
	}
	return sealed, nil
}

// ChangedSince gives what changed in sets behind setSeq, ascending by CardID; a
// row that is gone has nil for Sealed. After 0 it gives every row there is, and
// none that is gone. Memory: 32 bytes for each changed row, and none of the rest.
// The loop may use p.
func (p *Publication) ChangedSince(ctx context.Context, setSeq uint64) iter.Seq2[whitelist.SealedRow, error] {
	return func(yield func(whitelist.SealedRow, error) bool) {
		next := p.allPages()
		if err := p.flush(ctx); err != nil {
			yield(whitelist.SealedRow{}, err)
			return
		}
		if setSeq > 0 {
			ids, err := p.changedIDs(ctx, setSeq)
			if err != nil {
				yield(whitelist.SealedRow{}, fmt.Errorf("reading published rows: %w", err))
				return
			}
			next = p.pagesOf(ids)
		}
		for {
			some, err := next(ctx)
			if err != nil {
				yield(whitelist.SealedRow{}, fmt.Errorf("reading published rows: %w", err))
				return
			}
			for _, row := range some {
				if !yield(row, nil) {
					return
				}
			}
			if len(some) == 0 {
				return
			}
		}
	}
}

func (p *Publication) changedIDs(ctx context.Context, setSeq uint64) (ids []cardid.CardID, err error) {
	rows, err := p.t.query(ctx, `SELECT card_id FROM published WHERE scope = ?1 AND set_seq > ?2 ORDER BY card_id`, p.scope.id, int64(setSeq))
	var id sql.RawBytes
	err = each(rows, err, func() error {
		err := rows.Scan(&id)
		if err == nil && len(id) != len(cardid.CardID{}) {
			err = fmt.Errorf("a CardID of %d bytes", len(id))
		}
		if err == nil {
			ids = append(ids, cardid.CardID(id))
		}
		return err
	})
	return ids, err
}

// allPages gives the rows there are, a page with each call.
func (p *Publication) allPages() func(context.Context) ([]whitelist.SealedRow, error) {
	after := []byte{}
	return func(ctx context.Context) ([]whitelist.SealedRow, error) {
		some, err := p.sealedRows(ctx, `card_id > ?2 AND sealed IS NOT NULL ORDER BY card_id LIMIT ?3`, p.scope.id, after, page)
		if len(some) > 0 {
			after = bytes.Clone(some[len(some)-1].ID[:])
		}
		return some, err
	}
}

// pagesOf gives the rows of ids, a page with each call.
func (p *Publication) pagesOf(ids []cardid.CardID) func(context.Context) ([]whitelist.SealedRow, error) {
	return func(ctx context.Context) ([]whitelist.SealedRow, error) {
		some := ids[:min(len(ids), page)]
		ids = ids[len(some):]
		if len(some) == 0 {
			return nil, nil
		}
		args := []any{p.scope.id}
		for i := range some {
			args = append(args, some[i][:])
		}
		return p.sealedRows(ctx, `card_id IN (`+parameters(1, len(some))+`) ORDER BY card_id`, args...)
	}
}

func (p *Publication) sealedRows(ctx context.Context, where string, args ...any) (some []whitelist.SealedRow, err error) {
	rows, err := p.t.query(ctx, `SELECT card_id, sealed FROM published WHERE scope = ?1 AND `+where, args...)
	err = each(rows, err, func() error {
		var id sql.RawBytes
		var row whitelist.SealedRow
		if err := rows.Scan(&id, &row.Sealed); err != nil {
			return err
		}
		if copy(row.ID[:], id) != len(id) || len(id) != len(row.ID) {
			return fmt.Errorf("a CardID of %d bytes", len(id))
		}
		some = append(some, row)
		return nil
	})
	return some, err
}

// Forget deletes the CardIDs that were gone in set setSeq already: no delta
// begins before it any more.
func (p *Publication) Forget(ctx context.Context, setSeq uint64) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	if _, err := p.t.exec(ctx, `DELETE FROM published WHERE scope = ?1 AND set_seq <= ?2 AND sealed IS NULL`, p.scope.id, int64(setSeq)); err != nil {
		return fmt.Errorf("forgetting rows that are gone: %w", err)
	}
	return nil
}

// State is what SetState was given in the last publication of the epoch, nil
// before the first.
func (p *Publication) State() []byte { return bytes.Clone(p.state) }

// SetState keeps bytes for the publisher.
func (p *Publication) SetState(b []byte) { p.state = bytes.Clone(b) }

// Finish records that the scope's list seq was published, with the set setSeq and
// this manifest, and takes the marks off.
func (p *Publication) Finish(ctx context.Context, seq, setSeq uint64, manifest []byte) error {
	if seq <= p.scope.Seq || setSeq < p.scope.SetSeq || setSeq > seq {
		return fmt.Errorf("%w: list %d with set %d behind list %d with set %d", ErrInvalid, seq, setSeq, p.scope.Seq, p.scope.SetSeq)
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	if _, err := p.t.exec(ctx, `UPDATE scopes SET seq = ?2, set_seq = ?3, manifest = ?4, state = ?5, rebuild = 0 WHERE id = ?1`,
		p.scope.id, int64(seq), int64(setSeq), manifest, p.state); err != nil {
		return fmt.Errorf("recording a publication: %w", err)
	}
	if _, err := p.t.exec(ctx, `DELETE FROM touched WHERE scope = ?1`, p.scope.id); err != nil {
		return fmt.Errorf("recording a publication: %w", err)
	}
	p.done = true
	return nil
}

// Manifest returns that of the last publication, nil before the first of an epoch.
func (r *Registry) Manifest(ctx context.Context, scope string) (b []byte, err error) {
	err = r.queryRow(ctx, `SELECT manifest FROM scopes WHERE name = ?1`, scope).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: scope %q", ErrNotFound, scope)
	}
	if err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	return b, nil
}

// Pending is how many heads the next publication has to look at; all reports
// that it builds every row.
func (r *Registry) Pending(ctx context.Context, scope string) (heads int, all bool, err error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		err = r.queryRow(ctx, `SELECT count(*) FROM touched WHERE scope = ?1`, s.id).Scan(&heads)
	}
	if err != nil {
		return 0, false, fmt.Errorf("counting changed rows: %w", err)
	}
	return heads, s.rebuild, nil
}
