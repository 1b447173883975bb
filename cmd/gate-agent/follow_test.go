package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A busy gate is left alone; what deltas have left behind is tidied up in the first lull.
func TestListIsWrittenAnewWhenNobodyComes(t *testing.T) {
	w, err := world.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var rows []whitelist.Listed
	for i := range 6500 { // more than a mebibyte, sealed
		row, err := w.Order(fmt.Sprintf("ORDER-%05d", i), fmt.Sprint("ticket-", i))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(w.Now))
		state := t.TempDir()
		site, err := w.Open(state)
		if err != nil {
			t.Fatal(err)
		}
		defer site.Close()
		hub := w.Publish(t.TempDir())
		source, err := fetch.New("file:"+hub.Dir, fetch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := lists.Open(lists.Config{Source: source, From: "file:" + hub.Dir, Store: site.Store, State: state, Terminal: world.Terminal})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		bring := func(seq uint64, by lists.Way) {
			w.Manifest.Seq = seq
			if _, err := hub.List(false, nil, rows...); err != nil {
				t.Fatal(err)
			}
			if r := u.Round(t.Context()); r.Err != nil || r.Came != by {
				t.Fatalf("came by %q, %v", r.Came, r.Err)
			}
		}
		bring(1, lists.BySnapshot)
		for i := range rows {
			rows[i].Row.Status = whitelist.Blocked
		}
		bring(2, lists.ByDeltas)

		var mu sync.Mutex
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(b)
		}), nil))
		said := func() int {
			mu.Lock()
			defer mu.Unlock()
			return strings.Count(out.String(), "list written anew")
		}
		ctx, stop := context.WithCancel(t.Context())
		quiet := newLull()
		var wg sync.WaitGroup
		wg.Go(func() { mergeWhenIdle(ctx, log, site.Store, quiet) })
		for range 10 {
			time.Sleep(time.Minute)
			quiet.end()
		}
		if n := said(); n != 0 {
			t.Errorf("written anew %d times while people came", n)
		}
		time.Sleep(idleAfter + 2*lookForIdle)
		if n := said(); n != 1 {
			t.Errorf("written anew %d times when nobody came, want once:\n%s", n, &out)
		}
		time.Sleep(time.Hour)
		stop()
		wg.Wait()
		if n := said(); n != 1 {
			t.Errorf("written anew %d times, though nothing was left to do", n)
		}
		m, err := manifestOf(site.Store)
		if err != nil || m.Seq != 2 {
			t.Errorf("list %d is in force, %v", m.Seq, err)
		}
		if err := site.Store.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
