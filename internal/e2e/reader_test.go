package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
)

// readers are the slots of a private pcscd.
type readers struct {
	t      *testing.T
	daemon *pcscd.Daemon
}

func newReaders(t *testing.T) *readers {
	t.Helper()
	return newSlots(t, 2)
}

func newSlots(t *testing.T, n int) *readers {
	t.Helper()
	d, err := pcscd.Start(t.Context(), pcscd.Options{Slots: n})
	if errors.Is(err, pcscd.ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip(err) // it names the Debian package
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what pcscd said:\n%s", d.Log())
		}
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &readers{t, d}
}

// A card lies in a slot.
type card struct {
	*vcard.Card
	r      *readers
	slot   int
	gone   int // how often a card had left the slot when it came
	conn   net.Conn
	cancel context.CancelFunc
	served chan error
}

// How the next card is put in.
type how struct {
	slot   int
	pullAt int // as in world.Person
	clock  *vcard.Clock
}

// insert puts a card into a slot.
func (r *readers) insert(img *vcard.Image, h how) *card {
	r.t.Helper()
	v, err := vcard.New(img, vcard.Options{Clock: h.clock})
	if err != nil {
		r.t.Fatal(err)
	}
	c := &card{Card: v, r: r, slot: h.slot, gone: r.left(h.slot), served: make(chan error, 1)}
	if c.conn, err = pcscd.Dial(r.t.Context(), r.daemon.SlotAddr(h.slot)); err != nil {
		r.t.Fatal(err)
	}
	if h.pullAt > 0 {
		c.conn = pcscd.Pulled(c.conn, v.ATR(), h.pullAt)
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(r.t.Context())
	go func() { c.served <- v.Serve(ctx, c.conn) }()
	r.t.Cleanup(c.cancel)
	return c
}

// left counts the cards that pcscd has seen leave a slot.
func (r *readers) left(slot int) int {
	return strings.Count(r.daemon.Log(), "Card Removed From "+r.daemon.SlotName(slot))
}

// remove takes the card away, and returns when pcscd has seen it: a card that
// comes back before would be one that never left.
func (c *card) remove() {
	t := c.r.t
	t.Helper()
	c.cancel()
	if err := <-c.served; !errors.Is(err, context.Canceled) && !errors.Is(err, pcscd.ErrPulled) {
		t.Errorf("the card ended with %v", err)
	}
	if err := c.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	c.r.waitLeft(c.slot, c.gone)
}

// waitLeft waits until more cards than that have left a slot.
func (r *readers) waitLeft(slot, before int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.left(slot) <= before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("pcscd does not see the card leave")
		}
	}
}

// tap holds a card to the first slot until the agent has decided.
func (r *readers) tap(a *agent, img *vcard.Image) terminal.Event {
	r.t.Helper()
	return r.tapAs(a, img, how{})
}

func (r *readers) tapAs(a *agent, img *vcard.Image, h how) terminal.Event {
	r.t.Helper()
	c := r.insert(img, h)
	e := a.event()
	c.remove()
	return e
}

// want fails the test unless the event says so.
func want(t testing.TB, e terminal.Event, v terminal.Verdict, reason terminal.Reason) {
	t.Helper()
	if e.Verdict != v || e.Reason != reason {
		t.Errorf("%v %s, want %v %s", e.Verdict, e.Reason, v, reason)
	}
}
