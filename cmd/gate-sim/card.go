package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
)

func cardCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "card", Short: "Make, show and insert virtual cards"}, cardNewCommand(), cardShowCommand(), cardInsertCommand())
}

func cardNewCommand() *cobra.Command {
	var authority, out, kind, birth string
	var years int
	cmd := &cobra.Command{
		Use:   "new --authority FILE --out FILE [--kind KIND]",
		Short: "Make a virtual card, and the test authority when there is none yet",
		Long: `New makes a virtual card of a kind (docs/cards.md says what each has), one of

  ` + kindNames("\n  ") + `

Those from emv on are not JPKI cards and have nothing of the authority.`,
		Example: "  gate-sim card new --authority authority.json --out alice.json\n  gate-sim card new --out suica.json --kind felica",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&authority, "authority", "authority.json", "test authority; made when the file does not exist")
	cmd.Flags().StringVar(&out, "out", "", "where the card image goes; an existing file is not replaced")
	cmd.Flags().StringVar(&kind, "kind", string(vcard.KindCard), "which sort of card: see above")
	cmd.Flags().StringVar(&birth, "birth-date", "1990-04-01", "birth date of the holder, YYYY-MM-DD")
	cmd.Flags().IntVar(&years, "years", 5, "years from now for which the certificate is valid, 10 by default for next-generation; negative: expired so long ago")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return cli.UsageError("give --out FILE")
		}
		born, err := time.Parse(time.DateOnly, birth)
		if err != nil {
			return cli.UsageError(fmt.Sprintf("--birth-date %q: want YYYY-MM-DD", birth))
		}
		i := slices.IndexFunc(cardKinds, func(k cardKind) bool { return k.name == kind })
		if i < 0 {
			return cli.UsageError(fmt.Sprintf("--kind %q: want one of %s", kind, kindNames(", ")))
		}
		k := cardKinds[i]
		of := ""
		var img *vcard.Image
		if k.foreign {
			img, err = perso.Foreign(k.kind)
		} else {
			var a *perso.Authority
			if a, err = openAuthority(authority); err != nil {
				return err
			}
			of = " of the test authority in " + authority
			if k.kind == vcard.KindNextGeneration && !cmd.Flags().Changed("years") {
				years = 10
			}
			opt := perso.CardOptions{Kind: k.kind, BirthDate: born, NotAfter: time.Now().AddDate(years, 0, 0), NoCertificate: k.noCertificate}
			if years < 0 {
				opt.NotBefore = opt.NotAfter.AddDate(-1, 0, 0)
			}
			if img, err = a.Card(opt); err == nil {
				img, err = perso.Block(img, k.blocked...)
			}
		}
		if err != nil {
			return err
		}
		b, err := img.Encode()
		if err != nil {
			return err
		}
		if err := writeNew(out, b); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: a %s%s\n", out, kind, of)
		return nil
	}
	return cmd
}

// A cardKind is what card new makes.
type cardKind struct {
	name          string
	kind          vcard.Kind
	noCertificate perso.Absence
	blocked       []vcard.FileID
	foreign       bool // no card of the authority
}

// cardKinds are the kinds of vcard, and plastic cards in a special state.
var cardKinds = []cardKind{
	{name: "card", kind: vcard.KindCard},
	{name: "card-no-certificate", kind: vcard.KindCard, noCertificate: perso.NoFile},
	{name: "card-empty-certificate", kind: vcard.KindCard, noCertificate: perso.FillerOnly},
	{name: "card-blocked-pin", kind: vcard.KindCard, blocked: []vcard.FileID{0x0018, 0x001B}},
	{name: "card-blocked-birth-date", kind: vcard.KindCard, blocked: []vcard.FileID{0x0011}},
	{name: "next-generation", kind: vcard.KindNextGeneration},
	{name: "juki", kind: vcard.KindJuki},
	{name: "phone-android", kind: vcard.KindPhoneAndroid},
	{name: "phone-iphone", kind: vcard.KindPhoneIPhone},
	{name: "sim", kind: vcard.KindSIM},
	{name: "emv", kind: vcard.KindEMV, foreign: true},
	{name: "driving-licence", kind: vcard.KindLicence, foreign: true},
	{name: "passport", kind: vcard.KindPassport, foreign: true},
	{name: "foreign", kind: vcard.KindForeign, foreign: true},
	{name: "felica", kind: vcard.KindFeliCa, foreign: true},
	{name: "mifare-classic", kind: vcard.KindClassic, foreign: true},
	{name: "mifare-ultralight", kind: vcard.KindUltralight, foreign: true},
}

