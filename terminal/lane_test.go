package terminal_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/whitelist"
)

// What is missing is found out at the start, and not by the first person.
func TestLaneThatLacksAnythingDoesNotStart(t *testing.T) {
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	site, err := c.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	for name, lack := range map[string]func(*terminal.Config, *terminal.Parts){
		"scope":     func(c *terminal.Config, _ *terminal.Parts) { c.Scope = "" },
		"terminal":  func(c *terminal.Config, _ *terminal.Parts) { c.Terminal = "" },
		"gate name": func(c *terminal.Config, _ *terminal.Parts) { c.GateName = "" },
		"methods":   func(c *terminal.Config, _ *terminal.Parts) { c.Methods = nil },
		"method":    func(c *terminal.Config, _ *terminal.Parts) { c.Methods = []jpki.Method{"tap"} },
		"deadline":  func(c *terminal.Config, _ *terminal.Parts) { c.Deadline = 0 },
		"timeout":   func(c *terminal.Config, _ *terminal.Parts) { c.HolderCheckTimeout = 0 },
		"reader":    func(_ *terminal.Config, p *terminal.Parts) { p.Reader = nil },
		"dialogue":  func(_ *terminal.Config, p *terminal.Parts) { p.Dialogue = nil },
		"list":      func(_ *terminal.Config, p *terminal.Parts) { p.List = nil },
		"journal":   func(_ *terminal.Config, p *terminal.Parts) { p.Journal = nil },
		"gate":      func(_ *terminal.Config, p *terminal.Parts) { p.Gate = nil },
		"rand":      func(_ *terminal.Config, p *terminal.Parts) { p.Rand = nil },
		"observe":   func(_ *terminal.Config, p *terminal.Parts) { p.Observe = nil },
		"now":       func(_ *terminal.Config, p *terminal.Parts) { p.Now = nil },
		"terminal key": func(_ *terminal.Config, p *terminal.Parts) {
			if p.Dialogue, err = jpki.NewDialogue(jpki.DefaultProfile(), nil, p.Rand); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if _, _, err := site.Lane(nfctest.NewField(slotA), lack); err == nil {
			t.Errorf("without its %s a lane is made", name)
		}
	}
	change := func(_ *terminal.Config, p *terminal.Parts) { p.Checker = nil }
	if _, _, err := site.Lane(nfctest.NewField(slotA), change); err != nil {
		t.Errorf("without a checker: %v", err)
	}
}

// Whatever a lane waits for, it ends when it is told to: at once, or when those
// who are on their way have passed.
func TestLaneEndsWhateverItWaitsFor(t *testing.T) {
	override := func(t *testing.T, d *doorway) {
		if _, err := d.lane.Override(t.Context(), supervisor, "press", 5); err != nil {
			t.Fatal(err)
		}
	}
	for name, wait := range map[string]func(*testing.T, *doorway){
		"a card":            func(*testing.T, *doorway) {},
		"people":            func(t *testing.T, d *doorway) { d.tap(t, d.alice(t)) },
		"people of staff":   override,
		"a card behind":     func(t *testing.T, d *doorway) { override(t, d); d.field.Insert(slotA, d.alice(t)) },
		"the alarm to end":  func(_ *testing.T, d *doorway) { d.gate.Alarm(true) },
		"the sensor to end": func(t *testing.T, d *doorway) { d.tap(t, d.alice(t)); d.gate.Stick(true) },
		"staff to look": func(t *testing.T, d *doorway) {
			buyer := d.party(t, func(e *whitelist.Entitlement) { e.Attention = true })
			if a := d.tap(t, buyer); a.Verdict != terminal.Attend {
				t.Fatalf("%v %s", a.Verdict, a.Reason)
			}
		},
		"its service": func(t *testing.T, d *doorway) {
			if err := d.lane.SetOutOfOrder(t.Context(), steward, "wet floor", true); err != nil {
				t.Fatal(err)
			}
			d.field.Insert(slotA, d.alice(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var d *doorway
				var told time.Time
				desk := make(chan error, 1)
				t.Cleanup(func() { // the lane has ended
					if took := time.Since(told); took > time.Second {
						t.Errorf("it took %v", took)
					}
					if d.gate.IsOpen() {
						t.Error("the gate stays open")
					}
					if err, waited := <-desk; waited && err == nil {
						t.Error("staff behind it let somebody in")
					}
					if _, err := d.lane.Override(context.Background(), supervisor, "press", 1); err == nil {
						t.Error("staff lets somebody in at a lane that has ended")
					}
				})
				d = newDoorway(t, func(_ *rig, c *terminal.Config, p *terminal.Parts) {
					c.PassTime, c.HolderCheckTimeout, p.After = time.Hour, time.Hour, time.After
				})
				wait(t, d)
				synctest.Wait()
				if d.gate.IsOpen() { // somebody of staff waits for their turn too
					go func() {
						_, err := d.lane.Override(context.Background(), supervisor, "press", 1)
						desk <- err
					}()
					synctest.Wait()
				} else {
					close(desk)
				}
				told = time.Now()
				d.stop()
			})
		})
	}
}

