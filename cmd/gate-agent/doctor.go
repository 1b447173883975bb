package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func doctorCommand() *cobra.Command {
	var audit, asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor --config FILE [--audit] [--json]",
		Short: "Find out whether this terminal works, and whether it keeps the rules",
		Long: `Doctor looks whether this terminal works: keys, list, journal, clock, disk, readers,
the running agent. It changes nothing, and says for each fault what to do next.

With --audit it goes through docs/terminal-rules.md as well: a line for each rule that
a program can check, then a check list of the others for people to sign. What cannot be
checked, because something is off, is no success. Run it as the agent's user.
端末が正しく動くかを調べます。--audit は端末の規則の点検表も作ります。`,
		Example: "  gate-agent doctor --config /etc/gate-agent/config.toml --audit",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&audit, "audit", false, "check the rules of a terminal, and print the check list for people")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		path, _ := cmd.Flags().GetString("config")
		if path == "" {
			return cli.UsageError("no configuration: give --config FILE")
		}
		s, err := newSite(cmd.Context(), path)
		if err != nil {
			return err
		}
		d := s.diagnose(audit)
		if err := s.close(); err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(d)
		} else {
			err = d.print(cmd.OutOrStdout(), cli.InJapanese())
		}
		if err == nil && d.Summary.Failed > 0 {
			err = cli.ConfigError{Err: fmt.Errorf("%d of %d checks failed", d.Summary.Failed, d.Summary.OK+d.Summary.Warning+d.Summary.Failed)}
		}
		return err
	}
	return cmd
}

// A result is how a check ended.
type result string

const (
	isOK      result = "ok"
	isWarning result = "warning" // it works, and somebody should look
	isFailed  result = "failed"  // also what could not be checked
	isExempt  result = "does_not_apply"
	isPeoples result = "people" // a program cannot check it
)

// shown is how people see a result.
func (r result) shown() string {
	switch r {
	case isFailed:
		return "FAILED"
	case isExempt:
		return "does not apply"
	}
	return string(r)
}

// A finding is what a check found: never a card, a person or a secret.
type finding struct {
	Result   result `json:"result"`
	Evidence string `json:"evidence"`
	Next     string `json:"next"`
}

// The page of an inspection.
type (
	diagnosis struct {
		Terminal string        `json:"terminal"` // "" when the configuration cannot be read
		At       time.Time     `json:"at"`
		Checks   []checkResult `json:"checks"`
		Rules    []ruleResult  `json:"rules"` // empty without --audit
		Summary  summary       `json:"summary"`
	}
	checkResult struct {
		Check string `json:"check"`
		finding
	}
	ruleResult struct {
		Rule    string `json:"rule"`
		Title   string `json:"title"`
		TitleJA string `json:"title_ja"`
		Checker string `json:"checker"` // "people", or a check
		finding
	}
	// A summary counts checks and rules.
	summary struct {
		OK           int `json:"ok"`
		Warning      int `json:"warning"`
		Failed       int `json:"failed"`
		DoesNotApply int `json:"does_not_apply"`
		People       int `json:"people"`
	}
)

func (s *summary) count(r result) {
	switch r {
	case isOK:
		s.OK++
	case isWarning:
		s.Warning++
	case isExempt:
		s.DoesNotApply++
	case isPeoples:
		s.People++
	default:
		s.Failed++
	}
}

// diagnose makes every check once, though a rule may ask for the same again.
func (s *site) diagnose(audit bool) diagnosis {
	d := diagnosis{At: s.now.UTC().Truncate(time.Second), Checks: []checkResult{}, Rules: []ruleResult{}}
	if s.c != nil {
		d.Terminal = s.c.Terminal
	}
	found := make(map[string]finding)
	look := func(name string) finding {
		f, done := found[name]
		if !done {
			f = s.examine(name)
			found[name] = f
		}
		return f
	}
	for _, name := range healthChecks() {
		d.Checks = append(d.Checks, checkResult{name, look(name)})
		d.Summary.count(found[name].Result)
	}
	if !audit {
		return d
	}
	for _, r := range terminalRules() {
		f, checker := finding{Result: isPeoples}, "people"
		if r.check != "" {
			f, checker = look(r.check), r.check
		}
		d.Rules = append(d.Rules, ruleResult{r.number, r.en, r.ja, checker, f})
		d.Summary.count(f.Result)
	}
	return d
}

// text is evidence and next step in a line.
func (f finding) text() string {
	if f.Next == "" {
		return f.Evidence
	}
	return f.Evidence + "  — " + f.Next
}

func (d diagnosis) print(out io.Writer, japanese bool) error {
	var w strings.Builder
	for _, c := range d.Checks {
		fmt.Fprintf(&w, "%-8s %-14s %s\n", c.Result.shown(), c.Check, c.text())
	}
	if len(d.Rules) > 0 {
		d.printRules(&w, japanese)
	}
	s := d.Summary
	fmt.Fprintf(&w, "\n%d ok, %d warning, %d FAILED", s.OK, s.Warning, s.Failed)
	if len(d.Rules) > 0 {
		fmt.Fprintf(&w, ", %d do not apply, %d for people", s.DoesNotApply, s.People)
	}
	fmt.Fprintln(&w)
	_, err := io.WriteString(out, w.String())
	return err
}

// printRules prints what the program found, and a check list of the rest.
func (d diagnosis) printRules(w io.Writer, japanese bool) {
	fmt.Fprintf(w, "\nRules of a terminal (docs/terminal-rules.md) / 端末の規則\n%s, %s\n\n", d.Terminal, localTime(d.At))
	for _, r := range d.Rules {
		if r.Result == isPeoples {
			continue
		}
		title := r.Title
		if japanese {
			title = r.TitleJA
		}
		fmt.Fprintf(w, "%s  %-14s  %s [%s] %s\n", r.Rule, r.Result.shown(), title, r.Checker, r.text())
	}
	fmt.Fprint(w, "\nFor people to check and sign / 人が確かめて署名する項目\n\n")
	for _, r := range d.Rules {
		if r.Result == isPeoples {
			fmt.Fprintf(w, "[ ] %s  %s\n          %s\n", r.Rule, r.TitleJA, r.Title)
		}
	}
	for range 2 { // the second one looks at what the first one did
		fmt.Fprint(w, "\nName / 氏名 ____________________  Date / 日付 ______________  Signature / 署名 ____________________\n")
	}
}
