package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/whitelist"
)

func ticketCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "ticket", Short: "Tickets: what somebody is entitled to"},
		ticketImportCommand(), ticketShowCommand(), ticketTransferCommand(), ticketRefundCommand(),
		ticketVerb("block", "Let a ticket open nothing until it is unblocked", ticketStatus(whitelist.Blocked)),
		ticketVerb("unblock", "Let a blocked ticket open gates again", (*registry.Registry).UnblockTicket),
		ticketVerb("reinstate", "Let a ticket that was refunded or revoked by mistake open gates again", ticketStatus(whitelist.Active)))
}

func ticketImportCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:   "import FILE --config FILE [--scope NAME] [--json]",
		Short: "Take in tickets from a CSV file, all or none",
		Long: `Import adds and changes tickets as a CSV file says (docs/hub-registry.md has the
columns; id alone is needed). A file with a mistake changes nothing; every mistake is
told with its line. The same file again changes nothing.
CSV からチケットを取り込みます。誤りが一つでもあれば何も変えません。`,
		Example: "  gate-hub ticket import tickets.csv --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) (err error) {
		f, err := os.Open(a[0])
		if err != nil {
			return err
		}
		defer f.Close() // only read
		r, err := s.registry.ImportTickets(cmd.Context(), by.by(), scope, f)
		if err != nil {
			return fileProblems(cmd, a[0], err)
		}
		return answer(cmd.OutOrStdout(), *asJSON, r, [][2]string{
			{"added", fmt.Sprint(r.Added)}, {"updated", fmt.Sprint(r.Updated)}, {"unchanged", fmt.Sprint(r.Unchanged)},
		}...)
	})
	return cmd
}

// fileProblems tells what is wrong with a file, line by line.
func fileProblems(cmd *cobra.Command, path string, err error) error {
	wrong, ok := errors.AsType[*registry.FileError](err)
	if !ok {
		return fmt.Errorf("%s: %w", path, err)
	}
	// What only the whole file shows, such as a ticket that comes twice, was found first.
	slices.SortStableFunc(wrong.Problems, func(a, b registry.Problem) int { return cmp.Compare(a.Line, b.Line) })
	for _, p := range wrong.Problems {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", path, p)
	}
	total := fmt.Sprintf("%d problems", wrong.Total)
	if wrong.Total == 1 {
		total = "1 problem"
	}
	return cli.RefusedError{Err: fmt.Errorf("%s: %s, nothing was imported", path, total)}
}

// A ticketReport is what ticket show prints. docs/cli.md lists its members.
type ticketReport struct {
	ID        string      `json:"id"`
	Status    string      `json:"status"`
	Holder    int64       `json:"holder"` // 0: nobody's
	Order     string      `json:"order"`
	NotBefore *time.Time  `json:"not_before"`
	NotAfter  *time.Time  `json:"not_after"`
	Gates     []string    `json:"gates"`
	Zones     []string    `json:"zones"`
	Uses      uint32      `json:"uses"`
	Cards     int         `json:"cards"`
	History   []doneEvent `json:"history"`
}

// A doneEvent is a line of a history.
type doneEvent struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Verb   string    `json:"verb"`
	Reason string    `json:"reason"`
}

func history(events []registry.Event) (all []doneEvent, lines [][2]string) {
	all = []doneEvent{}
	for _, e := range events {
		all = append(all, doneEvent{e.At, e.Actor, e.Verb, e.Reason})
		text := e.Verb + " by " + e.Actor
		if e.Reason != "" {
			text += ": " + e.Reason
		}
		lines = append(lines, [2]string{instant(e.At), text})
	}
	return all, lines
}

func ticketShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID --config FILE [--scope NAME] [--json]",
		Short:   "Print a ticket, whose it is, and what was done with it",
		Example: "  gate-hub ticket show T-000123 --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		t, err := s.registry.Ticket(cmd.Context(), scope, a[0])
		if err != nil {
			return err
		}
		events, err := s.registry.EntitlementHistory(cmd.Context(), scope, a[0])
		if err != nil {
			return err
		}
		r := ticketReport{
			ID: t.ID, Status: max(t.Status, whitelist.Active).String(), Holder: t.Holder, Order: t.Order,
			NotBefore: someTime(t.NotBefore), NotAfter: someTime(t.NotAfter), Gates: t.Gates, Zones: t.Zones, Uses: t.Uses,
		}
		if t.Holder != 0 {
			cards, err := s.registry.Credentials(cmd.Context(), t.Holder)
			if err != nil {
				return err
			}
			r.Cards = len(cards)
		}
		var done [][2]string
		r.History, done = history(events)
		holder := "nobody yet"
		if t.Holder != 0 {
			holder = fmt.Sprintf("%d, with %d cards", t.Holder, r.Cards)
		}
		return answer(cmd.OutOrStdout(), *asJSON, r, append([][2]string{
			{"ticket", r.ID}, {"status", r.Status}, {"holder", holder}, {"order", r.Order},
			{"from", instant(t.NotBefore)}, {"until", instant(t.NotAfter)},
			{"gates, zones", strings.Join(append(r.Gates, r.Zones...), ", ")},
		}, done...)...)
	})
	return cmd
}

func ticketTransferCommand() *cobra.Command {
	var to string
	var nobody bool
	var by doer
	cmd := &cobra.Command{
		Use:   "transfer ID --to REFERENCE | --to-nobody, --config FILE [--scope NAME] --reason WHY",
		Short: "Give a ticket to another holder, or back to nobody",
		Long: `Transfer gives a ticket to the holder whom the organiser knows by a reference, who
is added where there is none. What was used of the ticket stays used.`,
		Example: "  gate-hub ticket transfer T-000123 --to M-4711 --reason 'resold' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&to, "to", "", "reference of the new holder")
	cmd.Flags().BoolVar(&nobody, "to-nobody", false, "nobody's, until somebody registers a card with it")
	cmd.MarkFlagsMutuallyExclusive("to", "to-nobody")
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		switch {
		case nobody:
			return s.registry.Transfer(cmd.Context(), by.by(), scope, a[0], 0)
		case to == "":
			return cli.UsageError("give --to REFERENCE, or --to-nobody")
		}
		return s.registry.TransferTo(cmd.Context(), by.by(), scope, a[0], to)
	})
	return cmd
}

func ticketRefundCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:     "refund ID --config FILE [--scope NAME] --reason WHY",
		Short:   "Revoke a ticket whose money went back",
		Example: "  gate-hub ticket refund T-000123 --reason 'rain' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		return s.registry.Refund(cmd.Context(), by.by(), scope, a[0])
	})
	return cmd
}

// A ticketChange is what a verb does with a ticket.
type ticketChange func(r *registry.Registry, ctx context.Context, by registry.By, scope, id string) error

func ticketStatus(status whitelist.Status) ticketChange {
	return func(r *registry.Registry, ctx context.Context, by registry.By, scope, id string) error {
		return r.SetTicketStatus(ctx, by, scope, id, status)
	}
}

func ticketVerb(verb, short string, change ticketChange) *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:     verb + " ID --config FILE [--scope NAME] --reason WHY",
		Short:   short,
		Example: "  gate-hub ticket " + verb + " T-000123 --reason 'asked by the box office' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		return change(s.registry, cmd.Context(), by.by(), scope, a[0])
	})
	return cmd
}
