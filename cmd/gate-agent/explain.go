package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

func explainCommand() *cobra.Command {
	var (
		of     question
		lane   string
		at     string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "explain --config FILE [--lane LABEL] [--order NUMBER | --certificate FILE | --reader NAME] [--at TIME] [--json]",
		Short: "Tell step by step what this gate would decide about somebody, and why",
		Long: `Explain tells step by step what this gate would decide: about an order, about the
holder of a certificate, or about the card that is put on the reader. It goes by the
list in force and the entries so far, also while the agent runs, and changes neither.
What it takes for granted it says. Speaks Japanese when LANG does.
入場の判定とその理由を順に表示します。記録は変わりません。`,
		Example: `  gate-agent explain --order ABC12 --config /etc/gate-agent/config.toml
  gate-agent explain --certificate card.der --at 2026-08-01T18:00:00+09:00 --config /etc/gate-agent/config.toml`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&lane, "lane", "", laneUsage)
	cmd.Flags().StringVar(&of.order, "order", "", "number of an order")
	cmd.Flags().StringVar(&of.certificate, "certificate", "", "a user-authentication certificate, DER or PEM")
	cmd.Flags().StringArrayVar(&of.readers, "reader", nil, "PC/SC reader of the card; default those of the configuration")
	cmd.Flags().DurationVar(&of.wait, "wait", 30*time.Second, "how long to wait for a card")
	cmd.Flags().StringVar(&at, "at", "", "what the clock shows, RFC 3339; default now")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.MarkFlagsMutuallyExclusive("order", "certificate", "reader")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.ValidateFlagGroups(); err != nil { // before cobra, for the exit code
			return cli.UsageError(err.Error())
		}
		return nil
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		l, err := c.laneOf(lane)
		if err != nil {
			return err
		}
		if l.Gate.Mode == terminal.Muster {
			return cli.RefusedError{Err: fmt.Errorf("gate.mode is %q: a shelter counts every genuine card, there is nothing to explain", l.Gate.Mode)}
		}
		clock := time.Now()
		if at != "" {
			if clock, err = time.Parse(time.RFC3339, at); err != nil {
				return cli.UsageError(fmt.Sprintf("--at %q: want a time such as 2026-08-01T18:00:00+09:00", at))
			}
		}
		if of.order == "" && of.certificate == "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "Waiting for a card … / カードをかざしてください")
		}
		about, err := of.subject(cmd.Context(), c, l)
		if err != nil {
			return err
		}
		e, err := c.explain(cmd.Context(), l, about, clock)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(e)
		}
		return e.print(cmd.OutOrStdout(), cli.InJapanese())
	})
	return cmd
}

// A question is about whom the gate would decide.
type question struct {
	order, certificate string
	readers            []string
	wait               time.Duration
}

// A subject is somebody whom the list may have a row for.
type subject struct {
	head        []byte         // what it has it under
	certificate *cardauth.Head // nil: an order
}

func (q question) subject(ctx context.Context, c *config, l laneConfig) (subject, error) {
	if q.order != "" {
		head, err := whitelist.OrderHead(q.order)
		if err != nil {
			return subject{}, cli.UsageError("--order: " + err.Error())
		}
		return subject{head: head}, nil
	}
	der, err := q.readCertificate(ctx, c, l)
	if err != nil {
		return subject{}, err
	}
	head, err := cardauth.ParseHead(der)
	if err != nil {
		return subject{}, cli.RefusedError{Err: fmt.Errorf("reading the certificate: %w", err)}
	}
	return subject{head.Bytes(), &head}, nil
}

func (q question) readCertificate(ctx context.Context, c *config, l laneConfig) ([]byte, error) {
	if q.certificate != "" {
		text, err := readFile(q.certificate)
		if err != nil {
			return nil, cli.UsageError("--certificate: " + err.Error())
		}
		if block, _ := pem.Decode(text); block != nil {
			return block.Bytes, nil
		}
		return text, nil
	}
	readers := q.readers
	if len(readers) == 0 {
		readers = l.Reader.Slots
	}
	w, err := c.cardWith(readers)
	if err != nil {
		return nil, err
	}
	report, err := w.read(ctx, q.wait)
	switch {
	case err != nil:
		return nil, err
	case report.PINRequired:
		return nil, cli.RefusedError{Err: errors.New("the certificate is behind the PIN, as on phones: no gate reads it, and it is denied as pin_required")}
	case report.Certificate == nil:
		return nil, cli.RefusedError{Err: errors.New(noCertificate)}
	}
	return report.Certificate, nil
}

