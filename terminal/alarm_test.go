package terminal_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
)

// lamps remembers all that a gate has shown.
type lamps struct {
	*gate.Simulator
	mu    sync.Mutex
	shown []terminal.Signal
}

func (l *lamps) Show(s terminal.Signal) {
	l.mu.Lock()
	l.shown = append(l.shown, s)
	l.mu.Unlock()
	l.Simulator.Show(s)
}

func (l *lamps) remembered(r *rig, _ *terminal.Config, p *terminal.Parts) {
	l.Simulator, p.Gate = r.gate, l
}

func (l *lamps) wantNever(t testing.TB, s terminal.Signal) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.shown, s) {
		t.Errorf("the lamps showed %v among %v", s, l.shown)
	}
}

// People who leave a fire through the gate that hardware opened neither make it
// red nor fill the journal.
func TestEvacueesAreNoTailgaters(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		shown := new(lamps)
		d := newDoorway(t, shown.remembered)
		d.gate.Alarm(true)
		d.gate.PassBack()
		d.gate.Pass(3)
		synctest.Wait()
		shown.wantNever(t, terminal.ShowTailgate)
		if got := d.gate.Signal(); got != terminal.ShowEmergency {
			t.Errorf("the lamps show %v", got)
		}
		d.wantKinds(t, "incident(emergency_open)")
		d.gate.Alarm(false)
		d.gate.Pass(1) // the alarm is over
		synctest.Wait()
		d.wantKinds(t, "incident(emergency_open) incident(emergency_open) incident(tailgate)")
	})
}

// Staff opened for a group, and then the building is left: those who came before
// the alarm are counted, and nobody else.
func TestOverrideCountsNobodyInAnAlarm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoorway(t)
		if _, err := d.lane.Override(t.Context(), supervisor, "press", 50); err != nil {
			t.Fatal(err)
		}
		d.decision(t)
		d.gate.Pass(2)
		synctest.Wait()
		d.gate.Alarm(true)
		d.gate.Pass(7)
		synctest.Wait()
		if s := d.late(t); s.Passed != 2 {
			t.Errorf("%v %s, %d passed", s.Verdict, s.Reason, s.Passed)
		}
		d.wantKinds(t, "reserve passed passed incident(emergency_open) commit")
	})
}

// hang presents a card whose reader hangs until release is closed, and returns
// when it does.
func (d *doorway) hang(t testing.TB) (release chan<- struct{}) {
	hung, until := make(chan struct{}), make(chan struct{})
	d.field.Insert(slotA, bend(d.alice(t), func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
		if n == 2 {
			close(hung)
			<-until
		}
		return nil, nil, false
	}))
	<-hung
	return until
}

// A reader that hangs when the alarm comes has no word about the lamps.
func TestEmergencyOutlastsAHungTap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoorway(t, methods(jpki.TapUse))
		release := d.hang(t)
		d.gate.Alarm(true)
		for range 10 { // past the deadline, and the grace after it
			time.Sleep(time.Second)
			synctest.Wait()
			if got := d.gate.Signal(); got != terminal.ShowEmergency {
				t.Fatalf("the lamps show %v", got)
			}
		}
		if a := d.decision(t); a.Admitted() {
			t.Errorf("%v %s", a.Verdict, a.Reason)
		}
		close(release)
		synctest.Wait()
		if got := d.gate.Signal(); got != terminal.ShowEmergency || d.gate.Opened() != 0 {
			t.Errorf("when the reader is back the lamps show %v, opened %d", got, d.gate.Opened())
		}
		d.field.Remove(slotA)
		d.gate.Alarm(false)
		synctest.Wait()
		if got := d.gate.Signal(); got != terminal.ShowReady {
			t.Errorf("after the alarm the lamps show %v", got)
		}
	})
}

// The alarm is over, and the reader still hangs.
func TestHungReaderIsOutOfOrderAfterTheAlarmToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoorway(t, methods(jpki.TapUse))
		release := d.hang(t)
		d.gate.Alarm(true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		d.gate.Alarm(false)
		synctest.Wait()
		if got := d.gate.Signal(); got != terminal.ShowOutOfOrder {
			t.Errorf("the reader hangs, and the lamps show %v", got)
		}
		close(release)
		d.decision(t)
	})
}
