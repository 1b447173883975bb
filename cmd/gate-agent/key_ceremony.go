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

	"github.com/gate-agent/gate-agent/crypto/ceremony"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyCeremonyCommand() *cobra.Command {
	var purpose, typ, transcript, check, signer string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ceremony (URI --purpose PURPOSE --config FILE --transcript FILE | --check FILE --signer PUB.pem) [--json]",
		Short: "Make a key before two people, and write a signed transcript",
		Long: `Ceremony makes a private key on its medium under dual control (docs/key-ceremony.md).
Two people type their names at the terminal where the command runs; the key is made;
each of them types its key check value (KCV) back, which does not show, at most three
times. The key is opened anew, signs, and is tried to be taken out of its medium. The
transcript of all this is signed by the new key and by identity.key. When anything
goes wrong the key is destroyed, where the medium can.

With --check it verifies a transcript by the public half of the terminal's identity
key and prints it. What it refuses ends with 4.
2人の立会いのもとで鍵を生成し、署名された記録を作ります。記録には氏名が含まれます。`,
		Example: `  gate-agent key ceremony --purpose external-auth --config /etc/gate-agent/config.toml --transcript gate-1.ceremony 'tpm:device=/dev/tpmrm0;handle=81000010'
  gate-agent key ceremony --check gate-1.ceremony --signer gate-1.pub.pem`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage)
	cmd.Flags().StringVar(&typ, "type", "", typeUsage)
	cmd.Flags().StringVar(&transcript, "transcript", "", "file to write the transcript to; it must not exist")
	cmd.Flags().StringVar(&check, "check", "", "transcript to verify instead of holding a ceremony")
	cmd.Flags().StringVar(&signer, "signer", "", "with --check, public half of the terminal's identity key, PEM")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	hold := withConfig(func(cmd *cobra.Command, c *config, a []string) (err error) {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		u, err := keyURI(a[0])
		if err != nil {
			return err
		}
		t, err := keyType(typ, u, p)
		if err != nil {
			return err
		}
		if transcript == "" {
			return cli.UsageError("--transcript is missing: name the file to write the transcript to")
		}
		r, err := c.prepareCeremony(u, p, t)
		if err != nil {
			return err
		}
		if r.person, err = openTTY(); err != nil {
			return cli.UsageError("no terminal at which two people could type: run the command through ssh with -t")
		}
		defer func() { err = errors.Join(err, r.person.Close()) }()
		file, err := createDraft(transcript) // before anybody types
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Discard()) }()

		// When the terminal is gone: the key is still destroyed.
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
		defer stop()
		var msg []byte
		if err := r.hold(ctx, func(m []byte) error { msg = m; return file.Keep(m) }); err != nil {
			return fmt.Errorf("key ceremony: %w", err)
		}
		r.person.say("鍵を生成しました。記録: %s\nThe key is made. Transcript: %s", transcript, transcript)
		verified, err := ceremony.Verify(r.identity.Public(), msg)
		if err != nil {
			return err
		}
		return printCeremony(cmd.OutOrStdout(), transcript, verified, asJSON)
	})
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		switch {
		case check == "" && signer != "":
			return cli.UsageError("--signer goes with --check FILE")
		case check == "" && len(a) == 0:
			return cli.UsageError("give the URI of the key to make, or --check FILE")
		case check == "":
			return hold(cmd, a)
		case len(a) > 0 || purpose != "" || typ != "" || transcript != "":
			return cli.UsageError("--check FILE verifies a transcript: give no key with it")
		case signer == "":
			return cli.UsageError("--signer is missing: name the public half of the terminal's identity key")
		}
		return checkCeremony(cmd.OutOrStdout(), check, signer, asJSON)
	}
	return cmd
}

// prepareCeremony finds out what can go wrong before anybody types.
func (c *config) prepareCeremony(u keystore.URI, p keystore.Purpose, t keystore.KeyType) (*keyCeremony, error) {
	custody, err := keystore.CustodyOf(u.String())
	if err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	identity, err := c.openIdentity()
	if err != nil {
		return nil, err
	}
	r := &keyCeremony{
		store: &c.keys.store, uri: u.String(), keyType: t, custody: custody, identity: identity,
		t: ceremony.Transcript{
			Terminal: c.Terminal, Scope: c.Scope, Hierarchy: c.Mode.String(), Program: version(),
			Purpose: p, Medium: custody.Medium, Custody: custody.Text,
		},
	}
	if err := r.t.Check(); err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	return r, nil
}

