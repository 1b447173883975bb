package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyRotateCommand() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "rotate",
		Short: "Replace the external-authentication key while the gate works",
		Long: `Rotate replaces the external-authentication key of a terminal whose gate goes on
working. The new key (key generate, key request) and its certificates lie beside the
old ones until an instant; from it on every tap uses the new key. One command goes
back. A running agent takes over each step by itself.

  schedule   names the new key, its certificates and the instant
  status     says which key is in force, and whether both can sign
  back       puts the old key in force again, at once
  finish     ends it, when external_auth in the configuration names the key in force`,
	}, rotateScheduleCommand(), rotateStatusCommand(), rotateBackCommand(), rotateFinishCommand())
}

func rotateScheduleCommand() *cobra.Command {
	var (
		uri, from    string
		certificates []string
	)
	cmd := &cobra.Command{
		Use:   "schedule --config FILE --key URI --certificate FILE... --from INSTANT",
		Short: "Put a new key and its certificates beside the old ones, to be used from an instant on",
		Long: `Schedule opens the new key, has it sign, and checks that the certificates are a chain
for it, before anything is written. What was scheduled before is replaced, unless its
key is in force already: then finish, or go back, first.

--from is an instant with its zone, such as 2027-04-01T03:00:00+09:00, or "now".`,
		Example: "  gate-agent key rotate schedule --config /etc/gate-agent/config.toml --key 'tpm:device=/dev/tpmrm0;handle=81000011' --certificate new-intermediate.cvc --certificate new-terminal.cvc --from 2027-04-01T03:00:00+09:00",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&uri, "key", "", "URI of the new key (docs/keystore.md)")
	cmd.Flags().StringArrayVar(&certificates, "certificate", nil, "card-verifiable certificate, from the one that the card checks down to the terminal's; one flag for each")
	cmd.Flags().StringVar(&from, "from", "", `the instant of the switch, RFC 3339, or "now"`)
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		r, err := c.newRotation(uri, certificates, from)
		if err != nil {
			return err
		}
		keys, err := c.rotationKeys()
		if err != nil {
			return err
		}
		if old := keys.now.Load().rotating; old != nil && old.inForce(time.Now()) && !sameURI(old.Key, r.Key) {
			return errors.New("the key of an earlier rotation is in force: name it in external_auth and run key rotate finish, or go back with key rotate back")
		}
		if err := c.takeOver(keys, r); err != nil {
			return err
		}
		next := keys.now.Load().rotating
		if next == nil {
			return cli.UsageError("--key is the key that external_auth names: there is nothing to rotate")
		}
		if _, err := next.next.medium.Prove(); err != nil {
			return cli.ConfigError{Err: fmt.Errorf("--key: %w", err)}
		}
		if err := c.writeRotation(r); err != nil {
			return err
		}
		return printRotation(cmd.OutOrStdout(), keys, false)
	})
	return cmd
}

// newRotation takes in what was typed.
func (c *config) newRotation(uri string, certificates []string, from string) (*rotation, error) {
	r := &rotation{Format: rotationFormat, Key: uri}
	if err := wholePaths(uri); err != nil {
		return nil, cli.UsageError("--key: " + err.Error())
	}
	if err := c.checkKeyReader("--key", uri); err != nil {
		return nil, cli.UsageError(err.Error())
	}
	if len(certificates) == 0 {
		return nil, cli.UsageError("--certificate is missing: name the new card-verifiable certificates, in order")
	}
	for _, name := range certificates {
		b, err := readFile(name)
		if err != nil {
			return nil, cli.UsageError("--certificate: " + err.Error())
		}
		r.Certificates = append(r.Certificates, b)
	}
	switch from {
	case "":
		return nil, cli.UsageError(`--from is missing: name the instant of the switch, such as 2027-04-01T03:00:00+09:00, or "now"`)
	case "now":
		r.From = time.Now().UTC().Truncate(time.Second)
	default:
		at, err := time.Parse(time.RFC3339, from)
		if err != nil {
			return nil, cli.UsageError(fmt.Sprintf("--from %q: want an instant with its zone, such as 2027-04-01T03:00:00+09:00", from))
		}
		if at.Before(time.Now().Add(-time.Minute)) {
			return nil, cli.UsageError(fmt.Sprintf("--from %s is over: name an instant to come, or \"now\"", from))
		}
		r.From = at.UTC()
	}
	return r, nil
}

// rotationKeys opens the keys of method A, both of which must be there.
func (c *config) rotationKeys() (*terminalKeys, error) {
	profile, err := c.openProfile()
	if err != nil {
		return nil, err
	}
	keys, err := c.openTerminalKeys(profile)
	if err == nil && keys == nil {
		err = cli.ConfigError{Err: errors.New(`methods does not name "external-auth": there is no key to rotate`)}
	}
	return keys, err
}

func rotateStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status --config FILE [--json]",
		Short:   "Say which external-authentication key is in force, and which one follows",
		Example: "  gate-agent key rotate status --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		c.keys.patient = true // a key that is away is told
		keys, err := c.rotationKeys()
		if err != nil {
			return err
		}
		return printRotation(cmd.OutOrStdout(), keys, asJSON)
	})
	return cmd
}

func rotateBackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "back --config FILE",
		Short: "Put the old external-authentication key in force again, at once",
		Long: `Back puts the key of external_auth in force again. The new one stays where it is:
"key rotate schedule" names an instant anew.`,
		Example: "  gate-agent key rotate back --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		r, err := c.rotationUnderWay()
		if err != nil {
			return err
		}
		r.Back = true
		if err := c.writeRotation(r); err != nil {
			return err
		}
		c.keys.patient = true // the new key may be why
		keys, err := c.rotationKeys()
		if err != nil {
			return err
		}
		return printRotation(cmd.OutOrStdout(), keys, false)
	})
	return cmd
}

func (c *config) rotationUnderWay() (*rotation, error) {
	r, err := c.readRotation()
	if err == nil && r == nil {
		err = errors.New("there is no rotation: begin one with key rotate schedule")
	}
	return r, err
}

func rotateFinishCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "finish --config FILE",
		Short: "End a rotation whose outcome the configuration names",
		Long: `Finish ends a rotation: one whose new key external_auth names by now, or one that
was taken back. Otherwise it changes nothing, and says what to write into the
configuration. The key that is not needed any more is destroyed by key destroy.`,
		Example: "  gate-agent key rotate finish --config /etc/gate-agent/config.toml",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) error {
		r, err := c.rotationUnderWay()
		switch {
		case err != nil:
			return err
		case !r.Back && !sameURI(r.Key, c.ExternalAuth.Key):
			return fmt.Errorf("the new key is not in the configuration yet. Write its certificates to files, and into [external_auth]:\n\n  key = %q\n\nthen run key rotate finish again; or take it back first, with key rotate back", r.Key)
		}
		if !r.Back { // the certificates in the file are the last copy, perhaps
			keys, err := c.rotationKeys()
			if err != nil {
				return err
			}
			if _, err := keys.now.Load().configured.medium.Prove(); err != nil {
				return cli.ConfigError{Err: fmt.Errorf("external_auth.key: %w", err)}
			}
		}
		if err := c.writeRotation(nil); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "finished: the key of external_auth is in force")
		return err
	})
	return cmd
}

// A rotationReport is what key rotate status prints. docs/cli.md lists its members.
type rotationReport struct {
	InForce string       `json:"in_force"` // KCV
	Keys    []rotatedKey `json:"keys"`     // the configured one, and the one that follows
	From    *time.Time   `json:"from,omitempty"`
	State   string       `json:"state"` // none, scheduled, switched, back
}

type rotatedKey struct {
	Medium string `json:"medium"`
	Key    string `json:"key"` // KCV
	Signs  bool   `json:"signs"`
	Why    string `json:"why,omitempty"` // it does not
}

func reportRotation(k *terminalKeys, at time.Time) rotationReport {
	describe := func(t terminalKey) rotatedKey {
		d := rotatedKey{Medium: t.medium.URI().Scheme(), Key: kcvOf(t.medium), Signs: true}
		if _, err := t.medium.Prove(); err != nil {
			d.Signs, d.Why = false, err.Error()
		}
		return d
	}
	now := k.now.Load()
	report := rotationReport{InForce: kcvOf(k.at(at).medium), Keys: []rotatedKey{describe(now.configured)}, State: "none"}
	if r := now.rotating; r != nil {
		report.Keys = append(report.Keys, describe(r.next))
		report.From = &r.From
		switch {
		case r.Back:
			report.State = "back"
		case r.inForce(at):
			report.State = "switched"
		default:
			report.State = "scheduled"
		}
	}
	return report
}

func printRotation(w io.Writer, k *terminalKeys, asJSON bool) error {
	r := reportRotation(k, time.Now())
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	for i, key := range r.Keys {
		name, state := "configured", ""
		if i > 0 {
			name = "new"
		}
		if key.Key == r.InForce {
			state = ", in force"
		}
		signs := "signs"
		if !key.Signs {
			signs = "CANNOT SIGN: " + key.Why
		}
		fmt.Fprintf(w, "%-11s %s  %s%s, %s\n", name, key.Key, key.Medium, state, signs)
	}
	var err error
	switch at := ""; r.State {
	case "none":
		_, err = fmt.Fprintln(w, "no rotation")
	default:
		at = r.From.Local().Format("2006-01-02 15:04:05 MST")
		said := map[string]string{
			"scheduled": "the new key is used from " + at + " on; take it back with key rotate back",
			"switched":  "switched at " + at + "; go back with key rotate back, or name the new key in external_auth and run key rotate finish",
			"back":      "taken back: schedule it anew, or end it with key rotate finish",
		}[r.State]
		_, err = fmt.Fprintln(w, said)
	}
	return err
}
