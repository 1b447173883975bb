package lists_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/sync/lists"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A followed is an updater that follows its source, with what it reports.
type followed struct {
	mu     sync.Mutex
	rounds []lists.Round
	at     []time.Time
}

// follow lets u follow its source for so long.
func follow(t *testing.T, u *lists.Updater, long time.Duration) *followed {
	t.Helper()
	f := new(followed)
	ctx, stop := context.WithTimeout(t.Context(), long)
	defer stop()
	u.Follow(ctx, func(r lists.Round) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rounds, f.at = append(f.rounds, r), append(f.at, time.Now())
	})
	return f
}

func TestFollowLooksAtOnceAndThenAtTheTerminalsInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newQuietSite(t, nil)
		s.publish(t, 1, s.rows, nil)
		time.Sleep(time.Until(s.world.Now))
		begun := time.Now()
		f := follow(t, s.from(t, "file:"+s.hub.Dir, func(c *lists.Config, _ *fetch.Options) { c.Every = time.Minute }), 5*time.Minute)
		if len(f.at) < 5 || len(f.at) > 6 || !f.at[0].Equal(begun) {
			t.Fatalf("rounds at %v", f.at)
		}
		phase := fetch.Phase(world.Terminal, time.Minute)
		for i, at := range f.at[1:] {
			if off := time.Duration(at.UnixNano()) % time.Minute; off != phase {
				t.Errorf("round %d comes %v into the minute, want %v", i+2, off, phase)
			}
			if !at.Equal(f.rounds[i].Next) {
				t.Errorf("round %d comes at %v, it was to be %v", i+2, at, f.rounds[i].Next)
			}
		}
		if r := f.rounds[0]; r.Came != lists.BySnapshot || f.rounds[1].Came != "" || !f.rounds[1].Contact {
			t.Errorf("%s, then %s", said(r), said(f.rounds[1]))
		}
		status, err := lists.ReadStatus(s.state)
		if err != nil || status.Counts.Rounds != uint64(len(f.at)) || status.Next.Before(f.at[len(f.at)-1].Truncate(time.Second)) {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

// However a hub fails, nobody asks it more often than one that works, and after
// some failures far less often.
func TestFollowLeavesABrokenHubAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		rand   func(int64) int64
		answer string // of the hub, "" refuses the connection
		gap    [2]time.Duration
		from   int // the round from which the gap holds
	}{
		{"unluckiest chance", func(int64) int64 { return 0 }, "", [2]time.Duration{time.Minute, time.Minute}, 1},
		{"luckiest chance", func(n int64) int64 { return n - 1 }, "", [2]time.Duration{lists.MaxBackoff, lists.MaxBackoff + time.Minute}, 5},
		{"Retry-After", func(int64) int64 { return 0 }, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
			[2]time.Duration{10 * time.Minute, 11 * time.Minute}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newQuietSite(t, nil)
				u := s.from(t, "http://localhost/lists", func(cfg *lists.Config, opt *fetch.Options) {
					cfg.Every, cfg.Rand = time.Minute, c.rand
					opt.Dial = func(context.Context, string, string) (net.Conn, error) {
						if c.answer == "" {
							return nil, syscall.ECONNREFUSED
						}
						here, there := net.Pipe()
						go func() {
							there.Read(make([]byte, 64<<10))
							io.WriteString(there, c.answer)
							there.Close()
						}()
						return here, nil
					}
				})
				f := follow(t, u, time.Hour)
				for i := range f.at[1:] {
					if f.rounds[i].Err == nil || f.rounds[i].Refused() || f.rounds[i].Contact {
						t.Errorf("round %d: %s", i+1, said(f.rounds[i]))
					}
					if gap := f.at[i+1].Sub(f.at[i]); i >= c.from && (gap < c.gap[0] || gap > c.gap[1]) {
						t.Errorf("round %d comes %v after the one before, want %v to %v", i+2, gap, c.gap[0], c.gap[1])
					}
				}
				if len(f.at) < 5 {
					t.Errorf("%d rounds in an hour", len(f.at))
				}
				status, err := lists.ReadStatus(s.state)
				if err != nil || status.Failure == nil || status.Failure.Times != uint64(len(f.at)) || !status.LastContact.IsZero() {
					t.Errorf("%+v, %v", status, err)
				}
			})
		})
	}
}

