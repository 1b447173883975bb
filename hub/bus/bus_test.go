package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gate-agent/gate-agent/sync/link"
)

// answering lets a hub answer events with who sent them.
func (s *site) answering(b *Bus) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Answer(ctx, func(_ context.Context, t Terminal, batch []byte) []byte {
			return fmt.Appendf(nil, "%s/%s: %s", t.Scope, t.Name, batch)
		}); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			s.Log(err)
		}
	})
	s.Cleanup(func() { cancel(); wg.Wait() })
}

func (s *site) ask(l *linked, g *gate, batch string) string {
	s.Helper()
	var answer []byte
	s.await("the hub answers", func() bool { // it may not listen yet
		ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
		defer cancel()
		var err error
		answer, err = l.Request(ctx, g.subjects().Events, []byte(batch))
		return err == nil
	})
	return string(answer)
}

func TestTerminalAndHubSpeakWithEachOther(t *testing.T) {
	s := newSite(t)
	g := s.terminal(hall, "gate-1")
	b := s.open(s.config())
	s.answering(b)
	live := make(chan string, 16)
	s.must(b.Watch(func(from Terminal, decision []byte) { live <- from.Name + ": " + string(decision) }))
	l := s.link(g, b.Address())
	l.until(t, "connected", connected)

	if got := s.ask(l, g, "batch"); got != "hall/gate-1: batch" {
		t.Errorf("answer %q", got)
	}
	s.await("a heartbeat came", func() bool { return len(b.Beats()) == 1 })
	if beat := b.Beats()[0]; beat.Scope != hall || beat.Terminal != "gate-1" || beat.Health.List == nil || beat.Health.List.Seq != 7 || beat.Received.IsZero() {
		t.Errorf("heartbeat %+v", beat)
	}
	l.Live([]byte("admitted"))
	if got := <-live; got != "gate-1: admitted" {
		t.Errorf("live: %q", got)
	}
	s.must(b.Poke(hall))
	<-l.pokes
}

// A terminal starts before its hub, and goes on when that comes, goes and comes again.
func TestHubThatIsNotThereHoldsNothingUp(t *testing.T) {
	s := newSite(t)
	g := s.terminal(hall, "gate-1")
	address := freeAddress(t)
	l := s.link(g, address)
	if l.Connected() {
		t.Fatal("connected to nobody")
	}
	if _, err := l.Request(t.Context(), g.subjects().Events, nil); !errors.Is(err, link.ErrNotConnected) {
		t.Errorf("asked nobody: %v", err)
	}
	l.Live([]byte("a"))
	if l.Dropped() != 1 {
		t.Errorf("%d decisions left out, want 1", l.Dropped())
	}
	l.until(t, "told why", func(s link.State) bool { return s.Problem != "" })

	cfg := s.config()
	cfg.Listen = address
	for range 2 {
		b := s.open(cfg)
		l.until(t, "connected", connected)
		s.await("a heartbeat came", func() bool { return len(b.Beats()) == 1 })
		s.must(b.Close())
		l.until(t, "away", func(s link.State) bool { return !s.Connected })
	}
}

// What is shown at the next connection is the certificate of then.
func TestRenewedCertificateIsUsed(t *testing.T) {
	s := newSite(t)
	g := s.terminal(hall, "gate-1")
	s.certify(g, s.authority, link.ID(g.spki), time.Now().AddDate(-1, 0, 0))
	b := s.open(s.config())
	l := s.link(g, b.Address())
	l.until(t, "refused", func(s link.State) bool { return s.Problem != "" })
	if l.Connected() {
		t.Fatal("connected with a certificate that has ended")
	}
	s.certify(g, s.authority, link.ID(g.spki), time.Now())
	l.until(t, "connected", connected)
}
