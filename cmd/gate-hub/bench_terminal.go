package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/procfs"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// A benchTerminal is what the terminal of a bench is told.
type benchTerminal struct {
	State  string
	Source string
	Scope  string
	Secret string // of the scope key, hexadecimal
	Public string // of the list key, hexadecimal
	Rows   int
}

// A benchRound is what came of one look at the source.
type benchRound struct {
	Error     string
	Came      lists.Way
	Deltas    int
	Seconds   float64
	WrittenMB float64
	RSSMB     float64 // the most there ever was
	Taps      int
	TapP99MS  float64 // while it was brought
	RestP99MS float64 // before
}

func listBenchTerminalCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench-terminal FILE", Hidden: true, Args: cli.Args(cobra.ExactArgs(1))}
	cmd.RunE = func(cmd *cobra.Command, a []string) (err error) {
		text, err := os.ReadFile(a[0])
		if err != nil {
			return err
		}
		var cfg benchTerminal
		if err := json.Unmarshal(text, &cfg); err != nil {
			return err
		}
		return cfg.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return cmd
}

// run makes one round for each line of in.
func (cfg benchTerminal) run(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	closing := func(f func() error) { err = errors.Join(err, f()) }
	secret, err := hex.DecodeString(cfg.Secret)
	if err != nil {
		return err
	}
	key, err := cardid.NewScopeKey(secret)
	if err != nil {
		return err
	}
	public, err := hex.DecodeString(cfg.Public)
	if err != nil {
		return err
	}
	keys, err := sign1.NewKeys(sign1.Key{Public: ed25519.PublicKey(public), Role: sign1.RoleList, Scope: cfg.Scope})
	if err != nil {
		return err
	}
	store, err := listdb.Open(listdb.Config{Dir: cfg.State, Scope: cfg.Scope, Hierarchy: whitelist.Test, Trust: roles.Trust{Pinned: keys}, ScopeKey: key})
	if err != nil {
		return err
	}
	defer closing(store.Close)
	record, err := journal.Open(filepath.Join(cfg.State, "journal.db"), nil)
	if err != nil {
		return err
	}
	defer closing(record.Close)
	source, err := fetch.New(cfg.Source, fetch.Options{})
	if err != nil {
		return err
	}
	updater, err := lists.Open(lists.Config{Source: source, From: cfg.Source, Store: store, State: cfg.State, Terminal: "bench"})
	if err != nil {
		return err
	}
	defer closing(updater.Close)

	door := benchDoor{store: store, record: record, rows: cfg.Rows}
	report := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var r benchRound
		if r.RestP99MS, _, err = door.tapFor(ctx, 2*time.Second, nil); err != nil {
			return err
		}
		wrote, err := procfs.Written(os.Getpid())
		if err != nil {
			return err
		}
		brought := make(chan struct{})
		var round lists.Round
		begun := time.Now()
		var fetching sync.WaitGroup
		fetching.Go(func() {
			defer close(brought)
			round = updater.Round(ctx)
			r.Seconds = time.Since(begun).Seconds()
		})
		r.TapP99MS, r.Taps, err = door.tapFor(ctx, time.Hour, brought)
		fetching.Wait()
		if err = errors.Join(err, round.Err); err == nil && round.Came == "" {
			err = errors.New("no list came")
		}
		if err != nil {
			r.Error = err.Error()
		}
		after, err := procfs.Written(os.Getpid())
		if err != nil {
			return err
		}
		r.Came, r.Deltas, r.WrittenMB = round.Came, round.Deltas, float64(after-wrote)/1e6
		if r.RSSMB, err = peakRSS(); err != nil {
			return err
		}
		if err := report.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// A benchDoor is where people tap: what a tap does besides the card and the gate.
type benchDoor struct {
	store  *listdb.Store
	record *journal.Journal
	rows   int
}

// tapFor has somebody tap every 5 ms until the time is over or until is closed. It
// returns the quantile that 99 % of the taps kept, in milliseconds.
func (d benchDoor) tapFor(ctx context.Context, most time.Duration, until <-chan struct{}) (p99 float64, n int, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(most)
	var took []time.Duration
	for {
		select {
		case <-tick.C:
			begun := time.Now()
			if err := d.tap(ctx); err != nil {
				return 0, n, err
			}
			took = append(took, time.Since(begun))
			continue
		case <-until:
		case <-end:
		case <-ctx.Done():
			return 0, n, ctx.Err()
		}
		break
	}
	if len(took) == 0 {
		return 0, 0, nil
	}
	slices.Sort(took)
	return took[(len(took)-1)*99/100].Seconds() * 1000, len(took), nil
}

// tap looks a card up, and reserves an entry. Before the first list there is
// nothing to find, and that is recorded.
func (d benchDoor) tap(ctx context.Context) error {
	view, err := d.store.Current()
	if errors.Is(err, listdb.ErrNoList) {
		return d.record.Record(ctx, terminal.Decision{Reason: terminal.DataStale, Gate: "gate", Direction: terminal.Entry, Instant: time.Now()})
	}
	if err != nil {
		return err
	}
	defer view.Release()
	row, err := view.Lookup(ctx, benchHead(rand.IntN(d.rows)))
	if err != nil {
		return err
	}
	ticket := row.Entitlements[0].ID
	past, err := d.record.History(ctx, ticket)
	if err != nil {
		return err
	}
	_, err = d.record.Reserve(ctx, terminal.Decision{
		Verdict: terminal.Admit, Reason: terminal.OK, Gate: "gate", Entitlement: ticket, People: 1, Direction: terminal.Entry, Instant: time.Now(),
		ListEpoch: view.Manifest().Epoch, ListSeq: view.Manifest().Seq,
	}, past.Last)
	return err
}

// peakRSS is the most memory that this process has had, in MB.
func peakRSS() (float64, error) {
	b, err := procfs.PeakRSS(os.Getpid())
	return float64(b) / 1e6, err
}
