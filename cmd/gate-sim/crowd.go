package main

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// Doors open at noon, and the last of the crowd arrives six hours later. The
// day is one of the venue however late it gets.
var (
	venueZone = time.FixedZone("JST", 9*60*60) // no daylight saving: the same as Asia/Tokyo
	doors     = time.Date(2026, 10, 3, 12, 0, 0, 0, venueZone)
	lastCome  = doors.Add(6 * time.Hour)
	dayEnds   = doors.Add(18*time.Hour - time.Second)
)

const (
	dayBegins = 6 * time.Hour // after midnight
	arena     = "arena"
	stage     = "stage"
)

// A visit is somebody on the way to a lane.
type visit struct {
	who   *person
	at    time.Time
	exit  bool
	gate  string // the one they go to; "" is any
	bring int    // who want to pass: the holder, and others of the party
	rival *visit // who presents another card of the same ticket at another lane, at that moment

	// then is what they do after the gate has answered for good, nil: nothing.
	then func(answer, time.Time)

	order int // among those of one second
}

// A crowd is people with cards and plans. A seed has one crowd, save for its keys.
type crowd struct {
	random  *mathrand.Rand
	entries int // gates

	size    int       // people, those without a card included
	people  []*person // with a card or a SIM
	visits  agenda
	tickets []*ticket
	drawn   int // visits
}

// sorts are the groups that people come in, by how common they are.
var sorts = []struct {
	weight int
	make   func(*crowd)
}{
	{340, (*crowd).once},
	{170, (*crowd).comesBack},
	{120, (*crowd).together},
	{50, (*crowd).someLater},
	{60, (*crowd).companions},
	{30, (*crowd).yesterdayToo},
	{30, (*crowd).ticketAndPass},
	{40, (*crowd).twice},
	{25, (*crowd).cardAndSIM},
	{10, (*crowd).atOnce},
	{25, (*crowd).stranger},
	{20, (*crowd).withoutStanding},
	{20, (*crowd).wrongGate},
	{25, (*crowd).early},
	{25, (*crowd).late},
	{10, (*crowd).looked},
}

// newCrowd draws n people.
func newCrowd(n, entries int, random *mathrand.Rand) *crowd {
	c := &crowd{random: random, entries: entries}
	total := 0
	for _, s := range sorts {
		total += s.weight
	}
	for c.size < n {
		if n-c.size < largestGroup {
			c.once()
			continue
		}
		pick := random.IntN(total)
		for _, s := range sorts {
			if pick -= s.weight; pick < 0 {
				s.make(c)
				break
			}
		}
	}
	return c
}

const largestGroup = 6

// arrives draws when somebody comes: two out of three for the first act, an hour
// and a half after doors, the others for the second.
func (c *crowd) arrives() time.Time {
	for {
		peak, width := doors.Add(90*time.Minute), 35*time.Minute
		if c.random.IntN(3) == 0 {
			peak, width = doors.Add(4*time.Hour), 50*time.Minute
		}
		at := peak.Add(time.Duration(c.random.NormFloat64() * float64(width)))
		if at.After(doors) && at.Before(lastCome) {
			return at.Truncate(time.Second)
		}
	}
}

// minutes draws a time of this many to so many minutes.
func (c *crowd) minutes(least, most int) time.Duration {
	return time.Duration(60*least+c.random.IntN(60*(most-least))) * time.Second
}

// oneIn is true once in n times.
func (c *crowd) oneIn(n int) bool { return c.random.IntN(n) == 0 }

// buys makes a ticket that admits once, unless change says otherwise.
func (c *crowd) buys(change func(*ticket)) *ticket {
	t := &ticket{Entitlement: whitelist.Entitlement{
		ID: fmt.Sprintf("ticket-%05d", len(c.tickets)+1), Uses: 1, Product: dayTicket, NotBefore: doors, NotAfter: dayEnds,
	}}
	if change != nil {
		change(t)
	}
	c.tickets = append(c.tickets, t)
	return t
}