// A hub that dribbles costs a round and no more, and ends with the agent.
func TestSlowManifestEndsTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newQuietSite(t, nil)
		u := s.from(t, "http://localhost/lists", func(_ *lists.Config, opt *fetch.Options) {
			opt.Dial = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					there.Read(make([]byte, 64<<10))
					_, err := io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
					for err == nil {
						time.Sleep(10 * time.Second)
						_, err = there.Write([]byte{0x84})
					}
					there.Close()
				}()
				return here, nil
			}
		})
		begun := time.Now()
		r := u.Round(t.Context())
		if r.Err == nil || r.Refused() || time.Since(begun) > time.Minute {
			t.Errorf("after %v: %s", time.Since(begun), said(r))
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		begun = time.Now()
		if r := u.Round(ctx); !errors.Is(r.Err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("broken off after %v: %s", time.Since(begun), said(r))
		}
		if status, err := lists.ReadStatus(s.state); err != nil || status.Counts.Rounds != 1 {
			t.Errorf("a round that was broken off counts: %+v, %v", status, err)
		}
		time.Sleep(time.Minute) // until the hub has noticed
	})
}

// A stick that nobody puts in overruns nobody: it is looked for in each interval, and
// so is what a refused list is replaced by.
func TestMissingStickAndRefusedListAreLookedForAsOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newQuietSite(t, nil)
		time.Sleep(time.Until(s.world.Now))
		path := filepath.Join(t.TempDir(), "stick")
		u := s.from(t, "file:"+path, func(c *lists.Config, _ *fetch.Options) {
			c.Every, c.Rand = time.Minute, func(n int64) int64 { return n - 1 }
		})
		if f := follow(t, u, 20*time.Minute); len(f.at) < 20 || !errors.Is(f.rounds[0].Err, os.ErrNotExist) {
			t.Errorf("%d rounds in 20 minutes, %v", len(f.at), f.rounds[0].Err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newQuietSite(t, nil)
		s.publish(t, 1, s.rows, func(m *whitelist.Manifest) { m.Hierarchy = whitelist.Production })
		head, err := os.ReadFile(s.file(whitelist.HeadName))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(s.world.Now))
		u := s.from(t, "http://localhost/lists", func(c *lists.Config, opt *fetch.Options) {
			c.Every, c.Rand = time.Minute, func(n int64) int64 { return n - 1 }
			opt.Dial = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					there.Read(make([]byte, 64<<10))
					fmt.Fprintf(there, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", http.StatusOK, len(head), head)
					there.Close()
				}()
				return here, nil
			}
		})
		if f := follow(t, u, 20*time.Minute); len(f.at) < 20 || !f.rounds[0].Refused() {
			t.Errorf("%d rounds in 20 minutes, %s", len(f.at), said(f.rounds[0]))
		}
	})
}

func TestTwoRoundsDoNotRunAtOnce(t *testing.T) {
	s := newSite(t, nil)
	s.publish(t, 1, s.rows, nil)
	f, err := os.OpenFile(filepath.Join(s.state, "sync.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	u := s.from(t, s.server.URL, func(c *lists.Config, _ *fetch.Options) {
		c.Tell = func(p lists.Progress) {
			if p.Doing == lists.Waiting {
				close(waiting)
			}
		}
	})
	done := make(chan lists.Round)
	go func() { done <- u.Round(t.Context()) }()
	<-waiting
	if got := s.fetched(); len(got) > 0 {
		t.Errorf("while another one runs it asks for %q", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if r := s.Round(ctx); !errors.Is(r.Err, context.Canceled) {
		t.Error(said(r))
	}
	f.Close() // unlocks
	if r := <-done; r.Came != lists.BySnapshot {
		t.Error(said(r))
	}
}

// Somebody has stopped a round by hand (^Z): it holds the lock, and the agent says so.
func TestRoundThatIsStoppedIsToldByTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newQuietSite(t, nil)
		s.publish(t, 1, s.rows, nil)
		f, err := os.OpenFile(filepath.Join(s.state, "sync.lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		u := s.from(t, "file:"+s.hub.Dir, nil)
		told := follow(t, u, 2*lists.MaxBackoff)
		if len(told.rounds) == 0 || !errors.Is(told.rounds[0].Err, context.DeadlineExceeded) {
			t.Fatalf("%d rounds were told", len(told.rounds))
		}
		f.Close() // it goes on
		if told = follow(t, u, 2*lists.MaxBackoff); len(told.rounds) == 0 || told.rounds[0].Came != lists.BySnapshot {
			t.Errorf("%d rounds were told: %s", len(told.rounds), said(told.rounds[0]))
		}
	})
}
