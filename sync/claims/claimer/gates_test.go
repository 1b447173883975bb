package claimer_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

const slot = "slot"

// earth is one world for all tests: keys take time.
var earth = sync.OnceValues(func() (*world.World, error) { return world.New(time.Now()) })

// A gate is a terminal with a lane: all of it real but reader and relay.
type gate struct {
	*post
	dir       string
	site      *world.Site
	field     *nfctest.Field
	link      *wire
	decisions chan terminal.Decision
}

// newGate starts a gate of a venue whose one list has the rows.
func newGate(t testing.TB, h *hub, name string, v whitelist.Venue, rows []whitelist.Listed, options ...func(*terminal.Config, *terminal.Parts)) *gate {
	t.Helper()
	w := must(earth())(t)
	g := &gate{dir: t.TempDir(), field: nfctest.NewField(slot), decisions: make(chan terminal.Decision, 4), link: newWire(t, h.address())}
	g.site = must(w.Open(g.dir))(t)
	t.Cleanup(func() { check(t, g.site.Close()) })
	g.load(t, w, v, rows)
	check(t, g.site.Journal.Started(t.Context(), time.Now(), name, scope, "test"))
	g.post = h.open(name, g.dir, g.link.listener.Addr().String(), g.site.Journal)
	lane, _, err := g.site.Lane(g.field, func(c *terminal.Config, p *terminal.Parts) {
		c.Terminal, c.GateName = name, name
		p.Claims = g
		p.Observe = func(d terminal.Decision) { g.decisions <- d }
		for _, o := range options {
			o(c, p)
		}
	})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-ended)
	})
	return g
}

func (g *gate) tap(t testing.TB, img *vcard.Image) terminal.Decision {
	t.Helper()
	c := must(vcard.New(img, vcard.Options{}))(t)
	g.field.Insert(slot, c)
	defer g.field.Remove(slot)
	return g.decision(t)
}

func (g *gate) decision(t testing.TB) terminal.Decision {
	t.Helper()
	select {
	case d := <-g.decisions:
		return d
	case <-time.After(time.Minute):
		t.Fatal("no decision")
		panic("unreachable")
	}
}

// hears waits until a gate knows of so many passages of others.
func (g *gate) hears(t testing.TB, entitlement string, elsewhere int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s hears of %d passages", g.name, elsewhere), func() bool {
		l := must(g.Log(t.Context(), entitlement))(t)
		n := 0
		for _, p := range l.Passages {
			if p.Terminal != "" && !p.Open {
				n++
			}
		}
		return n == elsewhere
	})
}

// told waits until the log has all of a gate's journal.
func (g *gate) told(t testing.TB) {
	t.Helper()
	eventually(t, g.name+" tells all", func() bool {
		s := must(g.Status(t.Context()))(t)
		return s.Loose == 0 && s.Through == must(g.journal.CheckTail(t.Context()))(t)
	})
}

func ticket(t testing.TB, id string, change func(*whitelist.Entitlement)) (*vcard.Image, whitelist.Listed) {
	t.Helper()
	w := must(earth())(t)
	img := must(w.Card(perso.CardOptions{}))(t)
	row := must(w.Row(img, id))(t)
	row.Row.Entitlements[0].Uses = 1
	if change != nil {
		change(&row.Row.Entitlements[0])
	}
	return img, row
}

func venue(away whitelist.Away, gates ...string) whitelist.Venue {
	v := whitelist.Venue{TimeZone: "Asia/Tokyo", Zones: []whitelist.Zone{{Name: "hall", Away: away}}}
	for i, name := range gates {
		v.Gates = append(v.Gates, whitelist.Gate{ID: uint32(i + 1), Name: name, Zone: "hall"})
	}
	return v
}

func want(t testing.TB, d terminal.Decision, v terminal.Verdict, r terminal.Reason) {
	t.Helper()
	if d.Verdict != v || d.Reason != r {
		t.Fatalf("at %s: %v %s %v (%v), want %v %s", d.Gate, d.Verdict, d.Reason, d.Warnings, d.Cause, v, r)
	}
}

// Both gates read a card of one ticket in the same moment.
func TestOneTicketEntersThroughOneGate(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	v := venue(whitelist.AwayAdmit, "north", "south")
	gates := []*gate{newGate(t, h, "north", v, []whitelist.Listed{row}), newGate(t, h, "south", v, []whitelist.Listed{row})}
	for _, g := range gates {
		g.connected(true)
	}
	var wg sync.WaitGroup
	got := make([]terminal.Decision, 2)
	for i, g := range gates {
		wg.Go(func() { got[i] = g.tap(t, img) })
	}
	wg.Wait()
	in, out := got[0], got[1]
	if !in.Admitted() {
		in, out = out, in
	}
	want(t, in, terminal.Admit, terminal.OK)
	want(t, out, terminal.Deny, terminal.AlreadyUsed)
	if in.Claim != terminal.ClaimConfirmed || out.Used != (terminal.Use{Gate: in.Gate, Terminal: in.Gate, At: in.Instant.UTC().Truncate(time.Millisecond)}) {
		t.Errorf("claim %q, used %+v, want at %s %v", in.Claim, out.Used, in.Gate, in.Instant)
	}
	for _, g := range gates {
		g.told(t)
	}
	log := h.log("t")
	if len(log) != 2 || log[0].Record.Kind != claims.Entry || log[1].Record.Kind != claims.Settle || log[1].Record.People != 1 {
		t.Errorf("log %+v", log)
	}
}

func (g *gate) load(t testing.TB, w *world.World, v whitelist.Venue, rows []whitelist.Listed) {
	t.Helper()
	m := w.Manifest
	m.Venue = v
	var b bytes.Buffer
	check(t, whitelist.Write(&b, w.ListKey, w.ScopeKey, m, rows))
	_, err := g.site.Store.Import(t.Context(), &b, w.Now, nil)
	check(t, err)
}
