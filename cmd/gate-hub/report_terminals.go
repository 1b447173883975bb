package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/ingest"
)

// A terminalsReport is what report terminals prints. docs/cli.md lists its members.
type terminalsReport struct {
	Scope     string          `json:"scope"`
	Terminals []terminalState `json:"terminals"` // who has been silent longest first
}

type terminalState struct {
	Terminal  string     `json:"terminal"`
	Contact   *time.Time `json:"contact"` // null: never
	ListEpoch uint64     `json:"list_epoch"`
	ListSeq   uint64     `json:"list_seq"`
	OffsetMS  int64      `json:"offset_ms"` // its clock ahead of the hub's
	Agent     string     `json:"agent"`
	Events    uint64     `json:"events"`
	Refused   uint64     `json:"refused"`
	Missing   uint64     `json:"missing"` // events that it had deleted before they were sent
	Unsent    uint64     `json:"unsent"`
	Clone     *time.Time `json:"clone"` // since when one of its journals is another than is held
	Alarm     string     `json:"alarm"` // why it sends no events any more
}

// terminalsOf are the terminals of a scope in force, and what came from each.
func (s *site) terminalsOf(ctx context.Context, e *ingest.Store, scope string) ([]ingest.Terminal, error) {
	registered, err := s.registry.Terminals(ctx, scope)
	if err != nil {
		return nil, err
	}
	heard, err := e.Terminals(ctx, scope)
	if err != nil {
		return nil, err
	}
	var all []ingest.Terminal
	for _, t := range registered {
		if t.Retired {
			continue
		}
		now := ingest.Terminal{Name: t.Name}
		if i := slices.IndexFunc(heard, func(h ingest.Terminal) bool { return h.Name == t.Name }); i >= 0 {
			now = heard[i]
		}
		all = append(all, now)
	}
	return all, nil
}

func reportTerminalsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "terminals [--scope SCOPE] [--json | --csv]",
		Short: "Tell when each terminal was last heard, its list and its clock",
		Long: `Terminals lists those of the registry that are in force, who has been silent longest
first: when each was last heard, the list in force there, how far its clock is ahead,
and what is odd about its journal. 端末ごとの最終通信、名簿、時計のずれを表示します。`,
		Example: "  gate-hub report terminals --config /var/lib/gate-hub",
	}
	return withReport(cmd, func(ctx context.Context, s *site, e *ingest.Store, scope string) (report, error) {
		all, err := s.terminalsOf(ctx, e, scope)
		slices.SortStableFunc(all, func(a, b ingest.Terminal) int { return a.Contact.Compare(b.Contact) })
		r := terminalsReport{scope, []terminalState{}}
		for _, t := range all {
			x := terminalState{
				Terminal: t.Name, Contact: someInstant(t.Contact), OffsetMS: t.Offset.Milliseconds(), Agent: t.Agent, Events: t.Events,
				Refused: t.Refused, Missing: t.Missing, Unsent: t.Health.Unsent, Clone: someInstant(t.Clone), Alarm: t.Health.Alarm,
			}
			if t.Health.List != nil {
				x.ListEpoch, x.ListSeq = t.Health.List.Epoch, t.Health.List.Seq
			}
			r.Terminals = append(r.Terminals, x)
		}
		return r, err
	})
}

func (r terminalsReport) table() table {
	t := table{head: []string{"terminal", "contact", "list", "offset", "agent", "events", "unsent", "refused", "missing", "alarm"}}
	for _, x := range r.Terminals {
		contact, list, offset, alarms := "never", "", "", []string{}
		if x.Contact != nil {
			contact, offset = rfc3339(*x.Contact), (time.Duration(x.OffsetMS) * time.Millisecond).String()
		}
		if x.ListSeq > 0 {
			list = fmt.Sprintf("%d.%d", x.ListEpoch, x.ListSeq)
		}
		if x.Clone != nil {
			alarms = append(alarms, "clone since "+rfc3339(*x.Clone))
		}
		if x.Alarm != "" {
			alarms = append(alarms, x.Alarm)
		}
		t.rows = append(t.rows, []string{
			x.Terminal, contact, list, offset, x.Agent, fmt.Sprint(x.Events), fmt.Sprint(x.Unsent), fmt.Sprint(x.Refused), fmt.Sprint(x.Missing), strings.Join(alarms, "; "),
		})
	}
	return t
}
