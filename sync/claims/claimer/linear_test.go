package claimer_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// What came of a tap.
type outcome int

const (
	refused     outcome = iota // already used
	confirmed                  // let in by a claim
	unconfirmed                // let in because nobody answered
)

// enter is what a lane does with a ticket for one entry, without card and gate. A tap
// that is denied has seen somebody else's entry.
func (p *post) enter(ctx context.Context, entitlement string) (outcome, error) {
	for apart := false; ; {
		h, err := p.journal.History(ctx, entitlement)
		if err != nil {
			return 0, err
		}
		l, err := p.Log(ctx, entitlement)
		if err != nil {
			return 0, err
		}
		if h = h.Merge(l); h.Entered() > 0 {
			return refused, nil
		}
		d := admission(p, entitlement, rand.Text())
		if apart = apart || l.Apart; !apart {
			bounded, cancel := context.WithTimeout(ctx, terminal.ClaimBudget)
			err = p.Claim(bounded, d, h.Next)
			cancel()
			if errors.Is(err, terminal.ErrUsesChanged) {
				p.Done(d.ClaimID)
				continue
			}
			apart = err != nil
		}
		came := confirmed
		if apart {
			came, d.Claim = unconfirmed, terminal.ClaimUnconfirmed
		}
		r, err := p.journal.Reserve(ctx, d, h.Last)
		if err == nil {
			err = p.journal.Commit(ctx, r, 1)
		}
		p.Done(d.ClaimID)
		if errors.Is(err, terminal.ErrUsesChanged) {
			continue
		}
		return came, err
	}
}

// oneUse is a ticket for one entry, as it were at one gate: the first gets in by a claim,
// and nobody is refused before somebody got in. Who is let in while nobody answers is so
// whatever happened, and others learn of it later: such a tap ends never. Whom that gate
// refuses for it is no matter of the others: they may not know yet.
var oneUse = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		tickets := make(map[int][]porcupine.Operation)
		for _, o := range history {
			tickets[o.Input.(int)] = append(tickets[o.Input.(int)], o)
		}
		var all [][]porcupine.Operation
		for _, t := range tickets {
			all = append(all, t)
		}
		return all
	},
	Init: func() any { return false },
	Step: func(state, _, output any) (bool, any) {
		used := state.(bool)
		switch output.(outcome) {
		case confirmed:
			return !used, true
		case refused:
			return used, used
		}
		return true, true
	},
}

// Gates race for tickets over links that lose what is sent, lose what is answered, and
// break.
func TestClaimsAreLinearizableOverFlakyLinks(t *testing.T) {
	const gates, tickets = 4, 40
	h := newHub(t)
	var posts []*post
	var links []*wire
	for i := range gates {
		dir := t.TempDir()
		j := must(journal.Open(filepath.Join(dir, "journal.db"), nil))(t)
		t.Cleanup(func() { check(t, j.Close()) })
		l := newWire(t, h.address())
		p := h.open(fmt.Sprint("gate-", i), dir, l.listener.Addr().String(), j)
		p.connected(true)
		posts, links = append(posts, p), append(links, l)
	}

	ctx, stop := context.WithCancel(t.Context())
	var flaky, taps sync.WaitGroup
	for i, l := range links {
		flaky.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				switch rng.IntN(6) {
				case 0:
					l.lose(true, true)
				case 1:
					l.lose(false, true)
				default:
					l.heal()
				}
			}
			l.heal()
		})
	}
	start := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	for i, p := range posts {
		taps.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(2, uint64(i)))
			alone := make(map[int]bool) // let in without the others
			for _, ticket := range append(rng.Perm(tickets), rng.Perm(tickets)...) {
				op := porcupine.Operation{ClientId: i, Input: ticket, Call: int64(time.Since(start))}
				came, err := p.enter(t.Context(), fmt.Sprint("ticket-", ticket))
				if err != nil {
					t.Error(err)
					return
				}
				op.Output, op.Return = came, int64(time.Since(start))
				switch {
				case came == unconfirmed:
					alone[ticket] = true
					op.ClientId, op.Return = -1, math.MaxInt64
				case came == refused && alone[ticket]:
					continue
				}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	taps.Wait()
	stop()
	flaky.Wait()

	count := make(map[outcome]int)
	byTicket := make(map[string]int)
	for i := range history {
		o := history[i].Output.(outcome)
		if count[o]++; o != refused {
			byTicket[fmt.Sprint("ticket-", history[i].Input)]++
		}
		if history[i].ClientId < 0 { // each is a client of its own: it never ends
			history[i].ClientId = gates + i
		}
	}
	t.Logf("%d confirmed, %d unconfirmed, %d refused", count[confirmed], count[unconfirmed], count[refused])
	if result := porcupine.CheckOperationsTimeout(oneUse, history, time.Minute); result != porcupine.Ok {
		t.Errorf("not linearizable: %s", result)
	}
	// And when all are back, the log has every entry once.
	for _, p := range posts {
		eventually(t, p.name+" tells all", func() bool {
			s := must(p.Status(t.Context()))(t)
			return !s.Apart && s.Loose == 0 && s.Through == must(p.journal.CheckTail(t.Context()))(t)
		})
	}
	for ticket, entries := range byTicket {
		stand := claims.Fold(h.log(ticket)).Passages
		if len(stand) != entries {
			t.Errorf("%s: %d entries, the log has %+v", ticket, entries, stand)
		}
		for _, p := range stand {
			if !p.Settled || p.People != 1 {
				t.Errorf("%s: %+v", ticket, p)
			}
		}
	}
}