func kindNames(separator string) string {
	var names []string
	for _, k := range cardKinds {
		names = append(names, k.name)
	}
	return strings.Join(names, separator)
}

// openAuthority reads a test authority, or makes one.
func openAuthority(path string) (*perso.Authority, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		a, err := perso.ParseAuthority(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return a, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a, err := perso.NewAuthority(nil, time.Now().AddDate(-1, 0, 0))
	if err != nil {
		return nil, err
	}
	if b, err = a.Encode(); err != nil {
		return nil, err
	}
	return a, writeNew(path, b)
}

// writeNew writes a file that does not exist yet.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func openImage(path string) (*vcard.Image, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

func cardShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Show what is on a virtual card, its PINs included",
		Example: "  gate-sim card show alice.json",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			img, err := openImage(a[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s, ATR %X\n", img.Kind, []byte(img.ATR))
			if img.Answer != nil {
				fmt.Fprintf(w, "answers %X to everything\n", []byte(img.Answer))
			}
			if c, err := x509.ParseCertificate(img.AuthenticationCertificate()); err == nil {
				fmt.Fprintf(w, "certificate %X, %s to %s\n", c.SerialNumber, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
			}
			for _, app := range img.Applications {
				fmt.Fprintf(w, "DF %X\n", []byte(app.AID))
				for _, f := range app.Files {
					fmt.Fprintf(w, "  EF %v  %5d bytes of %5d  read: %s\n", f.ID, len(f.Content), f.Size, conditions(f.Read))
				}
				for _, p := range app.PINs {
					tries := fmt.Sprintf("%d of %d tries", p.Left, p.Limit)
					if p.Limit == 0 {
						tries = "any number of tries"
					}
					fmt.Fprintf(w, "  EF %v  PIN %q, %s\n", p.ID, p.Value, tries)
				}
				for _, k := range app.Keys {
					fmt.Fprintf(w, "  EF %v  %v private key  use: %s\n", k.ID, k.Private, conditions(k.Use))
				}
				if app.InternalKey != nil {
					fmt.Fprintf(w, "  the card's own %v key, for internal authentication\n", app.InternalKey)
				}
			}
			return nil
		},
	}
}

// conditions says what must be satisfied first.
func conditions(ids []vcard.FileID) string {
	if len(ids) == 0 {
		return "free"
	}
	return fmt.Sprintf("after any of %v", ids)
}

func cardInsertCommand() *cobra.Command {
	var (
		addr  string
		clock clockFlags
		stay  time.Duration
	)
	cmd := &cobra.Command{
		Use:     "insert FILE [--vpcd HOST:PORT] [--for DURATION]",
		Short:   "Put a virtual card into a reader of vpcd, and pull it out at the end",
		Example: "  gate-sim card insert alice.json --for 2s",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&addr, "vpcd", "127.0.0.1:35963", "where vpcd listens")
	cmd.Flags().DurationVar(&stay, "for", 0, "how long the card stays; default until interrupted")
	clock.add(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		img, err := openImage(a[0])
		if err != nil {
			return err
		}
		c, err := clock.clock()
		if err != nil {
			return err
		}
		card, err := vcard.New(img, vcard.Options{Clock: c})
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if stay > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, stay)
			defer cancel()
		}
		conn, err := pcscd.Dial(ctx, addr)
		if err != nil {
			return fmt.Errorf("%w: is pcscd running with the vpcd driver?", err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is in the reader at %s\n", a[0], addr)
		err = card.Serve(ctx, conn)
		if ctx.Err() != nil {
			err = nil // pulled out as planned
		}
		return errors.Join(err, conn.Close())
	}
	return cmd
}