// holder makes a person with these tickets.
func (c *crowd) holder(tickets ...*ticket) *person {
	p := &person{tickets: tickets, status: whitelist.Active, kind: vcard.KindCard, family: &family{}}
	c.people = append(c.people, p)
	c.size++
	return p
}

func (c *crowd) come(v *visit) {
	c.drawn++
	v.bring, v.order = max(1, v.bring), c.drawn
	heap.Push(&c.visits, v)
}

// An agenda is a heap of visits, the next one first.
type agenda []*visit

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return cmp.Or(a[i].at.Compare(a[j].at), cmp.Compare(a[i].order, a[j].order)) < 0
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(v any)   { *a = append(*a, v.(*visit)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	v := (*a)[last]
	*a = (*a)[:last]
	return v
}

// later is a visit some minutes after at.
func (c *crowd) later(at time.Time, least, most int, v *visit) {
	v.at = at.Add(c.minutes(least, most))
	c.come(v)
}

// once has a ticket, comes in, and may leave early.
func (c *crowd) once() {
	p := c.holder(c.buys(nil))
	c.come(&visit{who: p, at: c.arrives(), then: func(_ answer, at time.Time) {
		if c.oneIn(5) {
			c.later(at, 30, 150, &visit{who: p, exit: true})
		}
	}})
}

// comesBack has a ticket for out and in again. Some forget to show their card at
// the exit, and find out at the entry.
func (c *crowd) comesBack() {
	p := c.holder(c.buys(func(t *ticket) { t.ReEntry = whitelist.ReEntryAfterExit }))
	in := func() *visit { return &visit{who: p} }
	c.come(&visit{who: p, at: c.arrives(), then: func(_ answer, at time.Time) {
		switch n := c.random.IntN(10); {
		case n < 6:
			c.later(at, 20, 90, &visit{who: p, exit: true, then: func(_ answer, at time.Time) { c.later(at, 5, 30, in()) }})
		case n < 8:
			c.later(at, 30, 90, in())
		}
	}})
}

// party makes a family of this many with one ticket, whose buyer has the card.
func (c *crowd) party(size int, change func(*ticket)) *person {
	p := c.holder(c.buys(func(t *ticket) {
		if t.Party = uint32(size); change != nil {
			change(t)
		}
	}))
	c.size += size - 1
	return p
}

func (c *crowd) together() {
	size := 2 + c.random.IntN(4)
	p := c.party(size, func(t *ticket) { t.ReEntry = whitelist.ReEntryAfterExit })
	c.come(&visit{who: p, at: c.arrives(), bring: size, then: func(_ answer, at time.Time) {
		if c.oneIn(4) { // out for a meal
			c.later(at, 20, 60, &visit{who: p, exit: true, bring: size, then: func(_ answer, at time.Time) {
				c.later(at, 20, 40, &visit{who: p, bring: size})
			}})
		}
	}})
}

// someLater are a party of whom some are late: the buyer fetches them.
func (c *crowd) someLater() {
	size := 3 + c.random.IntN(4)
	first := 1 + c.random.IntN(size-1)
	p := c.party(size, nil)
	c.come(&visit{who: p, at: c.arrives(), bring: first, then: func(_ answer, at time.Time) {
		c.later(at, 10, 90, &visit{who: p, bring: size - first, then: func(_ answer, at time.Time) {
			if c.oneIn(5) { // somebody had a friend
				c.later(at, 1, 5, &visit{who: p})
			}
		}})
	}})
}

// companions have cards of their own on one ticket. Each comes when they like;
// the buyer's card lets in whoever is missing.
func (c *crowd) companions() {
	size := 2 + c.random.IntN(3)
	t := c.buys(func(t *ticket) { t.Party = uint32(size) })
	buyer := c.holder(t)
	at := c.arrives()
	for range size - 1 {
		p := c.holder(t)
		p.alone, p.family = true, buyer.family
		c.come(&visit{who: p, at: at.Add(c.minutes(0, 40))})
	}
	c.come(&visit{who: buyer, at: at.Add(c.minutes(0, 40)), bring: size})
}

// yesterdayToo has yesterday's ticket on the same card.
func (c *crowd) yesterdayToo() {
	yesterday := c.buys(func(t *ticket) { t.NotBefore, t.NotAfter = doors.AddDate(0, 0, -1), dayEnds.AddDate(0, 0, -1) })
	p := c.holder(yesterday, c.buys(nil))
	c.come(&visit{who: p, at: c.arrives(), then: func(_ answer, at time.Time) {
		if c.oneIn(4) {
			c.later(at, 5, 30, &visit{who: p})
		}
	}})
}

// ticketAndPass has today's ticket and a pass without end. The ticket goes first.
func (c *crowd) ticketAndPass() {
	pass := c.buys(func(t *ticket) { t.Uses, t.NotBefore, t.NotAfter = 0, time.Time{}, time.Time{} })
	p := c.holder(pass, c.buys(nil))
	c.come(&visit{who: p, at: c.arrives(), then: func(_ answer, at time.Time) {
		c.later(at, 20, 60, &visit{who: p, exit: true, then: func(_ answer, at time.Time) {
			c.later(at, 5, 30, &visit{who: p})
		}})
	}})
}

// twice hands the card out again.
func (c *crowd) twice() {
	p := c.holder(c.buys(nil))
	c.come(&visit{who: p, at: c.arrives(), then: func(_ answer, at time.Time) { c.later(at, 2, 60, &visit{who: p}) }})
}

// two are a card and a SIM with one ticket.
func (c *crowd) two() (card, sim *person) {
	t := c.buys(nil)
	card, sim = c.holder(t), c.holder(t)
	sim.kind, sim.family = vcard.KindSIM, card.family
	c.size-- // of one person
	return card, sim
}

func (c *crowd) cardAndSIM() {
	card, sim := c.two()
	if c.oneIn(2) {
		card, sim = sim, card
	}
	c.come(&visit{who: card, at: c.arrives(), then: func(_ answer, at time.Time) { c.later(at, 1, 30, &visit{who: sim}) }})
}

// atOnce have a card each on one ticket for one, and present them at the same
// moment, at two lanes. One of them gets in.
func (c *crowd) atOnce() {
	if c.entries < 2 {
		c.cardAndSIM()
		return
	}
	t := c.buys(nil)
	first, second := c.holder(t), c.holder(t)
	second.family = first.family
	c.come(&visit{who: first, at: c.arrives(), rival: &visit{who: second, bring: 1}})
}

func (c *crowd) stranger() {
	p := c.holder()
	p.status = 0
	c.come(&visit{who: p, at: c.arrives()})
}

// withoutStanding is blocked, withdrawn, or has a certificate that its issuer
// revoked.
func (c *crowd) withoutStanding() {
	p := c.holder(c.buys(nil))
	p.status = []whitelist.Status{whitelist.Blocked, whitelist.Revoked, whitelist.CertificateRevoked}[c.random.IntN(3)]
	c.come(&visit{who: p, at: c.arrives()})
}

// wrongGate goes to a gate that the ticket does not open, then to the right one,
// where there is one.
func (c *crowd) wrongGate() {
	if c.entries < 2 || c.oneIn(2) {
		c.come(&visit{who: c.holder(c.buys(func(t *ticket) { t.Gates = []string{stage} })), at: c.arrives()})
		return
	}
	right := c.random.IntN(c.entries)
	wrong := (right + 1) % c.entries
	p := c.holder(c.buys(func(t *ticket) { t.Gates = []string{entryName(right)} }))
	c.come(&visit{who: p, at: c.arrives(), gate: entryName(wrong), then: func(_ answer, at time.Time) {
		c.later(at, 1, 10, &visit{who: p, gate: entryName(right)})
	}})
}

// early comes before the time of the ticket, and again.
func (c *crowd) early() {
	at := c.arrives()
	from := at.Add(c.minutes(10, 60))
	p := c.holder(c.buys(func(t *ticket) { t.NotBefore = from }))
	var again func(answer, time.Time)
	again = func(a answer, at time.Time) {
		if a.verdict == terminal.Deny {
			c.later(at, 5, 30, &visit{who: p, then: again})
		}
	}
	c.come(&visit{who: p, at: at, then: again})
}

// late has a ticket that the venue's rule lets in late in the day only, and may
// not know.
func (c *crowd) late() {
	p := c.holder(c.buys(func(t *ticket) { t.Product = lateTicket }))
	c.come(&visit{who: p, at: c.arrives(), then: func(a answer, at time.Time) {
		if a.verdict == terminal.Deny {
			c.come(&visit{who: p, at: midnight(at).Add(lateFrom + c.minutes(1, 60))})
		}
	}})
}

// looked has a ticket that staff looks at.
func (c *crowd) looked() {
	p := c.holder(c.buys(func(t *ticket) { t.Attention, t.Message = true, "reduced: see the student card" }))
	c.come(&visit{who: p, at: c.arrives()})
}

// poolSize is how many keys of each kind of card the crowd shares: a key of their
// own for everybody would take an hour, and no gate looks at two people's keys
// together.
const poolSize = 4

// equip gives everybody a card and makes the rows of those who are on the list.
func (c *crowd) equip(ctx context.Context, w *world.World) ([]whitelist.Listed, error) {
	pool := map[vcard.Kind][]*vcard.Image{}
	for range poolSize {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		for _, kind := range []vcard.Kind{vcard.KindCard, vcard.KindSIM} {
			img, err := w.Card(perso.CardOptions{Kind: kind, AuthenticationKey: key, CardKey: key})
			if err != nil {
				return nil, err
			}
			pool[kind] = append(pool[kind], img)
		}
	}
	rows := make([]whitelist.Listed, len(c.people))
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	failed := make([]error, workers)
	for worker := range workers {
		wait.Go(func() {
			for i := worker; i < len(c.people) && ctx.Err() == nil && failed[worker] == nil; i += workers {
				p := c.people[i]
				rows[i], failed[worker] = p.register(w, pool[p.kind][i%poolSize], i)
			}
		})
	}
	wait.Wait()
	listed := rows[:0]
	for _, r := range rows {
		if len(r.Head) > 0 {
			listed = append(listed, r)
		}
	}
	for _, err := range append(failed, context.Cause(ctx)) {
		if err != nil {
			return nil, err
		}
	}
	return listed, nil
}

// register makes the i-th card and its row, which is empty for a stranger.
func (p *person) register(w *world.World, like *vcard.Image, i int) (row whitelist.Listed, err error) {
	p.image, err = w.Authority.Twin(like, 0x40000000+uint32(i), fmt.Sprintf("TEST%019d", i))
	if err != nil || p.status == 0 {
		return row, err
	}
	if row, err = w.Row(p.image, ""); err != nil {
		return row, err
	}
	row.Row.Status, row.Row.Entitlements = p.status, nil
	for _, t := range p.tickets {
		e := t.Entitlement
		e.Alone = p.alone
		row.Row.Entitlements = append(row.Row.Entitlements, e)
	}
	return row, nil
}

// venue is what the list says of the place.
func venue(entries, exits int) whitelist.Venue {
	v := whitelist.Venue{
		TimeZone: "Asia/Tokyo", DayStarts: dayBegins, From: doors, To: dayEnds, Admission: doors,
		Zones:    []whitelist.Zone{{Name: arena}, {Name: stage}},
		Gates:    []whitelist.Gate{{ID: 1, Name: stage, Zone: stage}},
		Products: []whitelist.Product{{ID: dayTicket, Name: "Day"}, {ID: lateTicket, Name: "Late"}},
		Rules:    lateRule,
	}
	for i := range entries {
		v.Gates = append(v.Gates, whitelist.Gate{ID: uint32(len(v.Gates) + 1), Name: entryName(i), Zone: arena})
	}
	for i := range exits {
		v.Gates = append(v.Gates, whitelist.Gate{ID: uint32(len(v.Gates) + 1), Name: exitName(i), Zone: arena})
	}
	return v
}

func entryName(i int) string { return fmt.Sprintf("entry-%d", i+1) }
func exitName(i int) string  { return fmt.Sprintf("exit-%d", i+1) }
