package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/big"
	randv2 "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/whitelist"
)

func listBenchCommand() *cobra.Command {
	var b bench
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a large list costs, from the registry to a terminal that serves people",
		Long: `Bench makes a hub with that many cards, each with two RSA-2048 keys and a ticket, in a
temporary folder, publishes it, changes a share of the tickets by a CSV file, and
publishes again. A terminal, which is a process of its own with the agent's list
store, journal and sync, fetches both over HTTP on this machine, while people tap: each
tap looks a card up and reserves an entry, durably. Nothing outside the folder is
touched. A million cards take 5 GB of disk (TMPDIR) and some minutes.`,
		Example: "  gate-hub list bench --rows 100000 --churn 0.01",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&b.rows, "rows", 100000, "cards, 100 to 2000000")
	cmd.Flags().Float64Var(&b.churn, "churn", 0.01, "share of them whose ticket changes, above 0 to 0.4")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if b.rows < 100 || b.rows > 2000000 || b.churn <= 0 || b.churn > 0.4 {
			return cli.UsageError("--rows wants 100 to 2000000, and --churn more than 0 and at most 0.4: beyond that a hub publishes a snapshot")
		}
		b.progress = cmd.ErrOrStderr()
		r, err := b.run(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		}
		return r.print(cmd.OutOrStdout())
	}
	return cmd
}

// A bench is a hub and a terminal.
type bench struct {
	rows     int
	churn    float64
	progress io.Writer
}

// A benchReport is what came of it. docs/cli.md describes its members.
type benchReport struct {
	Rows           uint64  `json:"rows"`
	SnapshotBytes  int64   `json:"snapshot_bytes"`
	DeltaBytes     int64   `json:"delta_bytes"`
	PublishS       float64 `json:"publish_s"`
	ApplySnapshotS float64 `json:"apply_snapshot_s"`
	ApplyDeltaS    float64 `json:"apply_delta_s"`
	AgentRSSMB     float64 `json:"agent_rss_mb"`
	TapP99ExtraMS  float64 `json:"tap_p99_extra_ms"`

	DeltaRows          uint64  `json:"delta_rows"`
	DeltaToRows        float64 `json:"delta_to_sealed_rows"` // bytes of the delta to those of its sealed rows
	PublishDeltaS      float64 `json:"publish_delta_s"`
	HubRSSMB           float64 `json:"hub_rss_mb"`
	SnapshotWrittenMB  float64 `json:"snapshot_written_mb"`
	DeltaWrittenMB     float64 `json:"delta_written_mb"`
	TapP99MS           float64 `json:"tap_p99_ms"`
	TapP99SnapshotMS   float64 `json:"tap_p99_snapshot_ms"`
	TapP99DeltaMS      float64 `json:"tap_p99_delta_ms"`
	TapsDuringSnapshot int     `json:"taps_during_snapshot"`
	TapsDuringDelta    int     `json:"taps_during_delta"`
}

func (r benchReport) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `rows                    %d
snapshot                %d bytes, %.0f a row; published in %.1f s
delta of %d rows     %d bytes, %.3f of its sealed rows; published in %.1f s
terminal, snapshot      %.1f s, %.1f MB written to disk
terminal, delta         %.2f s, %.1f MB written to disk
memory, at most         terminal %.1f MB, hub %.1f MB
tap, p99                %.1f ms at rest, %.1f ms during the snapshot (%d taps), %.1f ms during the delta (%d)
`, r.Rows, r.SnapshotBytes, float64(r.SnapshotBytes)/float64(r.Rows), r.PublishS, r.DeltaRows, r.DeltaBytes, r.DeltaToRows, r.PublishDeltaS,
		r.ApplySnapshotS, r.SnapshotWrittenMB, r.ApplyDeltaS, r.DeltaWrittenMB, r.AgentRSSMB, r.HubRSSMB,
		r.TapP99MS, r.TapP99SnapshotMS, r.TapsDuringSnapshot, r.TapP99DeltaMS, r.TapsDuringDelta)
	return err
}

