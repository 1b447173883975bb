package registry

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// ticketColumns of docs/hub-registry.md; id has to be there.
var ticketColumns = []string{
	"id", "holder", "order", "status", "not_before", "not_after", "gates", "zones", "uses", "uses_per_day",
	"re_entry", "party", "alone", "product", "variation", "attention", "message",
}

// A TicketReport says what an import of tickets did.
type TicketReport struct {
	Added     int            `json:"added"`
	Updated   int            `json:"updated"`
	Unchanged int            `json:"unchanged"`
	Updates   []TicketUpdate `json:"updates,omitempty"` // the first MaxProblems
}

// A TicketUpdate is a ticket that was there with other content.
type TicketUpdate struct {
	Line int      `json:"line"`
	ID   string   `json:"id"`
	What []string `json:"what"` // verbs of the history
}

// ImportTickets adds and changes tickets as a CSV file says, all or none; the
// error is a *FileError when the file is wrong. The same file again changes
// nothing.
//
// A file says what it says of holder, order and status once: what was done since,
// such as a transfer or a refund, stays until the file says something else than
// it did before. A column that is not there changes nothing.
//
// Nobody else writes while the file is read: give it one that is here, not one
// that is still arriving.
func (r *Registry) ImportTickets(ctx context.Context, by By, scope string, file io.Reader) (report TicketReport, err error) {
	err = r.do(ctx, by, "importing tickets", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		in := &ticketFile{t: t, by: by, scope: s, seen: map[string]int{}, report: &report}
		if in.csv, err = newTable(file, ticketColumns, []string{"id"}, "uses", "uses_per_day", "party", "product", "variation"); err != nil {
			return err
		}
		if in.zone, err = time.LoadLocation(s.Venue.TimeZone); err != nil {
			return err
		}
		return in.read(ctx)
	})
	if err != nil {
		return TicketReport{}, err
	}
	return report, nil
}

// A ticketFile is an import under way.
type ticketFile struct {
	t      *tx
	by     By
	scope  Scope
	zone   *time.Location
	csv    *table
	seen   map[string]int // line of each ID
	report *TicketReport
}

// A ticketLine is a line of the file.
type ticketLine struct {
	number int
	id     string
	cells  map[string]string
}

func (in *ticketFile) read(ctx context.Context) error {
	lines := make([]ticketLine, 0, batchRows)
	for {
		cells, err := in.csv.row()
		if err != nil && err != io.EOF {
			return err
		}
		if err == nil {
			id := cells["id"]
			if first, twice := in.seen[id]; twice {
				in.csv.problem("id", "the same ticket is on line %d: write it once", first)
				continue
			}
			in.seen[id] = in.csv.line
			lines = append(lines, ticketLine{in.csv.line, id, cells})
		}
		if len(lines) == batchRows || err == io.EOF && len(lines) > 0 {
			if err := in.chunk(ctx, lines); err != nil {
				return err
			}
			lines = lines[:0]
		}
		if err == io.EOF {
			return in.csv.err()
		}
	}
}

// chunk imports some lines, or only checks them once something is wrong.
func (in *ticketFile) chunk(ctx context.Context, lines []ticketLine) error {
	var ids []string
	for _, l := range lines {
		ids = append(ids, l.id)
	}
	found, err := in.t.entitlements(ctx, `scope = ?1 AND id IN (`+parameters(1, len(ids))+`)`, anys([]any{in.scope.id}, ids)...)
	if err != nil {
		return err
	}
	old := map[string]stored{}
	for _, s := range found {
		old[s.ID] = s
	}
	var parsed []Ticket
	var references []string
	for _, l := range lines {
		ticket := in.parse(l, old[l.id])
		parsed = append(parsed, ticket)
		if ref := l.cells["holder"]; ref != "" && in.changes(l, "holder", old[l.id].fileHolder) {
			references = append(references, ref)
		}
	}
	if in.csv.err() != nil {
		return nil
	}
	holders, err := in.t.holders(ctx, in.by, in.scope.id, references)
	if err != nil {
		return err
	}

	insert := newBatch(`INSERT INTO entitlements (scope, id, holder, order_number, status, content, file_holder, file_order, file_status) VALUES `, 9, "")
	touched := shown{holders: map[int64]int{}, orders: map[string]int{}}
	for i, l := range lines {
		ticket, was := parsed[i], old[l.id]
		if in.changes(l, "holder", was.fileHolder) {
			ticket.Holder = holders[l.cells["holder"]]
		}
		touched.add(l.number, ticket)
		if was.ID == "" {
			if err := in.add(ctx, &insert, l, ticket); err != nil {
				return err
			}
		} else if err := in.update(ctx, l, was, ticket); err != nil {
			return err
		}
	}
	if err := insert.flush(ctx, in.t); err != nil {
		return err
	}
	return in.fit(ctx, touched)
}

// changes reports whether the file says of a column something else than the last
// one did; an empty cell is news only where there was something.
func (in *ticketFile) changes(l ticketLine, column string, before sql.NullString) bool {
	cell, there := l.cells[column]
	return there && (before.Valid || cell != "") && digest(cell) != before.String
}

