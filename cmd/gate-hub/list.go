package main

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
	"github.com/gate-agent/gate-agent/whitelist"
)

func listCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "list", Short: "Build, sign and publish lists"},
		listPublishCommand(), listShowCommand(), listDiffCommand(), listExportCommand(), listSignCommand(), listBenchCommand(), listBenchTerminalCommand())
}

// A listReport is what list publish, export and show print. docs/cli.md lists its
// members.
type listReport struct {
	Scope          string     `json:"scope"`
	Hierarchy      string     `json:"hierarchy"`
	Epoch          uint64     `json:"epoch"`
	Seq            uint64     `json:"seq"`
	SetSeq         uint64     `json:"set_seq"`
	SetDigest      string     `json:"set_digest"`
	Rows           uint64     `json:"rows"`
	IssuedAt       time.Time  `json:"issued_at"`
	NotAfter       time.Time  `json:"not_after"`
	RevocationAsOf *time.Time `json:"revocation_as_of"`
	SnapshotSeq    uint64     `json:"snapshot_seq"`
	SnapshotBytes  int64      `json:"snapshot_bytes"`
	Deltas         int        `json:"deltas"`
	Added          *uint64    `json:"added,omitempty"`
	Changed        *uint64    `json:"changed,omitempty"`
	Gone           *uint64    `json:"gone,omitempty"`
	WrittenBytes   *int64     `json:"written_bytes,omitempty"`

	policy whitelist.Policy
	venue  whitelist.Venue
}

func reportList(m whitelist.Manifest) listReport {
	r := listReport{
		Scope: m.Scope, Hierarchy: m.Hierarchy, Epoch: m.Epoch, Seq: m.Seq, SetSeq: m.Set.Seq, SetDigest: hex.EncodeToString(m.Set.Digest[:]), Rows: m.Rows,
		IssuedAt: m.IssuedAt, NotAfter: m.NotAfter, SnapshotSeq: m.Snapshot.Seq, SnapshotBytes: m.Snapshot.Size, Deltas: len(m.Deltas),
		policy: m.Policy, venue: m.Venue,
	}
	if !m.RevocationAsOf.IsZero() {
		r.RevocationAsOf = &m.RevocationAsOf
	}
	return r
}

func reportDraft(d publish.Draft) listReport {
	r := reportList(d.Manifest)
	r.Added, r.Changed, r.Gone, r.WrittenBytes = &d.Added, &d.Changed, &d.Gone, &d.Written
	return r
}

func (r listReport) print(w io.Writer, asJSON bool) error {
	asOf := "never"
	if r.RevocationAsOf != nil {
		asOf = instant(*r.RevocationAsOf)
	}
	lines := [][2]string{
		{"scope", r.Scope + " (" + r.Hierarchy + ")"},
		{"epoch, list", fmt.Sprintf("%d, %d", r.Epoch, r.Seq)},
		{"rows", fmt.Sprintf("%d, as of list %d", r.Rows, r.SetSeq)},
		{"set digest", r.SetDigest},
		{"issued at", instant(r.IssuedAt)},
		{"not after", instant(r.NotAfter)},
		{"revocation as of", asOf},
		{"when expired", r.policy.Expired.String()},
		{"revocation stale", fmt.Sprintf("%s, after %v", r.policy.StaleRevocation, r.policy.RevocationMaxAge)},
		{"clock untrusted", r.policy.UntrustedClock.String()},
		{"venue", fmt.Sprintf("%d gates, %d zones, %d products, time zone %s", len(r.venue.Gates), len(r.venue.Zones), len(r.venue.Products), cmp.Or(r.venue.TimeZone, "UTC"))},
		{"snapshot", fmt.Sprintf("of list %d, %d bytes; %d deltas", r.SnapshotSeq, r.SnapshotBytes, r.Deltas)},
	}
	if r.Added != nil {
		lines = append(lines, [2]string{"this time", fmt.Sprintf("%d rows added, %d changed, %d gone; %d bytes written", *r.Added, *r.Changed, *r.Gone, *r.WrittenBytes)})
	}
	return answer(w, asJSON, r, lines...)
}

