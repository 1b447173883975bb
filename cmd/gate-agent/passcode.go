package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/terminal/staff"
)

// passcodeFlag is where a passcode comes from that nobody types. It is never an
// argument: whoever looks at the processes would see it.
const passcodeFlag = "passcode-file"

const passcodeUsage = "file of mode 0600 with the passcode, or - for standard input; default is to ask at the terminal"

// readPasscode takes a passcode from file, or from whoever sits at the terminal
// when file is "".
func readPasscode(ctx context.Context, file string, stdin io.Reader, prompts ...string) ([]byte, error) {
	switch file {
	case "":
		return typePasscode(ctx, prompts)
	case "-":
		return passcodeLine("standard input", stdin)
	}
	text, err := smallfile.Read(file, staff.MaxPasscode+2, 0o077)
	if err != nil {
		return nil, cli.UsageError(fmt.Sprintf("--%s: %v", passcodeFlag, err))
	}
	return passcodeLine(file, bytes.NewReader(text))
}

// passcodeLine reads the one line that there is.
func passcodeLine(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, staff.MaxPasscode+2))
	if err != nil {
		return nil, fmt.Errorf("reading the passcode from %s: %w", name, err)
	}
	line := bytes.TrimSuffix(text, []byte("\n"))
	if len(line) == 0 || len(line) > staff.MaxPasscode || bytes.ContainsAny(line, "\r\n") {
		return nil, cli.UsageError(fmt.Sprintf("%s has no passcode: want one line of 1 to %d bytes", name, staff.MaxPasscode))
	}
	return line, nil
}

// typePasscode asks once for each prompt; all answers have to be the same.
func typePasscode(ctx context.Context, prompts []string) (passcode []byte, err error) {
	person, err := openTTY()
	if err != nil {
		return nil, cli.UsageError("no terminal at which somebody could type a passcode: give --" + passcodeFlag + " FILE, or run the command through ssh with -t")
	}
	defer func() { err = errors.Join(err, person.Close()) }()
	ctx, cancel := context.WithTimeoutCause(ctx, typing, errNotTyped)
	defer cancel()
	for i, prompt := range prompts {
		line, err := person.ask(ctx, prompt)
		switch {
		case err != nil:
			return nil, err
		case len(line) == 0:
			return nil, errors.New("no passcode was typed, or one that is too long")
		case i > 0 && !bytes.Equal(line, passcode):
			return nil, errors.New("the two are not the same: begin again / 2回の入力が違います。もう一度実行してください")
		}
		passcode = line
	}
	return passcode, nil
}

func staffCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "staff", Short: "Prepare the roster of the staff"}, staffPasscodeCommand())
}

func staffPasscodeCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "passcode [--passcode-file FILE] [--json]",
		Short: "Turn a passcode into the line that a roster has for it",
		Long: fmt.Sprintf(`Passcode asks for a passcode twice, at the terminal, and prints the line for the
roster (docs/staff.md). It has %d to %d bytes. Only its hash is printed.`, staff.MinPasscode, staff.MaxPasscode),
		Example: "  gate-agent staff passcode",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&file, passcodeFlag, "", passcodeUsage)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		passcode, err := readPasscode(cmd.Context(), file, cmd.InOrStdin(),
			"新しい係員パスコード (表示されません) / New passcode (not shown): ", "もう一度 / Again: ")
		if err != nil {
			return err
		}
		defer clear(passcode)
		hash, err := staff.Hash(passcode)
		if err != nil {
			return cli.UsageError(err.Error())
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"passcode": hash})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "passcode = %q\n", hash)
		return err
	}
	return cmd
}
