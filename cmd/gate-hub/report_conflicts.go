package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/ingest"
)

// A conflictsReport is what report conflicts prints. docs/cli.md lists its members.
type conflictsReport struct {
	Scope     string     `json:"scope"`
	Conflicts []conflict `json:"conflicts"`
	Unjudged  int        `json:"unjudged"` // tickets used more than once that the registry does not have
}

type conflict struct {
	Kind        string       `json:"kind"`
	Entitlement string       `json:"entitlement"`
	Zone        string       `json:"zone"`
	People      uint32       `json:"people"` // beyond what the ticket is for
	InDoubt     bool         `json:"in_doubt"`
	Entry       conflictSide `json:"entry"`
	Earlier     conflictSide `json:"earlier"`
}

type conflictSide struct {
	Terminal string    `json:"terminal"`
	Gate     string    `json:"gate"`
	Seq      uint64    `json:"seq"`
	At       time.Time `json:"at"`
}

func sideOf(p ingest.Passage) conflictSide { return conflictSide{p.Terminal, p.Gate, p.Seq, p.At} }

func reportConflictsCommand() *cobra.Command {
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "conflicts [--scope SCOPE] [--since DURATION] [--json | --csv]",
		Short: "List tickets that more people entered by than they are for",
		Long: `Conflicts lists entries that used more than their ticket had left, with the entry
before that used it up: gates that were cut off from each other cannot know. It
follows from the recorded events alone, whichever came first.
切断中のゲートで重複して使われた入場券を、両方のゲートと時刻とともに表示します。`,
		Example: "  gate-hub report conflicts --config /var/lib/gate-hub --csv > conflicts.csv",
	}
	cmd.Flags().DurationVar(&since, "since", 0, "only entries of this last time; default all")
	return withReport(cmd, func(ctx context.Context, s *site, e *ingest.Store, scope string) (report, error) {
		judge, err := s.ticketsOf(ctx, scope)
		if err != nil {
			return nil, err
		}
		var from time.Time
		if since > 0 {
			from = time.Now().Add(-since)
		}
		all, unjudged, err := e.Conflicts(ctx, scope, from, judge)
		r := conflictsReport{scope, []conflict{}, unjudged}
		for _, c := range all {
			r.Conflicts = append(r.Conflicts, conflict{c.Kind, c.Entitlement, c.Zone, c.People, c.InDoubt, sideOf(c.Entry), sideOf(c.Earlier)})
		}
		return r, err
	})
}

func (r conflictsReport) table() table {
	t := table{head: []string{"kind", "entitlement", "zone", "people", "in_doubt", "gate", "at", "terminal", "earlier_gate", "earlier_at", "earlier_terminal"}}
	for _, c := range r.Conflicts {
		t.rows = append(t.rows, []string{
			c.Kind, c.Entitlement, c.Zone, fmt.Sprint(c.People), fmt.Sprint(c.InDoubt),
			c.Entry.Gate, rfc3339(c.Entry.At), c.Entry.Terminal, c.Earlier.Gate, rfc3339(c.Earlier.At), c.Earlier.Terminal,
		})
	}
	t.note = fmt.Sprintf("%d conflicts / 重複 %[1]d 件", len(r.Conflicts))
	if r.Unjudged > 0 {
		t.note += fmt.Sprintf("; %d tickets were used more than once and are not in the registry", r.Unjudged)
	}
	return t
}

// A refusedReport is what report refused prints. docs/cli.md lists its members.
type refusedReport struct {
	Scope   string         `json:"scope"`
	Refused []refusedEvent `json:"refused"`
}

type refusedEvent struct {
	Terminal    string    `json:"terminal"`
	Incarnation string    `json:"incarnation"`
	Seq         uint64    `json:"seq"`
	Hash        string    `json:"hash"`
	Received    time.Time `json:"received"`
	Why         string    `json:"why"`
	Bytes       []byte    `json:"bytes"` // null where they stayed at the terminal
}

func reportRefusedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "refused [--scope SCOPE] [--json | --csv]",
		Short: "List events that cannot be read, and those of cloned terminals",
		Long: `Refused lists the events that terminals have sent and that count in no report:
those that cannot be read, and those beside which another event of the same number
is held. All are kept as they came; --json has their bytes.
読み取れなかった記録と、複製された端末の記録を表示します。`,
		Example: "  gate-hub report refused --config /var/lib/gate-hub",
	}
	return withReport(cmd, func(ctx context.Context, _ *site, e *ingest.Store, scope string) (report, error) {
		all, err := e.Refused(ctx, scope)
		r := refusedReport{scope, []refusedEvent{}}
		for _, x := range all {
			r.Refused = append(r.Refused, refusedEvent{x.Terminal, hex.EncodeToString(x.Incarnation[:]), x.Seq, hex.EncodeToString(x.Hash[:]), x.Received, x.Why, x.Bytes})
		}
		return r, err
	})
}

func (r refusedReport) table() table {
	t := table{head: []string{"terminal", "incarnation", "seq", "received", "why"}}
	for _, x := range r.Refused {
		t.rows = append(t.rows, []string{x.Terminal, x.Incarnation, fmt.Sprint(x.Seq), rfc3339(x.Received), x.Why})
	}
	t.note = fmt.Sprintf("%d events / 記録 %[1]d 件", len(r.Refused))
	return t
}
