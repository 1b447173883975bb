package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/terminals"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/sync/command"
	"github.com/gate-agent/gate-agent/sync/rescue"
)

func commandCommand() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "command",
		Short: "Command a terminal from afar: out of order, another scope, wipe",
		Long: `A command is drafted here, signed by a person with a command key wherever that key
is, and published for the terminal to fetch. A wipe takes two persons with two keys
(docs/terminal-commands.md).
端末への指示を作成し、署名し、公開します。消去には二人の署名が必要です。`,
	}, commandDraftCommand(), commandShowCommand(), commandSignCommand(), commandPublishCommand(), commandRescueKeyCommand())
}

func commandDraftCommand() *cobra.Command {
	c := command.Command{}
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "draft TERMINAL ACTION OUT --config FILE [--scope NAME] [--message TEXT] [--new-scope NAME] [--rescue-key AGE1] [--for DURATION]",
		Short: "Write a command that somebody is to sign",
		Long: `Draft writes a command to a terminal into a new file, with the next number:

  out_of_order   no lane serves people, until in_order
  in_order       they do again
  change_scope   the terminal goes on in --new-scope, once it has list and lease there
  wipe           the journal is saved for --rescue-key, then keys and data are destroyed`,
		Example: "  gate-hub command draft gate-1 out_of_order stop.command --message '改札を閉じます' --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(3)),
	}
	cmd.Flags().StringVar(&c.Message, "message", "", "for people at the terminal")
	cmd.Flags().StringVar(&c.NewScope, "new-scope", "", "of change_scope")
	cmd.Flags().StringVar(&c.RescueKey, "rescue-key", "", "of wipe: whom the journal is saved for (gate-hub command rescue-key)")
	cmd.Flags().DurationVar(&lasts, "for", 24*time.Hour, "how long it may be carried out")
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) (err error) {
		is, err := s.registry.Scope(cmd.Context(), scope)
		if err != nil {
			return err
		}
		folder, err := s.openFolder(scope)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, folder.Close()) }()
		c.Scope, c.Hierarchy, c.Terminal, c.Action = scope, is.Hierarchy, a[0], command.Action(a[1])
		c.IssuedAt = time.Now().UTC().Truncate(time.Second)
		c.NotAfter = c.IssuedAt.Add(lasts.Truncate(time.Second))
		if c.Number, err = terminals.NextNumber(cmd.Context(), s.registry, folder, scope, c.Terminal); err != nil {
			return err
		}
		payload, err := c.Encode()
		if err != nil {
			return err
		}
		if err := wholefile.New(a[2], payload); err != nil {
			return err
		}
		return describeCommand(cmd.OutOrStdout(), *asJSON, c, nil)
	})
	return cmd
}

// A commandReport is what command draft, show and publish print. docs/cli.md lists its
// members.
type commandReport struct {
	Scope     string    `json:"scope"`
	Hierarchy string    `json:"hierarchy"`
	Terminal  string    `json:"terminal"`
	Number    uint64    `json:"number"`
	Action    string    `json:"action"`
	IssuedAt  time.Time `json:"issued_at"`
	NotAfter  time.Time `json:"not_after"`
	Message   string    `json:"message,omitempty"`
	NewScope  string    `json:"new_scope,omitempty"`
	RescueKey string    `json:"rescue_key,omitempty"`
	Signers   int       `json:"signers"` // signatures, which nobody has verified
}

func describeCommand(w io.Writer, asJSON bool, c command.Command, item []byte) error {
	r := commandReport{c.Scope, c.Hierarchy, c.Terminal, c.Number, string(c.Action), c.IssuedAt, c.NotAfter, c.Message, c.NewScope, c.RescueKey, command.Signatures(item)}
	lines := [][2]string{
		{"terminal", fmt.Sprintf("%s, scope %s (%s)", c.Terminal, c.Scope, c.Hierarchy)},
		{"command", fmt.Sprintf("%d: %s", c.Number, c.Action)},
		{"issued at", instant(c.IssuedAt)}, {"not after", instant(c.NotAfter)},
	}
	for _, l := range [][2]string{{"message", c.Message}, {"new scope", c.NewScope}, {"journal saved for", c.RescueKey}} {
		if l[1] != "" {
			lines = append(lines, l)
		}
	}
	lines = append(lines, [2]string{"signatures", fmt.Sprint(r.Signers)})
	return answer(w, asJSON, r, lines...)
}