// digest tells what a cell said from what it says now, and keeps neither: a
// holder may be erased in the meantime.
func digest(cell string) string {
	if cell == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(cell))
	return hex.EncodeToString(sum[:8])
}

func (in *ticketFile) add(ctx context.Context, insert *batch, l ticketLine, ticket Ticket) error {
	text, err := encodeContent(ticket.Entitlement)
	if err != nil {
		return err
	}
	in.report.Added++
	if err := insert.add(ctx, in.t, in.scope.id, l.id, null(ticket.Holder), null(ticket.Order), int(ticket.Status), text,
		l.said("holder"), l.said("order"), l.saidStatus()); err != nil {
		return err
	}
	return in.t.record(ctx, in.by, event{verb: "add", scope: in.scope.id, holder: ticket.Holder, entitlement: l.id})
}

func (in *ticketFile) update(ctx context.Context, l ticketLine, was stored, ticket Ticket) error {
	verbs, err := in.t.change(ctx, in.by, in.scope.id, was, ticket)
	if err != nil {
		return err
	}
	for column, before := range map[string]sql.NullString{"file_holder": was.fileHolder, "file_order": was.fileOrder} {
		said := l.said(strings.TrimPrefix(column, "file_"))
		if said == nil || before.Valid && before.String == said {
			continue
		}
		if _, err := in.t.exec(ctx, `UPDATE entitlements SET `+column+` = ?3 WHERE scope = ?1 AND id = ?2`, in.scope.id, l.id, said); err != nil {
			return err
		}
	}
	if said := l.saidStatus(); said != nil && (!was.fileStatus.Valid || was.fileStatus.Int64 != int64(said.(int))) {
		if _, err := in.t.exec(ctx, `UPDATE entitlements SET file_status = ?3 WHERE scope = ?1 AND id = ?2`, in.scope.id, l.id, said); err != nil {
			return err
		}
	}
	if len(verbs) == 0 {
		in.report.Unchanged++
		return nil
	}
	if in.report.Updated++; len(in.report.Updates) < MaxProblems {
		in.report.Updates = append(in.report.Updates, TicketUpdate{l.number, l.id, verbs})
	}
	return nil
}

// said is a cell as the registry remembers it, NULL where there is no column.
func (l ticketLine) said(column string) any {
	cell, there := l.cells[column]
	if !there {
		return nil
	}
	return digest(cell)
}

func (l ticketLine) saidStatus() any {
	cell, there := l.cells["status"]
	if !there {
		return nil
	}
	return int(ticketStatuses[cell])
}

var ticketStatuses = map[string]whitelist.Status{
	"": whitelist.Active, "active": whitelist.Active, "blocked": whitelist.Blocked, "revoked": whitelist.Revoked,
}

// shown is what shows the tickets of a chunk, with the line that brought each.
type shown struct {
	holders map[int64]int
	orders  map[string]int
}

func (s shown) add(line int, t Ticket) {
	if t.Holder != 0 {
		s.holders[t.Holder] = line
	}
	if t.Order != "" {
		s.orders[t.Order] = line
	}
}

// fit marks what shows the tickets of a chunk and checks that it can be sealed.
func (in *ticketFile) fit(ctx context.Context, s shown) error {
	holders := make([]int64, 0, len(s.holders))
	for h := range s.holders {
		holders = append(holders, h)
	}
	if err := in.t.touchHolders(ctx, holders...); err != nil {
		return err
	}
	for o := range s.orders {
		if err := in.t.touchOrder(ctx, in.scope.id, o); err != nil {
			return err
		}
	}
	// Most have a ticket or two: one question finds the others.
	const over = ` GROUP BY 1 HAVING count(*) > ?1 OR sum(length(content) + length(id) + 16) > ?2`
	if len(holders) > 0 {
		var id int64
		var full []int64
		rows, err := in.t.query(ctx, `SELECT holder FROM entitlements WHERE holder IN (`+parameters(2, len(holders))+`)`+over, anys([]any{whitelist.MaxEntitlements, roomy}, holders)...)
		if err := each(rows, err, func() error { err := rows.Scan(&id); full = append(full, id); return err }); err != nil {
			return err
		}
		for _, h := range full {
			if err := in.fits(s.holders[h], in.t.fits(ctx, in.scope.id, []int64{h}, nil), "holder"); err != nil {
				return err
			}
		}
	}
	orders := make([]string, 0, len(s.orders))
	for o := range s.orders {
		orders = append(orders, o)
	}
	if len(orders) > 0 {
		var number string
		var full []string
		rows, err := in.t.query(ctx, `SELECT order_number FROM entitlements WHERE scope = ?3 AND order_number IN (`+parameters(3, len(orders))+`)`+over, anys([]any{whitelist.MaxEntitlements, roomy, in.scope.id}, orders)...)
		if err := each(rows, err, func() error { err := rows.Scan(&number); full = append(full, number); return err }); err != nil {
			return err
		}
		for _, o := range full {
			if err := in.fits(s.orders[o], in.t.fits(ctx, in.scope.id, nil, []string{o}), "order"); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits turns what breaks a rule into a problem of a line.
func (in *ticketFile) fits(line int, err error, column string) error {
	if !errors.Is(err, ErrInvalid) {
		return err
	}
	in.csv.errs.add(Problem{line, column, plain(err)})
	return nil
}
