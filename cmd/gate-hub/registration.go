package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
)

func registrationCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "registration", Short: "Records of cards that terminals registered"}, registrationImportCommand())
}

// A recordReport is what registration import prints for each record.
// docs/cli.md lists its members.
type recordReport struct {
	File       string `json:"file"`
	Credential int64  `json:"credential"`
	Holder     int64  `json:"holder"`
	Ticket     string `json:"ticket"`
	Renewed    bool   `json:"renewed"`
	Unchanged  bool   `json:"unchanged"`
	Problem    string `json:"problem"`
}

func registrationImportCommand() *cobra.Command {
	var options registry.RecordOptions
	var maxAge time.Duration
	var by doer
	cmd := &cobra.Command{
		Use:   "import FILE... --config FILE [--scope NAME] [--renew] [--link] [--keep] [--json]",
		Short: "Verify records of registrations again, and add their cards",
		Long: `Import verifies each record from its first byte to its last: the signature of a
terminal in force, the card's certificate and proof, its card key, its age. Then it
adds the card to the holder whom its ticket names. A record that is refused stops
no other; the command then ends with 4. The same record again changes nothing.`,
		Example: "  gate-hub registration import records/*.cose --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.MinimumNArgs(1)),
	}
	cmd.Flags().BoolVar(&options.Renew, "renew", false, "a card that is registered under another certificate takes over its holder, and that one is retired")
	cmd.Flags().BoolVar(&options.Link, "link", false, "a card joins the holder of its ticket who has a card already: the desk says that it is one person")
	cmd.Flags().BoolVar(&options.Keep, "keep", false, "keep the record, which is personal data")
	cmd.Flags().DurationVar(&maxAge, "max-age", 7*24*time.Hour, "how old a record may be")
	by.flags(cmd)
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		trust, err := s.registrationTrust(cmd.Context(), scope, maxAge)
		if err != nil {
			return err
		}
		refused := 0
		for _, path := range a {
			r := recordReport{File: path}
			record, err := smallfile.Read(path, sign1.MaxSize, 0)
			var in registry.RecordReport
			if err == nil {
				in, err = s.registry.ImportRecord(cmd.Context(), by.by(), trust, record, options)
			}
			if cmd.Context().Err() != nil {
				return err
			}
			if err != nil {
				r.Problem = err.Error()
				refused++
			} else {
				r.Credential, r.Holder, r.Ticket, r.Renewed, r.Unchanged = in.Credential.ID, in.Credential.Holder, in.Ticket, in.Renewed, in.Unchanged
			}
			if err := answer(cmd.OutOrStdout(), *asJSON, r, [2]string{path, r.words()}); err != nil {
				return err
			}
		}
		if refused > 0 {
			return cli.RefusedError{Err: fmt.Errorf("%d of %d records were not imported", refused, len(a))}
		}
		return nil
	})
	return cmd
}

func (r recordReport) words() string {
	switch {
	case r.Problem != "":
		return "REFUSED: " + r.Problem
	case r.Unchanged:
		return "imported before"
	case r.Renewed:
		return fmt.Sprintf("card %d renewed, of holder %d", r.Credential, r.Holder)
	}
	return fmt.Sprintf("card %d of holder %d", r.Credential, r.Holder)
}