// explain decides about somebody without writing anything, in the order of a tap.
func (c *config) explain(ctx context.Context, l laneConfig, about subject, clock time.Time) (e explanation, err error) {
	if _, err := os.Stat(c.path(c.State)); err != nil { // the store would make it
		return e, cli.RefusedError{Err: fmt.Errorf("no list: %w: import one", err)}
	}
	anchors, err := c.openAnchors()
	if err != nil {
		return e, err
	}
	store, err := c.openStore()
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	unusable := func(err error) error {
		return cli.RefusedError{Err: fmt.Errorf("the list in %s: %w", c.path(c.State), err)}
	}
	view, err := store.Current()
	if err != nil {
		return e, unusable(err)
	}
	defer view.Release()
	list := view.Manifest()
	row, notListed := view.Lookup(ctx, about.head)
	if notListed != nil && !errors.Is(notListed, whitelist.ErrNotListed) {
		return e, unusable(notListed)
	}
	histories, floor, err := c.recall(ctx, row)
	if err != nil {
		return e, err
	}
	f, method, noKey := c.lane(l, proof{anchors: anchors}).Suppose(row, list, clock, floor)
	if noKey != nil && !errors.Is(noKey, terminal.ErrNoKey) {
		return e, unusable(noKey)
	}
	f.Histories, f.Counted = histories, l.Gate.Driver == driverCounting || l.Gate.Sensor != (gate.SensorConfig{})
	if about.certificate == nil { // as Lane.AdmitOrder
		f.Vouched, f.HolderCheck = terminal.Staff{Name: "?", Role: terminal.Supervisor}, terminal.CheckNone
		method = terminal.ByOrder
	}
	e = explanation{
		At: clock.UTC(), ListEpoch: list.Epoch, ListSeq: list.Seq, CardID: view.CardID(about.head).String(),
		Method: string(method), HolderCheck: f.HolderCheck, shared: c.Hub.Connect,
	}
	if h := about.certificate; h != nil {
		expired := cardauth.CheckValidity(*h, f.Instant)
		from, to := h.Validity()
		if e.step("", "certificate", expired == nil, "valid %s to %s; now %s", localTime(from), localTime(to), localTime(f.Instant)); expired != nil {
			e.rule(terminal.Ruling{Reason: terminal.ReasonOf(expired)})
			return e, nil
		}
	}
	if e.step("", "listed", notListed == nil, "epoch %d, seq %d, %d rows", list.Epoch, list.Seq, list.Rows); notListed != nil {
		e.rule(terminal.Ruling{Reason: terminal.NotListed})
		return e, nil
	}
	if about.certificate != nil {
		if e.step("", "key", noKey == nil, "registered, or to be learnt, for %s", method); noKey != nil {
			e.rule(terminal.Ruling{Reason: terminal.NotListed})
			return e, nil
		}
	}
	ruling, steps := terminal.Explain(f)
	for _, s := range steps {
		e.step(s.Entitlement, s.Check, s.OK, "%s", s.Detail)
	}
	e.rule(ruling)
	return e, nil
}

// recall reads the histories of a row, and the greatest instant of the journal.
// Where there is no journal yet nobody has entered.
func (c *config) recall(ctx context.Context, row whitelist.Row) (histories []terminal.History, floor time.Time, err error) {
	r, err := journal.OpenReader(c.journalPath())
	if errors.Is(err, os.ErrNotExist) {
		return make([]terminal.History, len(row.Entitlements)), floor, nil
	}
	if err != nil {
		return nil, floor, journalError(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var entitlements []string
	for _, e := range row.Entitlements {
		entitlements = append(entitlements, e.ID)
	}
	histories, floor, err = r.Recall(ctx, entitlements...)
	if err != nil {
		err = journalError(err)
	}
	return histories, floor, err
}
