package lists_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// A source that changes, is broken, goes away and returns: each change is
// taken over or refused once, and the list in force is always a whole one.
func TestFollow(t *testing.T) {
	w, err := world.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list := func(seq uint64) []byte {
		w.Manifest.Seq = seq
		b, err := w.List()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lists1, lists2 := list(1), list(2)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(w.Now))
		site, err := w.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer site.Close()
		path := filepath.Join(t.TempDir(), "list.cose")
		put := func(b []byte) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			now := time.Now() // of the bubble, or two writes look alike
			if err := os.Chtimes(path, now, now); err != nil {
				t.Fatal(err)
			}
		}
		file, err := fetch.NewFile("file:"+path, whitelist.MaxFile)
		if err != nil {
			t.Fatal(err)
		}
		type report struct {
			seq uint64
			err error
		}
		told := make(chan report, 8)
		since := func() (reports []report) { // what was told since the last call
			for {
				select {
				case r := <-told:
					reports = append(reports, r)
				default:
					return reports
				}
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var following sync.WaitGroup
		following.Go(func() {
			lists.Follow(ctx, time.Minute, file, site.Store, func(m whitelist.Manifest, err error) {
				told <- report{m.Seq, err}
			})
		})
		synctest.Wait()
		since() // the first look, at no file
		for _, step := range []struct {
			name string
			do   func()
			seq  uint64 // reported: a list in force
			err  error  // or a failure
			none bool   // or nothing
		}{
			{"no file", func() {}, 0, os.ErrNotExist, false},
			{"first list", func() { put(lists1) }, 1, nil, false},
			{"unchanged", func() {}, 0, nil, true},
			{"half a list", func() { put(lists2[:len(lists2)/2]) }, 0, errAny, false},
			{"the same half", func() {}, 0, nil, true},
			{"next list", func() { put(lists2) }, 2, nil, false},
			{"older list", func() { put(lists1) }, 0, listdb.ErrOlder, false},
		} {
			step.do()
			time.Sleep(time.Minute)
			synctest.Wait()
			reports := since()
			switch {
			case step.none:
				if len(reports) != 0 {
					t.Errorf("%s: %v", step.name, reports)
				}
			case len(reports) != 1:
				t.Errorf("%s: %d reports", step.name, len(reports))
			case step.err == errAny:
				if reports[0].err == nil {
					t.Errorf("%s: taken over", step.name)
				}
			case !errors.Is(reports[0].err, step.err) || step.err == nil && reports[0].seq != step.seq:
				t.Errorf("%s: %+v, want seq %d, error %v", step.name, reports[0], step.seq, step.err)
			}
		}
		stop()
		following.Wait()
		view, err := site.Store.Current()
		if err != nil {
			t.Fatal(err)
		}
		defer view.Release()
		if view.Manifest().Seq != 2 || bytes.Equal(lists1, lists2) {
			t.Errorf("in force: %d", view.Manifest().Seq)
		}
	})
}

var errAny = errors.New("any")

// A stick that is pulled out while it is read comes back with the same file, of
// the same size and time: it may hold the revocations that everybody waits for.
func TestListOnAMediumThatWasPulledOutIsFetchedAgain(t *testing.T) {
	w, err := world.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "list.cose")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := fetch.NewFile("file:"+path, whitelist.MaxFile)
	if err != nil {
		t.Fatal(err)
	}
	site, err := w.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()

	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var reports []error
	lists.Follow(ctx, time.Millisecond, &pulled{File: file}, site.Store, func(_ whitelist.Manifest, err error) {
		if reports = append(reports, err); err == nil {
			stop()
		}
	})
	if len(reports) != 2 || !errors.Is(reports[0], syscall.EIO) || reports[1] != nil {
		t.Errorf("%v, want an error of reading and then the list", reports)
	}
}

// A pulled medium fails the first time that it is read.
type pulled struct {
	*fetch.File
	again bool
}

func (p *pulled) Fetch(ctx context.Context) (io.ReadCloser, error) {
	f, err := p.File.Fetch(ctx)
	if err != nil || p.again {
		return f, err
	}
	p.again = true
	half := io.MultiReader(io.LimitReader(f, 100), iotest.ErrReader(syscall.EIO))
	return struct {
		io.Reader
		io.Closer
	}{half, f}, nil
}
