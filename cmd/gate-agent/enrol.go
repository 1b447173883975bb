package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/sync/enrol"
)

func enrolCommand() *cobra.Command {
	var tokenFile, from string
	var renew bool
	cmd := &cobra.Command{
		Use:   "enrol --config FILE [--token-file FILE] [--from DIR] | enrol --config FILE --renew",
		Short: "Make this terminal known to its hub, or renew its certificate",
		Long: `Enrol takes the token of gate-hub terminal token, from a file or from standard input,
and makes this terminal the one that it names: it makes identity and delivery key where
there are none, and brings certificate, names and keys from the hub. A hub that is not
the token's is told nothing. The configuration needs hub.connect = true (docs/enrolment.md).

With a token that wants approval it shows a fingerprint, and waits until somebody has
compared it (gate-hub terminal approve). Interrupted, it goes on when it is run again.

With --from a spare takes over what a broken terminal had not sent yet: DIR is the state
folder on that terminal's disk. Its journal is verified, and goes on here.

A running agent renews the certificate by itself; --renew does it now.
トークンを使ってこの端末をハブに登録します。予備機は --from で故障した端末の記録を引き継ぎます。`,
		Example: `  gate-agent enrol --config /etc/gate-agent/config.toml --token-file gate-1.token
  gate-agent enrol --config /etc/gate-agent/config.toml --token-file spare.token --from /mnt/var/lib/gate-agent
  gate-agent enrol --config /etc/gate-agent/config.toml --renew`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file of mode 0600 with the token (default standard input)")
	cmd.Flags().StringVar(&from, "from", "", "state folder of the terminal that this one takes over")
	cmd.Flags().BoolVar(&renew, "renew", false, "renew the certificate of a terminal that is enrolled")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if renew && (tokenFile != "" || from != "") {
			return cli.UsageError("--renew needs no token, and takes over nothing")
		}
		path, _ := cmd.Flags().GetString("config")
		c, err := readConfig(path, !renew)
		if err != nil {
			return err
		}
		c.keys.ctx = cmd.Context()
		switch {
		case !c.Hub.Connect:
			err = cli.ConfigError{Err: errors.New("hub.connect is not true: this terminal connects to no hub")}
		case renew:
			err = c.renewNow(cmd)
		default:
			err = c.enrol(cmd, tokenFile, from)
		}
		return errors.Join(err, c.keys.close())
	}
	return cmd
}

func (c *config) renewNow(cmd *cobra.Command) error {
	if c.enrolled == nil {
		return cli.ConfigError{Err: errors.New("this terminal is not enrolled: run gate-agent enrol with a token")}
	}
	e, err := c.renew(cmd.Context(), *c.enrolled)
	if err != nil {
		return enrolError(err)
	}
	return printLines(cmd.OutOrStdout(), [][2]string{{"renewed", "until " + localTime(e.Certificate.NotAfter)}})
}

// readToken reads the token, and holds it against the configuration.
func (c *config) readToken(cmd *cobra.Command, file string) (t enrol.Token, err error) {
	var text []byte
	if file != "" {
		text, err = smallfile.Read(file, enrol.MaxToken, 0o077)
	} else {
		text, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), enrol.MaxToken+1))
	}
	if err != nil {
		return t, cli.UsageError(fmt.Sprintf("the token: %v", err))
	}
	defer clear(text)
	if t, err = enrol.ParseToken(string(text)); err != nil {
		return t, cli.RefusedError{Err: err}
	}
	if c.Scope != "" && c.Scope != t.Scope || c.Terminal != "" && c.Terminal != t.Terminal {
		return t, cli.RefusedError{Err: fmt.Errorf("the token is for terminal %q in scope %q, and the configuration is of %q in %q", t.Terminal, t.Scope, c.Terminal, c.Scope)}
	}
	c.Scope, c.home, c.Terminal = t.Scope, t.Scope, t.Terminal
	return t, nil
}

func (c *config) enrol(cmd *cobra.Command, tokenFile, from string) (err error) {
	t, err := c.readToken(cmd, tokenFile)
	if err != nil {
		return err
	}
	if err := c.makeState(); err != nil {
		return cli.ConfigError{Err: fmt.Errorf("state: %w", err)}
	}
	over, err := c.takeOverFrom(cmd.Context(), from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, over.discard()) }()
	keys, err := c.enrolKeys(cmd.Context())
	if err != nil {
		return err
	}
	e, err := enrol.Enrol(cmd.Context(), t, keys, tellWaiting(cmd.ErrOrStderr()))
	if err != nil {
		return enrolError(err)
	}
	// The journal first: once the terminal is enrolled it may start.
	if err := over.keep(); err != nil {
		return err
	}
	if err := e.Write(c.path(c.State)); err != nil {
		return err
	}
	lines := [][2]string{
		{"enrolled", fmt.Sprintf("%s in %s, with hub %s", shown(e.Hub.Terminal), shown(e.Hub.Scope), shown(e.Hub.Name))},
		{"certificate", fmt.Sprintf("until %s; a running agent renews it", localTime(e.Certificate.NotAfter))},
	}
	if over != nil {
		lines = append(lines, [2]string{"taken over", over.text()})
	}
	return printLines(cmd.OutOrStdout(), append(lines, [2]string{"next", "start the agent, or start it again / gate-agent を起動（再起動）してください"}))
}

