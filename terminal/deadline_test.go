package terminal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// inBubble runs f where time passes only while everybody waits, beginning at
// the world's now: deadlines are exact.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	c, err := earth() // outside: making keys may start goroutines
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(c.Now))
		f(t)
	})
}

// With the clock on and no computer in the way, what remains is the card.
func TestTapTakesTheTimeOfTheCard(t *testing.T) {
	for _, c := range []struct {
		method    jpki.Method
		rate      int
		low, high time.Duration
	}{
		{jpki.TapUse, 106_000, 350 * time.Millisecond, 450 * time.Millisecond},
		{jpki.TapUse, 424_000, 310 * time.Millisecond, 350 * time.Millisecond},
		{jpki.ExternalAuth, 106_000, 550 * time.Millisecond, 750 * time.Millisecond},
		{jpki.ExternalAuth, 424_000, 400 * time.Millisecond, 480 * time.Millisecond},
	} {
		inBubble(t, func(t *testing.T) {
			r := newRig(t, methods(c.method))
			clock := &vcard.Clock{BitRate: c.rate, Sleep: true}
			d := r.tap(t, card(t, r.card(t, "listed", c.method), vcard.Options{Clock: clock}))
			if !d.Admitted() || d.Elapsed < c.low || d.Elapsed > c.high {
				t.Errorf("%s at %d bit/s: %s after %v, want %v to %v", c.method, c.rate, d.Reason, d.Elapsed, c.low, c.high)
			}
			if stages := d.Stages; stages.Sign < 300*time.Millisecond || stages.Read == 0 || stages.Select == 0 {
				t.Errorf("stages: %+v", stages)
			}
		})
	}
}

// A card that needs longer than the deadline gets read_timeout at the
// deadline, and its right answer opens nothing later.
func TestAnswerAfterTheDeadline(t *testing.T) {
	for _, method := range []jpki.Method{jpki.TapUse, jpki.ExternalAuth} {
		inBubble(t, func(t *testing.T) {
			r := newRig(t, methods(method))
			slow := &vcard.Clock{KeyOperation: 4 * time.Second, Sleep: true}
			d := r.put(t, card(t, r.card(t, "listed", method), vcard.Options{Clock: slow}))
			r.wantShut(t, d, terminal.ReadTimeout)
			if d.Elapsed < 3*time.Second || d.Elapsed > 3*time.Second+10*time.Millisecond {
				t.Errorf("answered after %v", d.Elapsed)
			}
			if method == jpki.ExternalAuth && d.TerminalSignatures != 1 {
				t.Error("the signature of the terminal's key is not counted")
			}
			time.Sleep(10 * time.Second)
			r.wantShut(t, d, terminal.ReadTimeout)
		})
	}
}

// A card, or its driver, that never answers and ignores every deadline.
func TestReaderThatIgnoresTheDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, methods(jpki.TapUse))
		genuine := card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})
		release := make(chan struct{})
		d := r.put(t, bend(genuine, func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
			if n == 4 {
				<-release
				answer, err := genuine.Transmit(context.WithoutCancel(ctx), capdu)
				return answer, err, true // the right answer, much later
			}
			return nil, nil, false
		}))
		r.wantShut(t, d, terminal.ReadTimeout)
		synctest.Wait()
		if r.gate.Signal() != terminal.ShowOutOfOrder {
			t.Errorf("while the reader hangs the lamp is %v", r.gate.Signal())
		}
		time.Sleep(time.Minute)
		close(release)
		synctest.Wait()
		r.wantShut(t, d, terminal.ReadTimeout)
		if r.gate.Signal() != terminal.ShowReady {
			t.Errorf("when it is back the lamp is %v", r.gate.Signal())
		}
		r.field.Remove(slotA)
		if d := r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); !d.Admitted() {
			t.Errorf("the next tap: %v %s (%v)", d.Verdict, d.Reason, d.Cause)
		}
	})
}

// Every signature of the terminal's key is in the record, also when the
// reader hung before it could be told.
func TestSignatureOfAHungTapIsRecordedLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, methods(jpki.ExternalAuth))
		first := r.put(t, bend(card(t, r.card(t, "listed", jpki.ExternalAuth), vcard.Options{}),
			func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
				if n == 10 {
					time.Sleep(time.Minute)
				}
				return nil, nil, false
			}))
		r.wantShut(t, first, terminal.ReadTimeout)
		second := r.decision(t)
		r.wantShut(t, second, terminal.ReadTimeout)
		signed := 0
		for _, e := range r.events(t) {
			signed += e.TerminalSignatures
		}
		if signed != 1 || first.TerminalSignatures+second.TerminalSignatures != 1 {
			t.Errorf("the journal counts %d signatures, the decisions %d and %d", signed, first.TerminalSignatures, second.TerminalSignatures)
		}
	})
}