// An abruptCard may leave in the very moment in which it is powered up.
type abruptCard struct {
	mu sync.Mutex
	nfctest.Medium
}

func (c *abruptCard) PowerOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Medium.PowerOn()
}

func (c *abruptCard) PowerOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Medium.PowerOff()
}

func (c *abruptCard) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Medium.Transmit(ctx, capdu)
}

// Four lanes, one ticket, and staff who do all that they may at once: no more
// enter than it admits, every gate shuts, and the journal has all of it.
func TestLanesAndStaffTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	site, err := c.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	r := &rig{cast: c, site: site}
	img, row := r.newCard(t, "shared", perso.CardOptions{})
	row.Row.Entitlements[0].Uses, row.Row.Entitlements[0].Party = 30, 2
	m := c.Manifest
	m.Venue = whitelist.Venue{TimeZone: "Asia/Tokyo"}
	r.load(t, m, append(slices.Clone(c.rows), row)...)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var people, lanes sync.WaitGroup
	var passed atomic.Int64
	over := time.Now().Add(2500 * time.Millisecond)
	for i := range 4 {
		field := nfctest.NewField(slotA)
		sim := gate.NewSimulator(nil).WithSensor()
		lane, _, err := site.Lane(field, func(c *terminal.Config, p *terminal.Parts) {
			c.PassTime = 20 * time.Millisecond
			p.Gate, p.Checker = sim, sim
			p.Observe = func(d terminal.Decision) {
				if d.Entitlement == "shared" && d.Settled {
					passed.Add(int64(d.Passed))
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		lanes.Go(func() {
			if err := lane.Run(ctx); err != nil {
				t.Error(err)
			}
			if sim.IsOpen() {
				t.Error("a gate stays open")
			}
		})
		shared := &abruptCard{Medium: card(t, img, vcard.Options{})}
		chance := rand.New(rand.NewPCG(1, uint64(i)))
		people.Go(func() {
			for time.Now().Before(over) {
				field.Insert(slotA, shared)
				time.Sleep(time.Duration(chance.IntN(30)) * time.Millisecond)
				if sim.IsOpen() {
					sim.Pass(chance.IntN(3))
				}
				field.Remove(slotA)
				switch chance.IntN(9) {
				case 0:
					asks, done := context.WithTimeout(ctx, 100*time.Millisecond)
					_, _ = lane.Override(asks, supervisor, "press", 1) // nobody's turn is a fault
					done()
				case 1:
					for _, on := range []bool{true, false} {
						if err := lane.SetOutOfOrder(ctx, steward, "wet floor", on); err != nil {
							t.Error(err)
						}
					}
				case 2:
					sim.Alarm(true)
					time.Sleep(time.Duration(chance.IntN(5)) * time.Millisecond)
					sim.Alarm(false)
				case 3:
					sim.Stick(true)
					sim.Stick(false)
				}
			}
		})
	}
	people.Wait()
	cancel()
	ended := make(chan struct{})
	go func() { lanes.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("a lane does not end")
	}

	r.events(t) // verifies
	h, err := site.Journal.History(t.Context(), "shared")
	if err != nil {
		t.Fatal(err)
	}
	var seen int64
	for _, p := range h.Passages {
		if p.Open {
			t.Errorf("not settled: %+v", p)
		}
		seen += int64(p.Passed)
	}
	t.Logf("%d of %d people were seen", seen, h.Entered())
	if seen != passed.Load() || seen == 0 || h.Entered() > 60 {
		t.Errorf("%d were seen, the journal has %d, and %d entered on a ticket for 60", passed.Load(), seen, h.Entered())
	}
}