const benchScope = "bench"

func (b *bench) run(ctx context.Context) (r benchReport, err error) {
	dir, err := os.MkdirTemp("", "gate-hub-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	say := func(format string, a ...any) { fmt.Fprintf(b.progress, format+"\n", a...) }

	reg, err := registry.Open(ctx, "sqlite:"+filepath.Join(dir, "registry.db"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	by := registry.By{Actor: "bench", Reason: "bench", At: time.Now()}
	if err := reg.AddScope(ctx, by, registry.Scope{Name: benchScope, Hierarchy: whitelist.Test, Lifetime: 24 * time.Hour, LeaseDays: 7}); err != nil {
		return r, err
	}
	say("loading %d cards …", b.rows)
	if _, err := reg.Load(ctx, by, benchScope, benchCards(b.rows)); err != nil {
		return r, err
	}

	secret := make([]byte, cardid.ScopeKeySize)
	rand.Read(secret)
	key, err := cardid.NewScopeKey(secret)
	if err != nil {
		return r, err
	}
	public, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return r, err
	}
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return r, err
	}
	folder, err := publish.OpenFolder(files, benchScope)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	p := publish.Publisher{Registry: reg, Scope: benchScope, Key: key, Folder: folder, Keep: time.Hour}
	p.Signers.Pinned = append(p.Signers.Pinned, public)
	say("publishing …")
	begun := time.Now()
	draft, err := p.Publish(ctx, signer, time.Now(), false)
	if err != nil {
		return r, err
	}
	r.PublishS, r.Rows, r.SnapshotBytes = time.Since(begun).Seconds(), draft.Manifest.Rows, draft.Manifest.Snapshot.Size

	t, err := b.terminal(ctx, dir, files, benchTerminal{
		State: filepath.Join(dir, "terminal"), Scope: benchScope, Secret: hex.EncodeToString(secret), Public: hex.EncodeToString(public), Rows: b.rows,
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	say("a terminal fetches the snapshot …")
	snapshot, err := t.round()
	if err != nil {
		return r, err
	}

	changed := max(1, int(float64(b.rows)*b.churn))
	say("changing %d tickets by a CSV file …", changed)
	if _, err := reg.ImportTickets(ctx, by, benchScope, benchTickets(changed)); err != nil {
		return r, err
	}
	begun = time.Now()
	if draft, err = p.Publish(ctx, signer, time.Now(), false); err != nil {
		return r, err
	}
	r.PublishDeltaS, r.DeltaRows = time.Since(begun).Seconds(), draft.Changed
	say("the terminal fetches the delta …")
	delta, err := t.round()
	if err != nil {
		return r, err
	}
	if delta.Deltas != 1 {
		return r, fmt.Errorf("the terminal took %d deltas by %q, want 1", delta.Deltas, delta.Came)
	}
	for _, d := range draft.Manifest.Deltas {
		if d.To == draft.Manifest.Set.Seq {
			r.DeltaBytes = d.Size
		}
	}
	// A row is its sealed content, and 38 bytes of CardID and framing.
	r.DeltaToRows = float64(r.DeltaBytes) / float64(r.DeltaBytes-38*int64(r.DeltaRows))
	r.ApplySnapshotS, r.SnapshotWrittenMB, r.TapP99SnapshotMS, r.TapsDuringSnapshot = snapshot.Seconds, snapshot.WrittenMB, snapshot.TapP99MS, snapshot.Taps
	r.ApplyDeltaS, r.DeltaWrittenMB, r.TapP99DeltaMS, r.TapsDuringDelta = delta.Seconds, delta.WrittenMB, delta.TapP99MS, delta.Taps
	r.TapP99MS = delta.RestP99MS
	r.TapP99ExtraMS = max(snapshot.TapP99MS, delta.TapP99MS) - r.TapP99MS
	r.AgentRSSMB = delta.RSSMB
	r.HubRSSMB, err = peakRSS()
	return r, err
}

// benchHead is the head of card i, as long as that of a JPKI certificate.
func benchHead(i int) []byte {
	seed := [32]byte{0: 1}
	binary.BigEndian.PutUint64(seed[8:], uint64(i))
	head := make([]byte, 276)
	randv2.NewChaCha8(seed).Read(head)
	head[0] = 0x30
	return head
}

func benchCards(n int) iter.Seq2[registry.Loaded, error] {
	return func(yield func(registry.Loaded, error) bool) {
		for i := range n {
			c := registry.Credential{Head: benchHead(i), Serial: binary.BigEndian.AppendUint32([]byte{1}, uint32(i)), NotAfter: time.Now().AddDate(5, 0, 0)}
			var err error
			if c.AuthKey, err = benchKey(i, 1); err == nil {
				c.CardKey, err = benchKey(i, 2)
			}
			if !yield(registry.Loaded{Credential: c, Tickets: []registry.Ticket{{Entitlement: whitelist.Entitlement{ID: benchTicket(i), Uses: 1 << 20}}}}, err) || err != nil {
				return
			}
		}
	}
}

func benchTicket(i int) string { return fmt.Sprintf("T-%08d", i) }

// benchKey is an RSA-2048 key that nobody knows the factors of: no row needs them.
func benchKey(i int, which byte) (cardkey.Key, error) {
	seed := [32]byte{0: 2, 1: which}
	binary.BigEndian.PutUint64(seed[8:], uint64(i))
	modulus := make([]byte, 256)
	randv2.NewChaCha8(seed).Read(modulus)
	modulus[0] |= 0x80
	modulus[255] |= 1
	return cardkey.New(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537})
}

// benchTickets is a CSV file that changes the first n tickets.
func benchTickets(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		bw := bufio.NewWriter(w)
		fmt.Fprintln(bw, "id,uses")
		for i := range n {
			fmt.Fprintf(bw, "%s,%d\n", benchTicket(i), 1<<20+1)
		}
		w.CloseWithError(bw.Flush())
	}()
	return r
}

// terminal starts the terminal, and what it fetches from.
func (b *bench) terminal(ctx context.Context, dir, files string, cfg benchTerminal) (t *benchProcess, err error) {
	root, err := os.OpenRoot(files)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	serving, end := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		served <- hub.Serve(serving, hub.NewServer(hub.NewHandler(root, nil)), l, hub.DefaultConnections)
	}()
	t = &benchProcess{ended: func() error {
		end()
		return errors.Join(<-served, root.Close())
	}}
	cfg.Source = "http://" + l.Addr().String() + "/" + cfg.Scope
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, errors.Join(err, t.ended())
	}
	file := filepath.Join(dir, "terminal.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, errors.Join(err, t.ended())
	}
	t.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{os.Args[0], "list", "bench-terminal", file}, Stderr: b.progress,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if t.in, err = t.cmd.StdinPipe(); err == nil {
		var out io.Reader
		if out, err = t.cmd.StdoutPipe(); err == nil {
			t.out = json.NewDecoder(out)
			err = t.cmd.Start()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the terminal: %w", err), t.ended())
	}
	return t, nil
}

// A benchProcess is the terminal as the hub sees it.
type benchProcess struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	ended func() error
}

// round has the terminal fetch what there is.
func (t *benchProcess) round() (r benchRound, err error) {
	if _, err := io.WriteString(t.in, "\n"); err != nil {
		return r, fmt.Errorf("asking the terminal: %w", err)
	}
	if err := t.out.Decode(&r); err != nil {
		return r, fmt.Errorf("the terminal ended: %w", err)
	}
	if r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

func (t *benchProcess) stop() error {
	return errors.Join(t.in.Close(), t.cmd.Wait(), t.ended())
}
