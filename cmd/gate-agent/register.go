package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func cardRegisterCommand() *cobra.Command {
	var (
		readers     []string
		wait        time.Duration
		out, ticket string
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "register --config FILE --out FILE [--ticket REF] [--reader NAME]... [--json]",
		Short: "Register the card on the reader with its PIN, and write a signed record",
		Long: `Register waits for a card and asks its holder, at the terminal where the command
runs, for the PIN of the user-authentication certificate, and for the birth date
where the card has a key of its own. In one session with the card it verifies
certificate, authentication key and card key, and writes a record that a hub can
verify again.

PIN and birth date are typed, do not show, and are taken from nowhere else. The
tries left are told before; with one left nothing is asked. A wrong PIN ends the
command, with one try spent.

The record names a credential and its holder's birth date: it is personal data.`,
		Example: "  gate-agent card register --config /etc/gate-agent/config.toml --out /run/registration/0001.cose --ticket T-000123",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringArrayVar(&readers, "reader", nil, "PC/SC reader, a name or a pattern; default those of the configuration")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a card")
	cmd.Flags().StringVar(&out, "out", "", "file to write the record to; it must not exist")
	cmd.Flags().StringVar(&ticket, "ticket", "", "reference of what the card is registered for, which the card signs too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config, _ []string) (err error) {
		switch {
		case out == "":
			return cli.UsageError("--out is missing: name the file to write the record to")
		case wait <= 0:
			return cli.UsageError(fmt.Sprintf("--wait %v: want more than 0", wait))
		}
		person, err := openTTY()
		if err != nil {
			return cli.UsageError(err.Error() + ": run the command where the holder can type, through ssh with -t")
		}
		defer func() { err = errors.Join(err, person.Close()) }()
		d, err := c.openDesk(person, readers, ticket)
		if err != nil {
			return err
		}
		file, err := createDraft(out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Discard()) }()

		// When the holder's terminal is gone: the draft is still removed.
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
		defer stop()
		record, report, err := d.register(ctx, wait)
		if err != nil {
			said := registerWords(err)
			person.say("%s\n%s", said.JA, said.EN)
			return registerError(err)
		}
		if err := file.Keep(record); err != nil {
			person.say("登録の記録を保存できませんでした。係員にお尋ねください。\nThe registration could not be saved. Ask the staff.")
			return err
		}
		person.say("登録しました。カードをお取りください。\nRegistered. Take your card.")
		if report.File = out; asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		}
		report.print(cmd.OutOrStdout())
		return nil
	})
	return cmd
}

// A registerReport is what card register prints. docs/cli.md lists its members.
type registerReport struct {
	File      string    `json:"file"`
	Terminal  string    `json:"terminal"`
	Scope     string    `json:"scope"`
	Hierarchy string    `json:"hierarchy"`
	Ticket    string    `json:"ticket,omitempty"`
	At        time.Time `json:"at"`
	CardID    string    `json:"card_id"`
	Token     string    `json:"token"`
	AuthKey   string    `json:"auth_key"`           // its kind
	CardKey   string    `json:"card_key,omitempty"` // its kind
	Commands  int       `json:"commands"`
	Bytes     int       `json:"bytes"`
}

// print writes the report for a person.
func (r registerReport) print(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-22s %s\n", name, shown(value)) }
	line("registered", r.At.Local().Format("2006-01-02 15:04:05 MST"))
	line("by terminal", r.Terminal+", scope "+r.Scope+" ("+r.Hierarchy+")")
	if r.Ticket != "" {
		line("ticket", r.Ticket)
	}
	line("card id", r.CardID)
	line("token", r.Token)
	line("authentication key", r.AuthKey)
	if r.CardKey == "" {
		line("card key", "none: a phone or a SIM, which method B does not admit")
	} else {
		line("card key", r.CardKey)
	}
	line("exchange", fmt.Sprintf("%d commands, %d bytes", r.Commands, r.Bytes))
	line("record", r.File+": personal data, for the hub only")
}