// Whoever compares the person with the card can fail, and that is no "nobody
// answered".
func TestFailedHolderCheckIsToldFromNoAnswer(t *testing.T) {
	r := newRig(t, methods(jpki.TapUse), staff, func(_ *rig, _ *terminal.Config, p *terminal.Parts) {
		p.Checker = brokenChecker{}
	})
	r.put(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
	d := r.decision(t)
	r.wantShut(t, d, terminal.ManualCheck)
	if d.HolderCheck != terminal.CheckFailed {
		t.Errorf("holder check %q", d.HolderCheck)
	}
}

type brokenChecker struct{}

func (brokenChecker) Check(context.Context, terminal.Decision) (bool, error) {
	return false, errors.New("the face unit does not answer")
}

// A disk that takes too long to make the entry durable: the entry is annulled.
func TestJournalSlowerThanTheDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, methods(jpki.TapUse), func(r *rig, _ *terminal.Config, p *terminal.Parts) {
			p.Journal = &slowJournal{Journal: r.site.Journal, delay: 5 * time.Second}
		})
		d := r.put(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
		if d.Admitted() || d.Reason != terminal.ReadTimeout || d.Elapsed > 3*time.Second+10*time.Millisecond {
			t.Errorf("%v %s after %v", d.Verdict, d.Reason, d.Elapsed)
		}
		time.Sleep(10 * time.Second)
		if r.gate.Opened() != 0 {
			t.Error("the gate opened")
		}
		r.wantUses(t, 0)
		events := r.events(t)
		last := events[len(events)-1]
		if last.Kind != journal.KindAnnul || last.Reason != terminal.ReadTimeout {
			t.Errorf("the journal ends with %+v", last.Event)
		}
	})
}

// Staff confirms, and then the disk takes too long.
func TestConfirmationHasADeadlineToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, methods(jpki.TapUse), staff, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
			p.Journal = &slowJournal{Journal: r.site.Journal, delay: 5 * time.Second}
		})
		if d := r.put(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{})); d.Verdict != terminal.Attend {
			t.Fatal(d.Reason, d.Cause)
		}
		synctest.Wait()
		if !r.gate.Press(true) {
			t.Fatal("nobody waits for staff")
		}
		d := r.decision(t)
		if d.Admitted() || d.Reason != terminal.ReadTimeout || r.gate.Opened() != 0 {
			t.Errorf("%v %s, opened %d", d.Verdict, d.Reason, r.gate.Opened())
		}
		r.wantUses(t, 0)
	})
}

// The agent is told to stop in the middle of a tap.
func TestShutdownDuringATap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t)
		field := nfctest.NewField(slotA)
		var decision terminal.Decision
		lane, simulator, err := r.site.Lane(field, func(_ *terminal.Config, p *terminal.Parts) {
			p.Observe = func(d terminal.Decision) { decision = d }
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		field.Insert(slotA, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{Clock: &vcard.Clock{Sleep: true}}))
		var ended sync.WaitGroup
		ended.Go(func() {
			if err := lane.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(100 * time.Millisecond)
		stop()
		ended.Wait()
		if decision.Admitted() || decision.Reason != terminal.OutOfOrder || simulator.Opened() != 0 {
			t.Errorf("%v %s, opened %d", decision.Verdict, decision.Reason, simulator.Opened())
		}
	})
}

func TestPermitOpensOnceAndNeverAfterItsRevocation(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		// Through the only maker of permits, a lane.
		var permits []*terminal.Permit
		r := newRig(t, func(r *rig, _ *terminal.Config, p *terminal.Parts) {
			p.Gate = &keepingGate{Gate: p.Gate, kept: &permits}
		})
		r.tap(t, card(t, r.card(t, "listed", jpki.TapUse), vcard.Options{}))
		if len(permits) != 1 {
			t.Fatalf("%d permits", len(permits))
		}
		if permits[0].Spend() == nil {
			t.Error("spent twice")
		}
		if permits[0].Revoke() {
			t.Error("revoked after it was spent")
		}
	})
}

// A slowJournal takes its time to reserve.
type slowJournal struct {
	*journal.Journal
	delay time.Duration
}

func (j *slowJournal) Reserve(ctx context.Context, d terminal.Decision, seen uint64) (terminal.Reservation, error) {
	r, err := j.Journal.Reserve(ctx, d, seen)
	time.Sleep(j.delay)
	return r, err
}

// A keepingGate keeps the permits that it was given.
type keepingGate struct {
	terminal.Gate
	kept *[]*terminal.Permit
}

func (g *keepingGate) Open(ctx context.Context, p *terminal.Permit, people uint32) error {
	*g.kept = append(*g.kept, p)
	return g.Gate.Open(ctx, p, people)
}
