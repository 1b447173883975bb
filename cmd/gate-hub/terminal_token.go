package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/sync/enrol"
)

// maxTTL is how long a token may last.
const maxTTL = 30 * 24 * time.Hour

// A tokenOrder is a token to be issued.
type tokenOrder struct {
	ttl          time.Duration
	approve      bool
	address, out string
	by           doer
}

func (o *tokenOrder) flags(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&o.ttl, "ttl", time.Hour, "how long the token works")
	cmd.Flags().BoolVar(&o.approve, "approve", false, "somebody compares the terminal's keys before it is let in (terminal approve)")
	cmd.Flags().StringVar(&o.address, "address", "", "https://HOST:PORT by which the terminal reaches this hub (default the first of serve.hosts)")
	cmd.Flags().StringVar(&o.out, "out", "", "write the token to this file, of mode 0600, instead of standard output")
	o.by.flags(cmd)
}

func terminalTokenCommand() *cobra.Command {
	var o tokenOrder
	cmd := &cobra.Command{
		Use:   "token NAME --config FILE [--scope NAME] [--ttl DURATION] [--approve] [--out FILE]",
		Short: "Issue a token with which a new terminal enrols, once",
		Long: `Token prints one line, with which the terminal that gets it enrols (gate-agent enrol):
it names the hub, the authority that vouches for it, scope and name, and has a secret
that works once, until it expires. The token before it for that name works no more.

Whoever has it first is the terminal: hand it over as a key, and not in a chat. With
--approve nobody gets in with it alone: the terminal waits until somebody has compared
its keys (gate-hub terminal approve).
新しい端末の登録トークンを発行します。一度だけ使え、期限があります。鍵と同じように渡してください。`,
		Example: `  gate-hub terminal token gate-1 --out gate-1.token --config /var/lib/gate-hub
  gate-hub terminal token gate-1 --config /var/lib/gate-hub | ssh gate-1 gate-agent enrol --config /etc/gate-agent/config.toml`,
		Args: cli.Args(cobra.ExactArgs(1)),
	}
	o.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		return o.issue(cmd, s, scope, a[0], false)
	})
	return cmd
}

func terminalSwapCommand() *cobra.Command {
	var o tokenOrder
	cmd := &cobra.Command{
		Use:   "swap NAME --config FILE [--scope NAME] --reason WHY [--ttl DURATION] [--approve] [--out FILE]",
		Short: "Issue a token with which a spare takes over a terminal's name",
		Long: `Swap prints a token, as terminal token does, for a terminal that is there: whoever
enrols with it has its name, lists and leases, and the terminal before is cut off in that
moment. Until then nothing changes. Also for the same terminal, where its keys are lost.

On the spare: gate-agent enrol --from DIR, where DIR is the state folder of the broken
terminal's disk, so that nothing that it had not yet sent is lost.
予備機が端末の名前を引き継ぐトークンを発行します。登録した時点で元の端末は切り離されます。`,
		Example: "  gate-hub terminal swap gate-1 --reason 'broken reader' --out spare.token --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	o.flags(cmd)
	require(cmd, "reason")
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		return o.issue(cmd, s, scope, a[0], true)
	})
	return cmd
}

func (o *tokenOrder) issue(cmd *cobra.Command, s *site, scope, name string, replace bool) error {
	if o.ttl < time.Minute || o.ttl > maxTTL {
		return cli.UsageError(fmt.Sprintf("--ttl %v: want %v to %v", o.ttl, time.Minute, maxTTL))
	}
	address := o.address
	if address == "" {
		var err error
		if address, err = s.address(); err != nil {
			return err
		}
	}
	own, err := s.authority()
	if err != nil {
		return err
	}
	_, pin, err := s.shown(own)
	if err != nil {
		return err
	}
	by := o.by.by()
	t := enrol.Token{
		Address: address, CA: pin, Scope: scope, Terminal: name, Secret: enrol.NewSecret(),
		Expires: by.At.Add(o.ttl).Truncate(time.Second),
	}
	text, err := t.Text()
	if err != nil {
		return cli.UsageError(err.Error())
	}
	e := registry.Enrolment{Name: name, Expires: t.Expires, Approve: o.approve, Replace: replace}
	if err := s.registry.IssueToken(cmd.Context(), by, scope, e, sha256.Sum256(t.Secret[:])); err != nil {
		return err
	}
	if o.out != "" {
		err = wholefile.New(o.out, []byte(text+"\n"))
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	}
	if err != nil {
		return err
	}
	return o.say(cmd.ErrOrStderr(), t)
}