func listPublishCommand() *cobra.Command {
	var full bool
	var file string
	cmd := &cobra.Command{
		Use:   "publish --config FILE [--scope NAME] [--full | --signed FILE] [--json]",
		Short: "Publish the list now, or one that was signed elsewhere",
		Long: `Publish builds the rows that changed, writes the files that lead to them, signs
the manifest that names them, and puts it in place. With --signed it puts in place
what gate-hub list export wrote and somebody signed: exactly that, and only when a
key signed it that may.`,
		Example: "  gate-hub list publish --config /var/lib/gate-hub\n  gate-hub list publish --config /var/lib/gate-hub --signed arena.signed",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&full, "full", false, "build every row anew, also where nothing says that it changed")
	cmd.Flags().StringVar(&file, "signed", "", "a manifest that gate-hub list sign signed")
	cmd.MarkFlagsMutuallyExclusive("full", "signed")
	asJSON := jsonFlag(cmd)
	place := func(cmd *cobra.Command, p *publisher) error {
		signed, err := smallfile.Read(file, whitelist.MaxHead, 0)
		if err != nil {
			return err
		}
		m, err := p.Place(cmd.Context(), signed, time.Now())
		if err != nil {
			return err
		}
		return reportList(m).print(cmd.OutOrStdout(), *asJSON)
	}
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) (err error) {
		p, err := s.openPublisher(cmd.Context(), scope, file == "")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Close()) }()
		if file != "" {
			return place(cmd, p)
		}
		if p.key == nil {
			return cli.RefusedError{Err: fmt.Errorf("lists of %q are signed elsewhere (list_key is empty): gate-hub list export, sign, then publish --signed", p.Scope)}
		}
		p.Progress = progress(cmd.ErrOrStderr())
		d, err := p.Publish(cmd.Context(), p.key, time.Now(), full)
		if err != nil {
			return err
		}
		if end, err := p.ends(cmd, d.Manifest); err != nil {
			return err
		} else if end != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), end)
		}
		return reportDraft(d).print(cmd.OutOrStdout(), *asJSON)
	})
	return cmd
}

// ends says that the list lasts longer than the role of the key that signed it.
func (p *publisher) ends(cmd *cobra.Command, m whitelist.Manifest) (string, error) {
	s, err := p.Registry.Scope(cmd.Context(), p.Scope)
	if err != nil {
		return "", err
	}
	return warnEnd(p, s.Name, s.Hierarchy, m)
}

// progress tells a waiting person how far it is.
func progress(w io.Writer) func(publish.Doing, uint64) {
	return every(time.Second, func(doing publish.Doing, rows uint64) {
		fmt.Fprintf(w, "%d rows %s …\n", rows, doing)
	})
}

// every calls f so often at most, the first time after that long.
func every(d time.Duration, f func(publish.Doing, uint64)) func(publish.Doing, uint64) {
	next := time.Now().Add(d)
	return func(doing publish.Doing, rows uint64) {
		if now := time.Now(); now.After(next) {
			next = now.Add(d)
			f(doing, rows)
		}
	}
}

func listShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [FILE] [--config FILE] [--scope NAME] [--json]",
		Short: "Print what a manifest says: the one in place, or one of a file",
		Long: `Show prints what a manifest says, signed or not: of a file that gate-hub list
export or sign wrote, or that a terminal fetched; without a file the one that the
hub has in place. It verifies no signature.`,
		Example: "  gate-hub list show --config /var/lib/gate-hub\n  gate-hub list show arena.unsigned",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	cmd.Flags().String("scope", "", "the scope; the only one by default")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if len(a) == 1 {
			m, _, err := readManifest(a[0])
			if err != nil {
				return err
			}
			return reportList(m).print(cmd.OutOrStdout(), *asJSON)
		}
		return withSite(func(cmd *cobra.Command, s *site, _ []string) (err error) {
			name, _ := cmd.Flags().GetString("scope")
			if name, err = s.scope(name); err != nil {
				return err
			}
			p, err := s.openPublisher(cmd.Context(), name, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.Close()) }()
			m, _, _, err := p.Folder.Placed()
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("scope %q: %w: gate-hub list publish", name, publish.ErrUnpublished)
			}
			if err != nil {
				return err
			}
			return reportList(m).print(cmd.OutOrStdout(), *asJSON)
		})(cmd, a)
	}
	return cmd
}

