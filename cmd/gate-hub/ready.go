package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/whitelist"
)

// How old a heartbeat may be, which comes every 15 s, and how far a clock off, for
// a gate to be ready.
const (
	readyWithin = time.Minute
	readyOffset = 5 * time.Second
)

// errNotReady says that a gate is not; the answer has said which.
var errNotReady = errors.New("not ready")

// A readyReport is what ready prints. docs/cli.md lists its members.
type readyReport struct {
	Scope     string          `json:"scope"`
	ListEpoch uint64          `json:"list_epoch"` // that all have to hold
	ListSeq   uint64          `json:"list_seq"`
	Ready     bool            `json:"ready"`
	Terminals []terminalReady `json:"terminals"`
}

type terminalReady struct {
	Terminal string   `json:"terminal"`
	Ready    bool     `json:"ready"`
	Why      []string `json:"why"` // why it is not
}

func readyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ready [--scope SCOPE] [--json]",
		Short: "Tell whether every gate of a venue could open now",
		Long: `Ready asks of each terminal in force whether it was heard within a minute, holds the
newest list, has keys that sign, readers that read, a clock that is right, and a journal
that comes in. One line each, one verdict; it ends with 1 unless all are ready.
全ゲートが最新の名簿、鍵、リーダー、時計を備えているかを判定します。`,
		Example: "  gate-hub ready --config /var/lib/gate-hub --scope arena-2026 && echo open the doors",
		Args:    cli.Args(cobra.NoArgs),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		return withEvents(func(ctx context.Context, s *site, e *ingest.Store, scope string) error {
			r, err := s.ready(ctx, e, scope, time.Now())
			if err != nil {
				return err
			}
			if *asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			} else {
				err = r.print(cmd.OutOrStdout())
			}
			if err == nil && !r.Ready {
				err = errNotReady
			}
			return err
		})(cmd.Context(), s, scope)
	})
	return cmd
}

func (s *site) ready(ctx context.Context, e *ingest.Store, scope string, at time.Time) (r readyReport, err error) {
	m, err := s.placed(scope)
	if err != nil {
		return r, err
	}
	all, err := s.terminalsOf(ctx, e, scope)
	if err != nil {
		return r, err
	}
	r = readyReport{scope, m.Epoch, m.Seq, len(all) > 0, []terminalReady{}}
	for _, t := range all {
		why := unready(t, m, at)
		r.Terminals = append(r.Terminals, terminalReady{t.Name, len(why) == 0, why})
		r.Ready = r.Ready && len(why) == 0
	}
	return r, nil
}

// placed is the manifest that is served; of no list it is the zero Manifest.
func (s *site) placed(scope string) (m whitelist.Manifest, err error) {
	f, err := s.openFolder(scope)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m, _, _, err = f.Placed()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return m, err
}

// unready is why a terminal could not open its gate at an instant, by its last
// heartbeat; nothing says that it could.
func unready(t ingest.Terminal, m whitelist.Manifest, at time.Time) []string {
	why := []string{}
	say := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	if t.HealthAt.IsZero() {
		return append(why, "never heard")
	}
	h := t.Health
	if ago := at.Sub(t.HealthAt); ago > readyWithin {
		say("not heard for %v", ago.Round(time.Second))
	}
	switch {
	case m.Seq == 0:
		say("no list was published")
	case h.List == nil:
		say("it has no list")
	case h.List.Epoch != m.Epoch || h.List.Seq < m.Seq:
		say("its list is %d of epoch %d, the newest is %d of epoch %d", h.List.Seq, h.List.Epoch, m.Seq, m.Epoch)
	}
	for _, k := range h.KeysLost {
		say("key %s cannot sign", k)
	}
	if len(h.Lanes) == 0 {
		say("it has no lane")
	}
	for _, l := range h.Lanes {
		if !l.Reader {
			say("the reader of lane %s cannot read", l.Lane)
		}
	}
	if !h.ClockTrusted {
		say("its clock is not trusted")
	}
	if t.Offset.Abs() > readyOffset {
		say("its clock is off by %v", t.Offset)
	}
	if !t.Clone.IsZero() {
		say("its journal is that of a clone")
	}
	if h.Alarm != "" {
		say("it sends no events: %s", h.Alarm)
	}
	return why
}

func (r readyReport) print(w io.Writer) error {
	var out strings.Builder
	ready := 0
	for _, t := range r.Terminals {
		if t.Ready {
			ready++
			fmt.Fprintf(&out, "ready      %s\n", shown(t.Terminal))
		} else {
			fmt.Fprintf(&out, "NOT READY  %s: %s\n", shown(t.Terminal), shown(strings.Join(t.Why, "; ")))
		}
	}
	verdict := "NOT READY / 準備未完了"
	if r.Ready {
		verdict = "READY / 準備完了"
	}
	fmt.Fprintf(&out, "%s: %d of %d terminals, list %d of epoch %d\n", verdict, ready, len(r.Terminals), r.ListSeq, r.ListEpoch)
	_, err := io.WriteString(w, out.String())
	return err
}
