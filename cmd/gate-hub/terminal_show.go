package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/hub/terminals"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// A terminalReport is what terminal show prints, and a line of terminal list and
// status. docs/cli.md lists its members.
type terminalReport struct {
	Name     string      `json:"name"`
	Identity string      `json:"identity"` // KCV
	Delivery string      `json:"delivery"` // KCV; "" where it has none
	Retired  bool        `json:"retired"`
	LeasedAt *time.Time  `json:"leased_at"`    // null: no lease was issued
	LeaseEnd *time.Time  `json:"lease_ends"`   // of the last one
	Command  uint64      `json:"last_command"` // number, 0 for none
	History  []doneEvent `json:"history,omitempty"`

	Heartbeat *bus.Beat `json:"heartbeat,omitempty"` // the last one that the running hub has
}

// contact says in words when a terminal was last heard.
func (r terminalReport) contact(now time.Time) string {
	b := r.Heartbeat
	if b == nil {
		return "not heard of"
	}
	text := fmt.Sprintf("heard %v ago", now.Sub(b.Received).Truncate(time.Second))
	if l := b.Health.List; l != nil {
		text += fmt.Sprintf(", list %d", l.Seq)
	} else {
		text += ", NO LIST"
	}
	if o := time.Duration(b.OffsetMS) * time.Millisecond; o.Abs() > 2*time.Second {
		text += fmt.Sprintf(", CLOCK %v off", o.Truncate(time.Second))
	}
	return text
}

func reportTerminal(t registry.Terminal) (r terminalReport, err error) {
	failed := func(err error) (terminalReport, error) { return r, fmt.Errorf("terminal %q: %w", t.Name, err) }
	r = terminalReport{Name: t.Name, Retired: t.Retired}
	public, err := x509.ParsePKIXPublicKey(t.Identity)
	if err != nil {
		return failed(err)
	}
	if r.Identity, err = keystore.KCV(public); err != nil {
		return failed(err)
	}
	if len(t.Delivery) > 0 {
		if r.Delivery, err = deliveryKCV(t.Delivery); err != nil {
			return failed(err)
		}
	}
	s, err := terminals.StandingOf(t)
	if err != nil {
		return r, err
	}
	if r.Command = s.Command; !s.IssuedAt.IsZero() {
		r.LeasedAt, r.LeaseEnd = &s.IssuedAt, &s.NotAfter
	}
	return r, nil
}

// lease says in words until when a terminal has the scope key.
func (r terminalReport) lease(now time.Time) string {
	switch end := r.LeaseEnd; {
	case end == nil && r.Delivery == "":
		return "no delivery key"
	case end == nil:
		return "no lease yet"
	case now.After(*end):
		return "lease ENDED on " + instant(*end)
	default:
		return fmt.Sprintf("lease ends %s, in %v", instant(*end), end.Sub(now).Truncate(time.Minute))
	}
}

func (r terminalReport) text(now time.Time) string {
	text := r.Identity + ", "
	if r.Delivery != "" {
		text += "delivery key " + r.Delivery + ", "
	}
	text += r.lease(now)
	if r.Retired {
		text += ", RETIRED"
	}
	return text
}

func terminalListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list --config FILE [--scope NAME] [--json]",
		Short:   "List the terminals of a scope, and when their leases end",
		Example: "  gate-hub terminal list --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		found, err := s.registry.Terminals(cmd.Context(), scope)
		if err != nil {
			return err
		}
		all, now := []terminalReport{}, time.Now()
		beats, err := s.beats(cmd.Context(), scope)
		running := err == nil
		if err != nil && !errors.Is(err, errNoHub) {
			return err
		}
		var lines [][2]string
		for _, t := range found {
			r, err := reportTerminal(t)
			if err != nil {
				return err
			}
			text := r.text(now)
			if b, ok := beats[r.Name]; ok {
				r.Heartbeat = &b
			}
			if running && !r.Retired {
				text += ", " + r.contact(now)
			}
			all = append(all, r)
			lines = append(lines, [2]string{r.Name, text})
		}
		tokens, told, err := s.tokens(cmd.Context(), scope, now)
		if err != nil {
			return err
		}
		return answer(cmd.OutOrStdout(), *asJSON, map[string]any{"scope": scope, "terminals": all, "tokens": tokens}, append(lines, told...)...)
	})
	return cmd
}

func terminalShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME --config FILE [--scope NAME] [--json]",
		Short:   "Show a terminal: its keys, its lease, and what was done with it",
		Example: "  gate-hub terminal show gate-1 --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		t, err := s.registry.Terminal(cmd.Context(), scope, a[0])
		if err != nil {
			return err
		}
		r, err := reportTerminal(t)
		if err != nil {
			return err
		}
		events, err := s.registry.TerminalHistory(cmd.Context(), scope, t.Name)
		if err != nil {
			return err
		}
		beats, err := s.beats(cmd.Context(), scope)
		if err != nil && !errors.Is(err, errNoHub) {
			return err
		}
		if b, ok := beats[r.Name]; ok {
			r.Heartbeat = &b
		}
		lines := [][2]string{{"terminal", r.Name}, {"identity key", r.Identity}, {"delivery key", r.Delivery}, {"lease", r.lease(time.Now())}, {"last command", fmt.Sprint(r.Command)}}
		if r.Heartbeat != nil {
			lines = append(lines, [2]string{"contact", r.contact(time.Now())})
		}
		if r.Retired {
			lines = append(lines, [2]string{"RETIRED", "it registers no cards and gets no lease"})
		}
		var done [][2]string
		r.History, done = history(events)
		return answer(cmd.OutOrStdout(), *asJSON, r, append(lines, done...)...)
	})
	return cmd
}