// readCommand reads a command, signed by some or by nobody yet.
func readCommand(path string) (c command.Command, b []byte, err error) {
	if b, err = smallfile.Read(path, command.MaxFile, 0); err != nil {
		return c, nil, err
	}
	if command.Signed(b) {
		c, err = command.Peek(b)
	} else {
		c, err = command.Decode(b)
	}
	if err != nil {
		return c, nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return c, b, nil
}

func commandShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show FILE [--json]",
		Short:   "Print what a command says, whoever signed it",
		Example: "  gate-hub command show stop.command",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		c, b, err := readCommand(a[0])
		if err != nil {
			return err
		}
		return describeCommand(cmd.OutOrStdout(), *asJSON, c, b)
	}
	return cmd
}

func commandSignCommand() *cobra.Command {
	var uri string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign FILE --key URI [--yes]",
		Short: "Add the signature of one command key to a command",
		Long: `Sign shows what a command says, asks whether to sign it, and adds the signature of one
command key to the file. It needs no hub and no network. A wipe goes on to a second
person, with another key.
内容を確かめてから署名を加えます。`,
		Example: "  gate-hub command sign stop.command --key 'sealed:path=/media/safe/command-a.key;key-source=/media/other/seal'",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&uri, "key", "", "key URI of the command key")
	cmd.Flags().BoolVar(&yes, "yes", false, "sign without asking")
	cmd.RunE = withKeys(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		if uri == "" {
			return cli.UsageError("--key is missing: the key URI of the command key")
		}
		c, b, err := readCommand(a[0])
		if err != nil {
			return err
		}
		if err := describeCommand(cmd.ErrOrStderr(), false, c, b); err != nil {
			return err
		}
		if err := confirm(cmd, yes, "Sign this command? この指示に署名しますか?"); err != nil {
			return err
		}
		k, err := openSigner(cmd, s, uri, keystore.Purpose(sign1.RoleCommand))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		var signed []byte
		if command.Signed(b) {
			signed, err = command.Countersign(b, k)
		} else {
			signed, err = c.Sign(k)
		}
		if err != nil {
			return err
		}
		return wholefile.Replace(a[0], signed)
	})
	return cmd
}

func commandPublishCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish FILE --config FILE [--scope NAME] [--json]",
		Short: "Verify a signed command as its terminal will, and publish it",
		Long: `Publish verifies a signed command as its terminal will, and publishes it behind those
that have not expired.`,
		Example: "  gate-hub command publish stop.command --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) (err error) {
		is, item, err := readCommand(a[0])
		if err != nil {
			return err
		}
		if is.Scope != scope {
			return cli.RefusedError{Err: fmt.Errorf("%s is for scope %q: give --scope", a[0], is.Scope)}
		}
		c, err := s.loadScope(scope)
		if err != nil {
			return err
		}
		trust, delegation, err := c.commandTrust()
		if err != nil {
			return err
		}
		folder, err := s.openFolder(scope)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, folder.Close()) }()
		published, err := terminals.Publish(cmd.Context(), s.registry, folder, trust, delegation, item, time.Now())
		if err != nil {
			return fmt.Errorf("%s: %w", a[0], err)
		}
		return describeCommand(cmd.OutOrStdout(), *asJSON, published, item)
	})
	return cmd
}

// commandTrust is whose commands terminals of a scope take.
func (c *scopeConfig) commandTrust() (t roles.Trust, delegation []byte, err error) {
	signers, err := c.signers()
	if err != nil {
		return t, nil, err
	}
	if len(signers.Delegation) > 0 {
		if signers.Root.IsZero() {
			return t, nil, cli.ConfigError{Err: errors.New("root.keys are missing in scope.toml: without them nobody can tell whether terminals take a command")}
		}
		return roles.Trust{Root: signers.Root}, signers.Delegation, nil
	}
	public, err := c.publicKeys("command_public", c.CommandPublic)
	if err != nil {
		return t, nil, err
	}
	keys := make([]sign1.Key, len(public))
	for i, k := range public {
		keys[i] = sign1.Key{Public: k, Role: sign1.RoleCommand, Scope: c.Scope}
	}
	if t.Pinned, err = sign1.NewKeys(keys...); err != nil {
		err = cli.ConfigError{Err: fmt.Errorf("command_public: %w", err)}
	}
	return t, nil, err
}

func commandRescueKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rescue-key OUT",
		Short: "Make the key pair for which a wiped terminal saves its journal",
		Long: `Rescue-key makes a key pair of age, writes its secret half into a new file of mode
0600, and prints the public half, for gate-hub command draft … wipe --rescue-key. Keep
the file away from the hub: gate-hub journal open, and the program age, open with it
what a wiped terminal has saved.`,
		Example: "  gate-hub command rescue-key /media/safe/rescue.age-key",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		identity, recipient, err := rescue.NewIdentity()
		if err != nil {
			return err
		}
		if err := wholefile.New(a[0], []byte(identity+"\n")); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), recipient)
		return err
	}
	return cmd
}
