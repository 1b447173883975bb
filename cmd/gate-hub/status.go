package main

import (
	"errors"
	"fmt"
	"io/fs"
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
	Scope     string      `json:"scope"`
	Folder    string      `json:"folder"`
	List      *listReport `json:"list"` // in place; null when there is none
	Due       string      `json:"due"`  // why a list is due, "" when none is
	Pending   int         `json:"pending"`
	Terminals int         `json:"terminals"`
	SignsBy   string      `json:"signs_by"` // where the list key is
	Problem   string      `json:"problem"`
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
			x := scopeStatus{Scope: name}
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
	ctx, now := cmd.Context(), time.Now()
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
		x.List = &r
		if now.After(m.NotAfter) {
			x.Problem = "the list in place has ended"
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if x.Due, err = p.Due(ctx, now); err != nil {
		return err
	}
	if x.Pending, _, err = s.registry.Pending(ctx, x.Scope); err != nil {
		return err
	}
	terminals, err := s.registry.Terminals(ctx, x.Scope)
	for _, t := range terminals {
		if !t.Retired {
			x.Terminals++
		}
	}
	return err
}

func (x scopeStatus) lines() [][2]string {
	list := publish.ErrUnpublished.Error()
	if x.List != nil {
		list = fmt.Sprintf("%d of epoch %d, %d rows, until %s", x.List.Seq, x.List.Epoch, x.List.Rows, instant(x.List.NotAfter))
	}
	due := "no"
	if x.Due != "" {
		due = x.Due
	}
	lines := [][2]string{
		{"scope", x.Scope}, {"folder", x.Folder}, {"list", list}, {"due", due},
		{"pending", fmt.Sprintf("%d rows to look at", x.Pending)}, {"terminals", fmt.Sprint(x.Terminals)}, {"signed by", x.SignsBy},
	}
	if x.Problem != "" {
		lines = append(lines, [2]string{"PROBLEM", x.Problem})
	}
	return lines
}
