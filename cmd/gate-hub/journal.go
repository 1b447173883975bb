package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/rescue"
)

func journalCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "journal", Short: "What terminals have recorded"}, journalOpenCommand())
}

func journalOpenCommand() *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "open FILE OUT --identity FILE [--json]",
		Short: "Open the journal that a wiped terminal has saved",
		Long: `Open decrypts a rescue file with the secret half of its rescue key, and writes the
journal into the new folder OUT. gate-agent journal verify reads it there, as the
journal of a terminal whose state is OUT.`,
		Example: "  gate-hub journal open rescue-arena-7-20270401T120000Z.age /srv/rescued/gate-1 --identity /media/safe/rescue.age-key",
		Args:    cli.Args(cobra.ExactArgs(2)),
	}
	cmd.Flags().StringVar(&identity, "identity", "", "file of the secret half, from gate-hub command rescue-key")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) (err error) {
		if identity == "" {
			return cli.UsageError("--identity is missing: the file that gate-hub command rescue-key wrote")
		}
		secret, err := os.Open(identity)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, secret.Close()) }()
		file, err := os.Open(a[0])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if err := os.Mkdir(a[1], 0o700); err != nil {
			return err
		}
		folder, err := os.OpenRoot(a[1])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, folder.Close()) }()
		about, err := rescue.Open(file, secret, folder)
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", a[0], err)}
		}
		return answer(cmd.OutOrStdout(), *asJSON, about,
			[2]string{"terminal", fmt.Sprintf("%s, scope %s", about.Terminal, about.Scope)},
			[2]string{"wiped", fmt.Sprintf("by command %d, %s", about.Command, instant(about.At))}, [2]string{"written to", a[1]})
	}
	return cmd
}