// readManifest reads a file with a payload, a signed manifest, or one with a
// delegation in front.
func readManifest(path string) (m whitelist.Manifest, payload []byte, err error) {
	b, err := smallfile.Read(path, whitelist.MaxHead, 0)
	if err != nil {
		return m, nil, err
	}
	_, rest, err := roles.Cut(b)
	if err != nil {
		return m, nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	if payload, err = sign1.UnverifiedPayload(rest); err != nil {
		payload = rest // not signed yet
	}
	if m, err = whitelist.PeekManifest(payload); err != nil {
		return m, nil, cli.RefusedError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return m, payload, nil
}

// A diffReport is what list diff prints. docs/cli.md lists its members.
type diffReport struct {
	Scope    string   `json:"scope"`
	Epoch    uint64   `json:"epoch"`
	Seq      uint64   `json:"seq"`
	Next     uint64   `json:"next"`
	Due      string   `json:"due"`
	Added    uint64   `json:"added"`
	Changed  uint64   `json:"changed"`
	Gone     uint64   `json:"gone"`
	Settings []string `json:"settings"`
}

func listDiffCommand() *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:     "diff --config FILE [--scope NAME] [--full] [--json]",
		Short:   "Tell what the next list would change, and change nothing",
		Long:    "Diff builds the rows of the next list, compares them with those that are published,\nand throws them away. With --full it builds every row: what it finds then and not\nwithout is a fault of the hub.",
		Example: "  gate-hub list diff --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&full, "full", false, "build every row")
	asJSON := jsonFlag(cmd)
	withPublisher(cmd, true, func(cmd *cobra.Command, p *publisher, _ []string) error {
		now := time.Now()
		p.Progress = progress(cmd.ErrOrStderr())
		d, err := p.Compare(cmd.Context(), now, full)
		if err != nil {
			return err
		}
		due, err := p.Due(cmd.Context(), now)
		if err != nil {
			return err
		}
		r := diffReport{p.Scope, d.To.Epoch, d.From.Seq, d.To.Seq, due, d.Added, d.Changed, d.Gone, changedSettings(d.From, d.To)}
		why, what := due, "none"
		if why == "" {
			why = "no"
		}
		if len(r.Settings) > 0 {
			what = strings.Join(r.Settings, ", ")
		}
		return answer(cmd.OutOrStdout(), *asJSON, r, [][2]string{
			{"scope", r.Scope},
			{"lists", fmt.Sprintf("%d is published, %d would be next", r.Seq, r.Next)},
			{"due", why},
			{"rows", fmt.Sprintf("%d added, %d changed, %d gone", r.Added, r.Changed, r.Gone)},
			{"settings changed", what},
		}...)
	})
	return cmd
}

func listExportCommand() *cobra.Command {
	var out string
	var full bool
	cmd := &cobra.Command{
		Use:   "export --config FILE [--scope NAME] --out FILE [--full] [--json]",
		Short: "Build the next list, and write what has to be signed elsewhere",
		Long: `Export builds the next list and writes its files. The manifest that names them goes
into a new file, unsigned: it is signed where the key is (gate-hub list sign), and
put in place by gate-hub list publish --signed. The next export replaces it.`,
		Example: "  gate-hub list export --config /var/lib/gate-hub --out /media/usb/arena.unsigned",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&out, "out", "", "the file to write; it must be a new one")
	cmd.Flags().BoolVar(&full, "full", false, "build every row anew")
	asJSON := jsonFlag(cmd)
	withPublisher(cmd, true, func(cmd *cobra.Command, p *publisher, _ []string) (err error) {
		if out == "" {
			return cli.UsageError("--out is missing: name the file to write")
		}
		f, err := wholefile.Create(out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Discard()) }()
		p.Progress = progress(cmd.ErrOrStderr())
		d, err := p.Draft(cmd.Context(), time.Now(), full)
		if err != nil {
			return err
		}
		if err := f.Keep(d.Payload); err != nil {
			return err
		}
		return reportDraft(d).print(cmd.OutOrStdout(), *asJSON)
	})
	return cmd
}

func listSignCommand() *cobra.Command {
	var uri string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign IN OUT --key URI [--yes]",
		Short: "Sign a list that was exported, where its key is",
		Long: `Sign shows what an exported manifest says, asks whether to sign it, and writes it
signed into a new file. It needs no hub and no network.
名簿の内容を確かめてから署名します。`,
		Example: "  gate-hub list sign arena.unsigned arena.signed --key 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=hub;object=list?pin-source=/etc/gate-hub/pin'",
		Args:    cli.Args(cobra.ExactArgs(2)),
	}
	cmd.Flags().StringVar(&uri, "key", "", "key URI of the list key")
	cmd.Flags().BoolVar(&yes, "yes", false, "sign without asking")
	cmd.RunE = withKeys(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		if uri == "" {
			return cli.UsageError("--key is missing: the key URI of the list key")
		}
		m, payload, err := readManifest(a[0])
		if err != nil {
			return err
		}
		if err := reportList(m).print(cmd.ErrOrStderr(), false); err != nil {
			return err
		}
		if err := confirm(cmd, yes, "Sign this list? この名簿に署名しますか?"); err != nil {
			return err
		}
		f, err := wholefile.Create(a[1])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Discard()) }()
		k, err := openSigner(cmd, s, uri, keystore.List)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		signed, err := publish.Sign(payload, k)
		if err != nil {
			return err
		}
		return f.Keep(signed)
	})
	return cmd
}

// confirm asks a person at standard input; yes answers for them.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [yes/no] ", question)
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64)).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return cli.RefusedError{Err: errors.New("not confirmed: nothing was done (answer yes, or give --yes)")}
	}
	return nil
}
