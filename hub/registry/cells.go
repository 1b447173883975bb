package registry

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// parse is what a line makes of a ticket; old is zero where there is none.
func (in *ticketFile) parse(l ticketLine, old stored) Ticket {
	ticket := old.ticket()
	ticket.ID = l.id
	if old.ID == "" {
		ticket.Status = whitelist.Active
	}
	p := cellParser{in, l}
	e := &ticket.Entitlement
	p.time("not_before", &e.NotBefore)
	p.time("not_after", &e.NotAfter)
	p.names("gates", &e.Gates)
	p.names("zones", &e.Zones)
	p.count("uses", &e.Uses)
	p.count("uses_per_day", &e.UsesPerDay)
	p.count("party", &e.Party)
	p.count("product", &e.Product)
	p.count("variation", &e.Variation)
	p.bool("alone", &e.Alone)
	p.bool("attention", &e.Attention)
	p.text("message", &e.Message)
	p.reEntry(&e.ReEntry)
	if status, known := ticketStatuses[l.cells["status"]]; !known {
		p.problem("status", "write active, blocked or revoked, or nothing for active")
	} else if cell, there := l.cells["status"]; there && (old.fileStatus.Valid || cell != "") && old.fileStatus.Int64 != int64(status) {
		ticket.Status = status
	}
	if order, err := normalOrder(l.cells["order"]); err != nil {
		p.problem("order", "%s", plain(err))
	} else if in.changes(l, "order", old.fileOrder) {
		ticket.Order = order
	}
	if err := checkText("it", l.cells["holder"], 0, MaxReference); err != nil {
		p.problem("holder", "%s", plain(err))
	}
	p.check(*e)
	return ticket
}

// plain is an error without the words that every one of its kind begins with.
func plain(err error) string {
	s := err.Error()
	for _, kind := range []error{ErrInvalid, whitelist.ErrMalformed} {
		s = strings.ReplaceAll(s, kind.Error()+": ", "")
	}
	return s
}

// A cellParser reads the cells of a line; an absent column leaves what is there.
type cellParser struct {
	in *ticketFile
	ticketLine
}

func (p cellParser) problem(column, format string, args ...any) {
	p.in.csv.errs.add(Problem{p.number, column, fmt.Sprintf(format, args...)})
}

// check finds the cell that breaks a rule, or the line.
func (p cellParser) check(e whitelist.Entitlement) {
	v := p.in.scope.Venue
	bad := false
	for _, c := range []struct {
		column string
		alone  whitelist.Entitlement // only what the column says
	}{
		{"id", whitelist.Entitlement{ID: e.ID}},
		{"gates", whitelist.Entitlement{ID: "-", Gates: e.Gates}},
		{"zones", whitelist.Entitlement{ID: "-", Zones: e.Zones}},
		{"uses_per_day", whitelist.Entitlement{ID: "-", UsesPerDay: e.UsesPerDay}},
		{"re_entry", whitelist.Entitlement{ID: "-", ReEntry: e.ReEntry}},
		{"party", whitelist.Entitlement{ID: "-", Party: e.Party}},
		{"product", whitelist.Entitlement{ID: "-", Product: e.Product}},
		{"message", whitelist.Entitlement{ID: "-", Attention: true, Message: e.Message}},
	} {
		if c.column == "message" && e.Message == "" {
			continue
		}
		if err := checkTicket(v, c.alone); err != nil {
			p.problem(c.column, "%s", plain(err))
			bad = true
		}
	}
	if bad {
		return
	}
	if err := checkTicket(v, e); err != nil {
		p.problem("", "%s", plain(err))
	}
}

func (p cellParser) count(column string, n *uint32) {
	cell, there := p.cells[column]
	if !there {
		return
	}
	if cell == "" {
		*n = 0
		return
	}
	v, err := strconv.ParseUint(cell, 10, 32)
	if err != nil {
		p.problem(column, "write a whole number from 0 to 4294967295, or nothing")
	}
	*n = uint32(v)
}

func (p cellParser) bool(column string, b *bool) {
	cell, there := p.cells[column]
	switch {
	case !there:
	case strings.EqualFold(cell, "true"):
		*b = true
	case cell == "", strings.EqualFold(cell, "false"):
		*b = false
	default:
		p.problem(column, "write true or false")
	}
}

func (p cellParser) text(column string, s *string) {
	if cell, there := p.cells[column]; there {
		*s = cell
	}
}

// names are separated by ';', with or without spaces around them.
func (p cellParser) names(column string, names *[]string) {
	cell, there := p.cells[column]
	if !there {
		return
	}
	*names = nil
	if strings.TrimSpace(cell) == "" {
		return
	}
	for name := range strings.SplitSeq(cell, ";") {
		if name = strings.TrimSpace(name); name == "" {
			p.problem(column, "an empty name: write names with one ; between two")
			return
		}
		*names = append(*names, name)
	}
}

func (p cellParser) reEntry(r *whitelist.ReEntry) {
	cell, there := p.cells["re_entry"]
	if !there {
		return
	}
	if cell == "" {
		cell = whitelist.ReEntryNone.String()
	}
	for v := whitelist.ReEntryNone; v <= whitelist.ReEntryAlways; v++ {
		if v.String() == cell {
			*r = v
			return
		}
	}
	p.problem("re_entry", "write none, after_exit or always")
}

func (p cellParser) time(column string, t *time.Time) {
	cell, there := p.cells[column]
	if !there {
		return
	}
	if cell == "" {
		*t = time.Time{}
		return
	}
	v, err := p.in.instant(cell)
	if err != nil {
		p.problem(column, "%v", err)
		return
	}
	*t = v
}