// say says what to do with a token.
func (o *tokenOrder) say(w io.Writer, t enrol.Token) error {
	text := fmt.Sprintf("Works once, for %s in %s, until %s. Hand it over as a key / 一度だけ有効。鍵と同じように渡してください:\n  gate-agent enrol --config /etc/gate-agent/config.toml --token-file FILE\n",
		t.Terminal, t.Scope, instant(t.Expires))
	if o.approve {
		text += fmt.Sprintf("Then compare and approve / 照合して承認してください:\n  gate-hub terminal approve %s\n", t.Terminal)
	}
	_, err := io.WriteString(w, text)
	return err
}

func terminalApproveCommand() *cobra.Command {
	var key string
	var by doer
	cmd := &cobra.Command{
		Use:   "approve NAME [--key FINGERPRINT] --config FILE [--scope NAME]",
		Short: "Let a terminal in that has enrolled and waits",
		Long: `Approve shows the fingerprint of the keys that wait for a terminal's name. Compare it
with the one that the terminal shows, over the telephone or eye to eye; then give the
terminal's with --key. Another one is refused: somebody else has used the token.
端末に表示された照合値を --key で入力すると、登録を承認します。`,
		Example: "  gate-hub terminal approve gate-1 --key 1A2B-3C4D-5E6F-7A8B-9C0D --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&key, "key", "", "the fingerprint that the terminal shows")
	by.flags(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		e, err := s.waiting(cmd, scope, a[0])
		if err != nil {
			return err
		}
		fingerprint := enrol.Fingerprint(e.Identity, e.Delivery)
		switch key {
		case "":
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s waits with / 待機中: %s\nCompare it with the terminal's, then / 端末の表示と比べてから:\n  gate-hub terminal approve %s --key FINGERPRINT\n", e.Name, fingerprint, e.Name)
			return err
		case fingerprint:
			return s.registry.ApproveTerminal(cmd.Context(), by.by(), scope, e.Name, e.Identity, e.Delivery)
		}
		return cli.RefusedError{Err: fmt.Errorf("the keys that wait have fingerprint %s, not the terminal's %s: somebody else has used the token. Issue another one / 照合値が違います。トークンを発行し直してください", fingerprint, key)}
	})
	return cmd
}

func (s *site) waiting(cmd *cobra.Command, scope, name string) (registry.Enrolment, error) {
	all, err := s.registry.Enrolments(cmd.Context(), scope)
	if err != nil {
		return registry.Enrolment{}, err
	}
	for _, e := range all {
		if e.Name == name && e.Waiting() {
			return e, nil
		}
	}
	return registry.Enrolment{}, cli.RefusedError{Err: fmt.Errorf("no keys wait for %q: has the terminal enrolled (gate-agent enrol), with a token that wants approval?", name)}
}

// A tokenReport is a token that still works, in terminal list. docs/cli.md lists its
// members.
type tokenReport struct {
	Name        string    `json:"name"`
	Expires     time.Time `json:"expires"`
	Replaces    bool      `json:"replaces"`
	Approve     bool      `json:"approve"`
	Fingerprint string    `json:"fingerprint,omitempty"` // of keys that wait
}

// tokens are those of a scope that still work.
func (s *site) tokens(ctx context.Context, scope string, now time.Time) (all []tokenReport, lines [][2]string, err error) {
	issued, err := s.registry.Enrolments(ctx, scope)
	if err != nil {
		return nil, nil, err
	}
	all = []tokenReport{}
	for _, e := range issued {
		if !e.Used.IsZero() || !e.Expires.After(now) {
			continue
		}
		r := tokenReport{Name: e.Name, Expires: e.Expires, Replaces: e.Replace, Approve: e.Approve}
		text := "token until " + instant(e.Expires)
		if e.Replace {
			text += ", for a spare"
		}
		if e.Waiting() {
			r.Fingerprint = enrol.Fingerprint(e.Identity, e.Delivery)
			text += ", WAITS FOR APPROVAL with " + r.Fingerprint + " / 承認待ち"
		}
		all = append(all, r)
		lines = append(lines, [2]string{e.Name, text})
	}
	return all, lines, nil
}
