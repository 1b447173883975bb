package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// A statusReport is what status prints. docs/cli.md lists its members.
type statusReport struct {
	Name   string        `json:"name"`
	Scopes []scopeStatus `json:"scopes"`
}

type scopeStatus struct {
	Scope     string           `json:"scope"`
	Folder    string           `json:"folder"`
	List      *listReport      `json:"list"`       // in place; null when there is none
	ListAgeS  int64            `json:"list_age_s"` // seconds since it was made
	Due       string           `json:"due"`        // why a list is due, "" when none is
	Pending   int              `json:"pending"`
	All       bool             `json:"pending_all"`
	Ended     int              `json:"ended"` // cards that the next cleaning deletes
	Terminals int              `json:"terminals"`
	Leases    []terminalReport `json:"leases"`   // of these, whose ends first coming first
	SignsBy   string           `json:"signs_by"` // where the list key is
	// RevocationAsOf is up to when revocations are known, null when that is not known;
	// RevocationProblem is why gates rely on it no more, "" when they do.
	RevocationAsOf    *time.Time `json:"revocation_as_of"`
	RevocationProblem string     `json:"revocation_problem"`
	Problem           string     `json:"problem"`

	now time.Time
}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status --config FILE [--json]",
		Short:   "Tell what is published in each scope, and what is due",
		Example: "  gate-hub status --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = withSite(func(cmd *cobra.Command, s *site, _ []string) error {
		names, unread := s.scopes()
		report := statusReport{s.Name, []scopeStatus{}}
		var lines [][2]string
		for _, name := range names {
			x := scopeStatus{Scope: name, Leases: []terminalReport{}, now: time.Now()}
			if err := s.status(cmd, &x); err != nil {
				x.Problem = err.Error()
			}
			report.Scopes = append(report.Scopes, x)
			lines = append(lines, x.lines()...)
		}
		return errors.Join(answer(cmd.OutOrStdout(), *asJSON, report, lines...), unread)
	})
	return cmd
}

func (s *site) status(cmd *cobra.Command, x *scopeStatus) (err error) {
	ctx, now := cmd.Context(), x.now
	p, err := s.openPublisher(ctx, x.Scope, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	x.Folder = p.Folder.Path()
	x.SignsBy = p.config.ListKey
	if x.SignsBy == "" {
		x.SignsBy = "elsewhere"
	}
	switch m, _, _, err := p.Folder.Placed(); {
	case err == nil:
		r := reportList(m)
		x.List, x.ListAgeS = &r, int64(now.Sub(m.IssuedAt).Seconds())
		if now.After(m.NotAfter) {
			x.Problem = "the list in place has ended"
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if x.Due, err = p.Due(ctx, now); err != nil {
		return err
	}
	if x.Pending, x.All, err = s.registry.Pending(ctx, x.Scope); err != nil {
		return err
	}
	if err := s.revocations(ctx, x); err != nil {
		return err
	}
	keep := s.Serve.KeepExpired.Duration
	if keep == 0 {
		keep = keepExpired
	}
	if x.Ended, err = s.registry.Ended(ctx, x.Scope, now.Add(-keep)); err != nil {
		return err
	}
	terminals, err := s.registry.Terminals(ctx, x.Scope)
	if err != nil {
		return err
	}
	for _, t := range terminals {
		if t.Retired {
			continue
		}
		r, err := reportTerminal(t)
		if err != nil {
			return err
		}
		x.Leases = append(x.Leases, r)
	}
	x.Terminals = len(x.Leases)
	slices.SortStableFunc(x.Leases, func(a, b terminalReport) int { return a.end().Compare(b.end()) })
	return nil
}

// revocations says why gates cannot rely on what is known of revocations, as their list's
// policy has it, and what mends that.
func (s *site) revocations(ctx context.Context, x *scopeStatus) error {
	is, err := s.registry.Scope(ctx, x.Scope)
	if err != nil {
		return err
	}
	x.RevocationAsOf = someTime(is.RevocationAsOf)
	age, most := x.now.Sub(is.RevocationAsOf), is.Policy.RevocationMaxAge
	why := ""
	switch {
	case !is.RevocationAsOf.IsZero() && age > most:
		why = fmt.Sprintf("%s old, and policy.revocation_max_age allows %s", days(age), days(most))
	case is.RevocationAsOf.IsZero():
		cards, err := s.registry.Revocable(ctx, x.Scope)
		if err != nil {
			return err
		}
		if why = "never imported for every authority of its cards"; cards == 0 {
			why = "not known while no card is registered"
		}
	}
	if why != "" {
		x.RevocationProblem = fmt.Sprintf("%s: gates do as policy.stale_revocation says (%v). To mend it: gate-hub revocation import --crl FILE --scope %s --config %s", why, is.Policy.StaleRevocation, x.Scope, s.folder)
	}
	return nil
}

// days is a long time for people.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Truncate(time.Minute).String()
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// end is when a lease ends; those of whom none was issued come first.
func (r terminalReport) end() time.Time {
	if r.LeaseEnd == nil {
		return time.Time{}
	}
	return *r.LeaseEnd
}

// mostLeases is of how many terminals people are told one by one.
const mostLeases = 10

func (x scopeStatus) lines() [][2]string {
	list := publish.ErrUnpublished.Error()
	if x.List != nil {
		list = fmt.Sprintf("%d of epoch %d, %d rows, made %v ago, until %s", x.List.Seq, x.List.Epoch, x.List.Rows, time.Duration(x.ListAgeS)*time.Second, instant(x.List.NotAfter))
	}
	due := "no"
	if x.Due != "" {
		due = x.Due
	}
	pending := fmt.Sprintf("%d rows to look at", x.Pending)
	if x.All {
		pending = "all rows to look at"
	}
	lines := [][2]string{
		{"scope", x.Scope}, {"folder", x.Folder}, {"list", list}, {"due", due},
		{"pending", pending}, {"signed by", x.SignsBy}, {"terminals", fmt.Sprint(x.Terminals)},
	}
	for _, t := range x.Leases[:min(mostLeases, len(x.Leases))] {
		lines = append(lines, [2]string{"  " + t.Name, t.lease(x.now)})
	}
	if n := len(x.Leases) - mostLeases; n > 0 {
		lines = append(lines, [2]string{"  …", fmt.Sprintf("%d more, whose leases end later: gate-hub terminal list", n)})
	}
	if x.Ended > 0 {
		lines = append(lines, [2]string{"ended", fmt.Sprintf("%d cards, to be deleted by gate-hub serve, or gate-hub holder clean", x.Ended)})
	}
	var revocations []string
	if x.RevocationAsOf != nil {
		revocations = append(revocations, "known up to "+instant(*x.RevocationAsOf))
	}
	if x.RevocationProblem != "" {
		revocations = append(revocations, "AMBER: "+x.RevocationProblem)
	}
	if len(revocations) > 0 {
		lines = append(lines, [2]string{"revocations", strings.Join(revocations, "; ")})
	}
	if x.Problem != "" {
		lines = append(lines, [2]string{"PROBLEM", x.Problem})
	}
	return lines
}
