package main

import (
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/whitelist"
)

func cardCommand() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "card",
		Short: "Registered cards, phones and SIMs, by their certificates",
		Long:  "A card is named by the file of its user-authentication certificate, DER or PEM.",
	}, cardShowCommand(), cardLinkCommand(), cardRenewCommand(), cardRetireCommand(),
		cardStatusCommand("revoke", "Withdraw a registration", whitelist.Revoked),
		cardStatusCommand("block", "Let a card open nothing until it is reinstated", whitelist.Blocked),
		cardStatusCommand("reinstate", "Let a card that was blocked or revoked open gates again", whitelist.Active))
}

// readCard reads a certificate.
func readCard(path string) (registry.Credential, error) {
	b, err := smallfile.Read(path, maxFile, 0)
	if err != nil {
		return registry.Credential{}, err
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	var certificate asn1.RawValue // what a card gives may have filler behind it
	if _, err := asn1.Unmarshal(b, &certificate); err != nil {
		return registry.Credential{}, cli.RefusedError{Err: fmt.Errorf("%s: no certificate, DER or PEM", path)}
	}
	c, err := registry.NewCredential(certificate.FullBytes)
	if err != nil {
		return c, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return c, nil
}

// A cardReport is what card show prints. docs/cli.md lists its members.
type cardReport struct {
	Credential int64       `json:"credential"`
	Holder     int64       `json:"holder"`
	Status     string      `json:"status"`
	Issuer     string      `json:"issuer"` // what the issuer says
	Retired    bool        `json:"retired"`
	Replaces   int64       `json:"replaces"`
	NotAfter   time.Time   `json:"not_after"`
	CardKey    bool        `json:"card_key"`
	Tickets    []string    `json:"tickets"`
	History    []doneEvent `json:"history"`
}

func cardShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show CERTIFICATE --config FILE [--scope NAME] [--json]",
		Short:   "Print what the registry knows of a card, and what was done with it",
		Example: "  gate-hub card show alice.pem --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		c, err := readCard(a[0])
		if err != nil {
			return err
		}
		if c, err = s.registry.Credential(cmd.Context(), scope, c.Head); err != nil {
			return err
		}
		tickets, err := s.registry.Tickets(cmd.Context(), c.Holder)
		if err != nil {
			return err
		}
		events, err := s.registry.CredentialHistory(cmd.Context(), c.ID)
		if err != nil {
			return err
		}
		r := cardReport{
			Credential: c.ID, Holder: c.Holder, Status: c.Status.String(), Issuer: c.Issued.String(), Retired: c.Retired, Replaces: c.Replaces,
			NotAfter: c.NotAfter, CardKey: !c.CardKey.IsZero(), Tickets: []string{},
		}
		lines := [][2]string{
			{"card", fmt.Sprintf("%d of holder %d", r.Credential, r.Holder)}, {"status", r.Status}, {"issuer says", r.Issuer},
			{"certificate ends", instant(r.NotAfter)},
		}
		if r.Retired {
			lines = append(lines, [2]string{"retired", "renewed, lost or given up: its key may be registered again"})
		}
		for _, t := range tickets {
			r.Tickets = append(r.Tickets, t.ID)
			lines = append(lines, [2]string{"ticket", t.ID + ", " + max(t.Status, whitelist.Active).String()})
		}
		var done [][2]string
		r.History, done = history(events)
		return answer(cmd.OutOrStdout(), *asJSON, r, append(lines, done...)...)
	})
	return cmd
}

func cardLinkCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:   "link CERTIFICATE OTHER --config FILE [--scope NAME] --reason WHY",
		Short: "Join the holders of two cards, who are one person",
		Long: `Link says that two cards, such as a My Number card and a SIM, are of one person: what
the holder of the second has becomes that of the first's, and every ticket opens
with both. It cannot be undone.`,
		Example: "  gate-hub card link alice.pem alice-sim.pem --reason 'shown at the desk' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(2)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		var holders [2]int64
		for i, path := range a {
			c, err := readCard(path)
			if err == nil {
				c, err = s.registry.Credential(cmd.Context(), scope, c.Head)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			holders[i] = c.Holder
		}
		return s.registry.Link(cmd.Context(), by.by(), scope, holders[0], holders[1])
	})
	return cmd
}

func cardRenewCommand() *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:   "renew OLD NEW --config FILE [--scope NAME] --reason WHY",
		Short: "Let a card's new certificate take the place of its old one",
		Long: `Renew says that a certificate has taken the place of another on the same card: it
has the old one's card key, holder and tickets, and the old one is retired. Nobody
has proved that here; a registration does (gate-hub registration import --renew).`,
		Example: "  gate-hub card renew alice-2025.pem alice-2030.pem --reason 'renewed at the town hall' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(2)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		old, err := readCard(a[0])
		if err != nil {
			return err
		}
		if old, err = s.registry.Credential(cmd.Context(), scope, old.Head); err != nil {
			return fmt.Errorf("%s: %w", a[0], err)
		}
		fresh, err := readCard(a[1])
		if err != nil {
			return err
		}
		fresh.CardKey, fresh.BirthDate = old.CardKey, old.BirthDate
		_, err = s.registry.RenewCredential(cmd.Context(), by.by(), scope, old.Head, fresh)
		return err
	})
	return cmd
}

func cardRetireCommand() *cobra.Command {
	return cardVerb("retire", "Give a card up for good: its key may be registered again", func(cmd *cobra.Command, s *site, by registry.By, scope string, head []byte) error {
		return s.registry.RetireCredential(cmd.Context(), by, scope, head)
	})
}

func cardStatusCommand(verb, short string, status whitelist.Status) *cobra.Command {
	return cardVerb(verb, short, func(cmd *cobra.Command, s *site, by registry.By, scope string, head []byte) error {
		return s.registry.SetCredentialStatus(cmd.Context(), by, scope, head, status)
	})
}

func cardVerb(verb, short string, do func(cmd *cobra.Command, s *site, by registry.By, scope string, head []byte) error) *cobra.Command {
	var by doer
	cmd := &cobra.Command{
		Use:     verb + " CERTIFICATE --config FILE [--scope NAME] --reason WHY",
		Short:   short,
		Example: "  gate-hub card " + verb + " alice.pem --reason 'asked by its holder' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		c, err := readCard(a[0])
		if err != nil {
			return err
		}
		return do(cmd, s, by.by(), scope, c.Head)
	})
	return cmd
}
