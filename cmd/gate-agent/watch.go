package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What an agent works with changes while it runs. Here an operator is told;
// no tap waits for it.

// lookEvery is how often watchReaders looks. Nothing waits for it: cards are
// seen at once, by the lane.
const lookEvery = 10 * time.Second

// watchReaders tells the operator which readers the lane has, now and whenever
// that has changed, until ctx ends.
func watchReaders(ctx context.Context, log *slog.Logger, lane *pcsc.Lane, patterns []string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := ""; ; {
		bound, cancel := context.WithTimeout(ctx, 2*time.Second)
		now := describeReaders(bound, lane, patterns)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if now.text != last {
			level := slog.LevelInfo
			if !now.ready {
				level = slog.LevelWarn
			}
			log.Log(ctx, level, "readers", "readers", now.text)
			last = now.text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookForList is how often watchList looks. A tap uses a new list at once.
const lookForList = time.Second

// watchList tells and records which list is in force, now and whenever that
// has changed, whoever imported it, until ctx ends.
func watchList(ctx context.Context, log *slog.Logger, list terminal.List, record *journal.Journal, clock func() time.Time) {
	tick := time.NewTicker(lookForList)
	defer tick.Stop()
	for last := ""; ; {
		m, err := manifestOf(list)
		rows := m.Digest()
		seq := m.Seq
		if m.Published() { // a manifest that only goes on for longer is no news
			seq = m.Set.Seq
		}
		now := fmt.Sprintf("%d, %d, %x", m.Epoch, seq, rows)
		if err != nil {
			now = err.Error()
		}
		if now != last {
			last = now
			if err != nil {
				log.Warn("no list in force: every card is denied", "error", err)
			} else {
				log.Info("list in force", "epoch", m.Epoch, "seq", m.Seq, "rows", m.Rows, "not_after", m.NotAfter, "digest", hex.EncodeToString(rows[:8]))
				if err := record.ListApplied(ctx, clock(), m.Scope, m.Epoch, m.Seq, rows); err != nil {
					log.Error("list not recorded", "error", err)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func manifestOf(list terminal.List) (whitelist.Manifest, error) {
	view, err := list.Current()
	if err != nil {
		return whitelist.Manifest{}, err
	}
	defer view.Release()
	return view.Manifest(), nil
}