// tellWaiting tells a person for what the terminal waits, once, and what goes wrong
// meanwhile.
func tellWaiting(w io.Writer) func(string, error) {
	told, trouble := false, ""
	return func(fingerprint string, err error) {
		if !told {
			told = true
			fmt.Fprintf(w, "This terminal's keys / この端末の照合値: %s\nWaiting until somebody compares and approves them / ハブでの承認を待っています:\n  gate-hub terminal approve … --key %[1]s\n", fingerprint)
		}
		if said := text(err); said != trouble {
			trouble = said
			if err != nil {
				fmt.Fprintf(w, "the hub does not answer, and is asked again: %v\n", err)
			}
		}
	}
}

// enrolKeys opens the keys that the terminal enrols with, and makes those that are
// missing.
func (c *config) enrolKeys(ctx context.Context) (k enrol.Keys, err error) {
	if c.Identity.Key == "" {
		return k, cli.ConfigError{Err: errors.New("identity.key is missing: name the place of the key by which the hub knows this terminal; it is made there")}
	}
	identity, err := c.keys.store.OpenSigner(ctx, c.Identity.Key, keystore.Identity)
	if missing(err) {
		if err = c.makeKey(ctx, c.Identity.Key, keystore.Identity); err != nil {
			return k, cli.ConfigError{Err: fmt.Errorf("identity.key: %w", makingError(err))}
		}
	} else if err != nil {
		return k, cli.ConfigError{Err: fmt.Errorf("identity.key: %w", err)}
	} else if err := identity.Close(); err != nil {
		return k, err
	}
	if k.Identity, err = c.openIdentity(); err != nil {
		return k, err
	}
	if c.ScopeKey.File != "" {
		return k, nil
	}
	if wrapper, err := c.keys.store.OpenWrapper(ctx, c.ScopeKey.Wrapper); missing(err) {
		if err := c.makeKey(ctx, c.ScopeKey.Wrapper, keystore.Wrap); err != nil {
			return k, cli.ConfigError{Err: fmt.Errorf("scope_key.wrapper: %w", makingError(err))}
		}
	} else if err != nil {
		return k, cli.ConfigError{Err: fmt.Errorf("scope_key.wrapper: %w", err)}
	} else if err := wrapper.Close(); err != nil {
		return k, err
	}
	delivery, _, err := c.makeDeliveryKey()
	if err != nil {
		return k, err
	}
	public, err := delivery.Public()
	if err != nil {
		return k, err
	}
	k.Delivery, err = x509.MarshalPKIXPublicKey(public)
	return k, err
}

// missing is whether a key was never made: one that is there is not replaced.
func missing(err error) bool {
	return errors.Is(err, keystore.ErrNoKey) || errors.Is(err, fs.ErrNotExist)
}

// makeKey makes a key, of the kind that its medium has, and the key source of a sealed one.
func (c *config) makeKey(ctx context.Context, uri string, p keystore.Purpose) error {
	u, err := keystore.ParseURI(uri)
	if err != nil {
		return err
	}
	if source := u.Get("key-source"); source != "" && !strings.HasPrefix(source, "credential:") {
		if err := makeKeySource(u); err != nil {
			return err
		}
	}
	if p == keystore.Wrap {
		return c.keys.store.GenerateWrapper(ctx, uri)
	}
	t := keystore.Ed25519
	if u.Scheme() == "tpm" { // has none
		t = keystore.P256
	}
	var public crypto.PublicKey
	if public, err = c.keys.store.Generate(ctx, uri, p, t); err == nil && public == nil {
		err = errors.New("the medium made no key")
	}
	return err
}

// enrolError says which errors are refusals, and what next.
func enrolError(err error) error {
	_, refused := errors.AsType[*enrol.Refusal](err)
	var cert x509.CertificateInvalidError
	switch {
	case refused || errors.Is(err, enrol.ErrPin) || errors.Is(err, enrol.ErrOtherKey) || errors.Is(err, enrol.ErrMalformed):
		return cli.RefusedError{Err: err}
	case errors.As(err, &cert) && cert.Reason == x509.Expired:
		return cli.RefusedError{Err: fmt.Errorf("%w: is the clock of this terminal right? It shows %s / 時計を確認してください", err, localTime(time.Now()))}
	}
	return err
}
