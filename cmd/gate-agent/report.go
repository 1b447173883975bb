package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func musterReportCommand() *cobra.Command {
	var asJSON, asCSV bool
	cmd := &cobra.Command{
		Use:   "report --config FILE [--json|--csv]",
		Short: "Tell who is at the shelter, who has left, and who of the list has not come",
		Long: `Report counts who is at the shelter and who has left, and the tokens that are not
merged. With --json or --csv it names them, and who of the list has not come, by
pseudonyms: whoever made the list knows whose they are. It works beside a running
agent and changes nothing. 在所者・退所者・未到着者を集計します。`,
		Example: `  gate-agent muster report --config /etc/gate-agent/config.toml
  gate-agent muster report --config /etc/gate-agent/config.toml --csv > report.csv`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print a row for each person")
	report := withJournal(func(cmd *cobra.Command, c *config, r *journal.Reader) error {
		all, err := r.Presences(cmd.Context())
		if err != nil {
			return err
		}
		m := newMuster(time.Now(), all)
		if err := c.missing(cmd.Context(), &m); err != nil {
			return err
		}
		if asJSON || asCSV {
			fmt.Fprintln(cmd.ErrOrStderr(), personal)
		}
		switch w := cmd.OutOrStdout(); {
		case asJSON:
			return json.NewEncoder(w).Encode(m)
		case asCSV:
			return m.writeCSV(w)
		default:
			return printLines(w, m.lines())
		}
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if asJSON && asCSV {
			return cli.UsageError("--json and --csv: want one of them")
		}
		return report(cmd, args)
	}
	return cmd
}

// muster is what muster report prints. docs/cli.md lists its members.
type muster struct {
	At      time.Time `json:"at"`
	Present uint64    `json:"present"` // tokens among them
	Left    uint64    `json:"left"`
	InDoubt uint64    `json:"in_doubt"`
	Unnamed uint64    `json:"unnamed"` // let in by staff, counted to nobody

	People []mustered    `json:"people"`
	Tokens []musterToken `json:"tokens"` // that are not merged

	CardsForgotten uint64      `json:"cards_forgotten"` // people whose card is no longer known
	List           *musterList `json:"list"`            // null: none can be read
	ListProblem    string      `json:"list_problem,omitempty"`
	NotArrived     []string    `json:"not_arrived"`
}

// mustered is somebody who came.
type mustered struct {
	State       string    `json:"state"`
	Entitlement string    `json:"entitlement"`
	CardIDs     []string  `json:"card_ids"`
	Since       time.Time `json:"since"`
}

type musterToken struct {
	Token       uint32    `json:"token"`
	Reservation uint64    `json:"reservation"`
	Since       time.Time `json:"since"`
}

type musterList struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
	Rows  uint64 `json:"rows"`
}

// States of people.
const (
	isPresent = "present"
	hasLeft   = "left"
	isInDoubt = "in_doubt"
	isToken   = "token"
	isMissing = "not_arrived"
)

// newMuster counts who came, each entitlement once, whatever it came by.
func newMuster(at time.Time, all []journal.Presence) muster {
	m := muster{At: at.UTC().Truncate(time.Second), People: []mustered{}, Tokens: []musterToken{}, NotArrived: []string{}}
	for _, p := range all {
		token := terminal.TokenOf(p.Entitlement)
		switch {
		case !p.Came():
			continue
		case p.Entitlement == "":
			m.Unnamed += p.Inside()
			continue
		}
		m.Present += p.Inside()
		m.InDoubt += p.Doubtful
		if token > 0 {
			m.Tokens = append(m.Tokens, musterToken{token, uint64(p.Reservation), p.Last})
			continue
		}
		person := mustered{hasLeft, p.Entitlement, p.Cards, p.Last}
		switch {
		case p.Doubtful > 0:
			person.State = isInDoubt
		case p.Inside() > 0:
			person.State = isPresent
		default:
			m.Left++
		}
		if card := terminal.CardOf(p.Entitlement); card != "" {
			person.CardIDs = []string{card}
		}
		if len(person.CardIDs) == 0 {
			person.CardIDs = []string{}
			m.CardsForgotten++
		}
		m.People = append(m.People, person)
	}
	return m
}

// missing finds who of the list has not come. Whatever is wrong with the list is
// no reason to say nothing of who is there.
func (c *config) missing(ctx context.Context, m *muster) (err error) {
	problem := func(err error) error {
		m.List, m.NotArrived, m.ListProblem = nil, []string{}, err.Error()
		return ctx.Err()
	}
	store, err := c.openStore()
	if err != nil {
		return problem(err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	list, err := manifestOf(store)
	if err != nil {
		return problem(err)
	}
	m.List = &musterList{list.Epoch, list.Seq, list.Rows}
	came := make(map[string]bool)
	for _, p := range m.People {
		for _, card := range p.CardIDs {
			came[card] = true
		}
	}
	for id, err := range store.CardIDs(ctx) {
		if err != nil {
			return problem(err)
		}
		if card := id.String(); !came[card] {
			m.NotArrived = append(m.NotArrived, card)
		}
	}
	return nil
}

func (m muster) lines() [][2]string {
	missing := "not known: " + m.ListProblem
	if m.List != nil {
		missing = fmt.Sprintf("%d of the %d rows of the list / 名簿の未到着", len(m.NotArrived), m.List.Rows)
	}
	lines := [][2]string{
		{"at", localTime(m.At)},
		{"present", fmt.Sprintf("%d / 在所", m.Present)},
		{"left", fmt.Sprintf("%d / 退所", m.Left)},
		{"in doubt", fmt.Sprintf("%d / 確認が必要", m.InDoubt)},
		{"tokens", fmt.Sprintf("%d of those present / 番号札", len(m.Tokens))},
	}
	for _, t := range m.Tokens {
		lines = append(lines, [2]string{"", fmt.Sprintf("token %d, reservation %d, since %s", t.Token, t.Reservation, localTime(t.Since))})
	}
	if m.Unnamed > 0 {
		lines = append(lines, [2]string{"unnamed", fmt.Sprintf("%d let in by staff, beside those present / 係員が通した人", m.Unnamed)})
	}
	if m.CardsForgotten > 0 {
		lines = append(lines, [2]string{"forgotten", fmt.Sprintf("by which card %d of them came: they may be among those not arrived", m.CardsForgotten)})
	}
	return append(lines, [2]string{"not arrived", missing})
}

// writeCSV writes a row for each person, as RFC 4180 has it.
func (m muster) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	row := func(state, entitlement, cards, token, reservation, since string) {
		_ = c.Write([]string{state, journal.Plain(entitlement), cards, token, reservation, since}) // Error tells
	}
	row("state", "entitlement", "card_ids", "token", "reservation", "since")
	for _, p := range m.People {
		row(p.State, p.Entitlement, strings.Join(p.CardIDs, " "), "", "", p.Since.Format(time.RFC3339))
	}
	for _, t := range m.Tokens {
		row(isToken, "", "", fmt.Sprint(t.Token), fmt.Sprint(t.Reservation), t.Since.Format(time.RFC3339))
	}
	for _, card := range m.NotArrived {
		row(isMissing, "", card, "", "", "")
	}
	c.Flush()
	return c.Error()
}
