package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
)

func worldCommand() *cobra.Command {
	var methods []string
	cmd := &cobra.Command{
		Use:   "world DIR",
		Short: "Make the folder of a test terminal, a signed list, and cards",
		Long: `World makes DIR/terminal with a configuration for gate-agent, its keys and a
signed list, and DIR/cards with cards that the list names, and some that it does not.`,
		Example: "  gate-sim world /tmp/world\n  gate-agent list import --config /tmp/world/terminal/config.toml /tmp/world/terminal/list.cose",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringSliceVar(&methods, "methods", []string{"tap-use", "external-auth"}, "methods of the terminal, in order")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		for _, m := range methods {
			if m != string(jpki.TapUse) && m != string(jpki.ExternalAuth) {
				return cli.UsageError(fmt.Sprintf("--methods has unknown %q: want %q or %q", m, jpki.TapUse, jpki.ExternalAuth))
			}
		}
		w, people, list, err := newWorld()
		if err != nil {
			return err
		}
		config, err := w.Install(filepath.Join(a[0], "terminal"), `["`+strings.Join(methods, `", "`)+`"]`, list)
		if err != nil {
			return err
		}
		cards := filepath.Join(a[0], "cards")
		if err := os.MkdirAll(cards, 0o700); err != nil {
			return err
		}
		for _, p := range people {
			if p.PullAt > 0 {
				continue // the person is impatient, not the card
			}
			b, err := p.Image.Encode()
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(cards, fileName(p)), b, 0o600); err != nil {
				return err
			}
		}
		fmt.Fprintf(cmd.OutOrStdout(), "configuration %s\ncards         %s\n", config, cards)
		return nil
	}
	return cmd
}

// newWorld makes a world with its people, and the signed list of those who
// are on it.
func newWorld() (*world.World, []world.Person, []byte, error) {
	w, err := world.New(time.Now())
	if err != nil {
		return nil, nil, nil, err
	}
	people, rows, err := w.People()
	if err != nil {
		return nil, nil, nil, err
	}
	list, err := w.List(rows...)
	return w, people, list, err
}

// fileName is the person's name and method, without spaces.
func fileName(p world.Person) string {
	return strings.ReplaceAll(strings.ReplaceAll(p.Name, ",", ""), " ", "-") + "." + string(p.Method) + ".json"
}