func checkCeremony(w io.Writer, file, signer string, asJSON bool) error {
	text, err := readFile(signer)
	if err != nil {
		return err
	}
	public, err := sign1.ParsePublicKey(text)
	if err != nil {
		return cli.RefusedError{Err: fmt.Errorf("--signer %s: %w", signer, err)}
	}
	msg, err := readFile(file)
	if err != nil {
		return err
	}
	t, err := ceremony.Verify(public, msg)
	if err != nil {
		return cli.RefusedError{Err: fmt.Errorf("%s: %w", file, err)}
	}
	return printCeremony(w, file, t, asJSON)
}

// A ceremonyReport is what key ceremony prints. docs/cli.md lists its members.
type ceremonyReport struct {
	File       string           `json:"file"`
	Terminal   string           `json:"terminal"`
	Scope      string           `json:"scope"`
	Hierarchy  string           `json:"hierarchy"`
	Program    string           `json:"program"`
	Begun      time.Time        `json:"begun"`
	Ended      time.Time        `json:"ended"`
	People     []ceremonyPerson `json:"people"`
	Purpose    string           `json:"purpose"`
	Medium     string           `json:"medium"`
	Custody    string           `json:"custody"`
	Exportable bool             `json:"exportable"`
	Type       string           `json:"type"`
	Key        string           `json:"key"`    // KCV
	Public     string           `json:"public"` // PEM
	Steps      []ceremonyStep   `json:"steps"`
}

type ceremonyPerson struct {
	Name string        `json:"name"`
	Role ceremony.Role `json:"role"`
}

type ceremonyStep struct {
	What   ceremony.Action `json:"what"`
	At     time.Time       `json:"at"`
	Person int             `json:"person,omitempty"`
	Tries  int             `json:"tries,omitempty"`
}

// printCeremony prints a transcript that was verified.
func printCeremony(w io.Writer, file string, t ceremony.Transcript, asJSON bool) error {
	public, err := publicPEM(t.Public)
	if err != nil {
		return err
	}
	r := ceremonyReport{
		File: file, Terminal: t.Terminal, Scope: t.Scope, Hierarchy: t.Hierarchy, Program: t.Program, Begun: t.Begun, Ended: t.Ended,
		Purpose: string(t.Purpose), Medium: t.Medium, Custody: t.Custody, Exportable: t.Exportable,
		Type: string(t.KeyType()), Key: t.KCV(), Public: public,
	}
	for _, p := range t.People {
		r.People = append(r.People, ceremonyPerson(p))
	}
	for _, s := range t.Steps {
		r.Steps = append(r.Steps, ceremonyStep(s))
	}
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	r.print(w)
	return nil
}

// print writes the transcript for a person.
func (r ceremonyReport) print(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-13s %s\n", name, shown(value)) }
	clock := func(at time.Time) string { return at.Local().Format("15:04:05.000") }
	line("transcript", r.File)
	line("terminal", r.Terminal+", scope "+r.Scope+" ("+r.Hierarchy+"), gate-agent "+r.Program)
	line("held", r.Begun.Local().Format("2006-01-02 15:04:05 MST"))
	for _, p := range r.People {
		line(string(p.Role), p.Name)
	}
	line("key", r.Purpose+", "+r.Type)
	line("KCV", r.Key)
	line("custody", r.Custody)
	line("exportable", map[bool]string{true: "yes", false: "no: it was tried"}[r.Exportable])
	for _, s := range r.Steps {
		line(clock(s.At), r.stepWords(s))
	}
	line(clock(r.Ended), "signed by the key itself and by the terminal")
}

func (r ceremonyReport) stepWords(s ceremonyStep) string {
	switch s.What {
	case ceremony.Named:
		return "both have typed their names"
	case ceremony.Generated:
		return "the key was made on its medium"
	case ceremony.Confirmed:
		return fmt.Sprintf("the %s confirmed the KCV, tries: %d", r.People[s.Person-1].Role, s.Tries)
	case ceremony.TestSigned:
		return "the key, opened anew, made a signature that verifies"
	case ceremony.ExportTried:
		return "the private key was tried to be taken out"
	}
	return string(s.What)
}
