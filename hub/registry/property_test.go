package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gate-agent/gate-agent/whitelist"
)

// Whatever is done in whatever order, the changes that publications take since
// the last one give the list that a publication of everything gives.
func TestChangesGiveWhatARebuildGives(t *testing.T) {
	sqlite := 0
	engines := map[string]func() string{
		"sqlite":   func() string { sqlite++; return "sqlite:" + filepath.Join(t.TempDir(), fmt.Sprint(sqlite)) },
		"postgres": func() string { return server.Database(t) },
	}
	for _, name := range slices.Sorted(maps.Keys(engines)) {
		t.Run(name, func(t *testing.T) {
			// One registry for all runs, each in a scope of its own: a database for
			// each would be most of the time.
			r := open(t, engines[name]())
			run := 0
			rapid.Check(t, func(t *rapid.T) {
				run++
				m := &machine{r: r, scope: fmt.Sprintf("scope-%d", run), run: run, incremental: set{}}
				m.start(t)
				t.Repeat(map[string]func(*rapid.T){
					"credential": m.credential, "renew": m.renew, "retire": m.retire, "status": m.status,
					"ticket": m.ticket, "ticketStatus": m.ticketStatus, "transfer": m.transfer, "link": m.link,
					"erase": m.erase, "clean": m.clean, "settings": m.settings, "epoch": m.epoch,
					"revocation": m.revocation, "file": m.file, "publish": m.publish, "": m.check,
				})
			})
		})
	}
}

// A machine does verbs, and takes the changes of publications into a set.
type machine struct {
	r           *Registry
	scope       string
	run         int
	clock       int
	heads       [][]byte
	incremental set
}

// expected are refusals that a random verb may meet.
var expected = []error{ErrInvalid, ErrExists, ErrCardKeyInUse, ErrNotFound, ErrOlder, ErrTaken}

func (m *machine) did(t *rapid.T, err error) {
	if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) && !errors.As(err, new(*FileError)) {
		t.Fatal(err)
	}
}

func (m *machine) by() By {
	m.clock++
	return By{"rapid", "chance", at.Add(time.Duration(m.clock) * time.Second)}
}

func (m *machine) start(t *rapid.T) {
	s := settings(m.scope, m.venue(t))
	s.FirstUse = rapid.Bool().Draw(t, "first use")
	if err := m.r.AddScope(context.Background(), m.by(), s); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) venue(t *rapid.T) whitelist.Venue {
	if rapid.Bool().Draw(t, "venue") {
		return venue
	}
	return whitelist.Venue{}
}

func (m *machine) holder(t *rapid.T) int64 {
	id, err := m.r.AddHolder(context.Background(), m.by(), m.scope, fmt.Sprintf("member-%d", rapid.IntRange(0, 4).Draw(t, "holder")))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (m *machine) card(t *rapid.T) Credential {
	c := credential(rapid.IntRange(1, 6).Draw(t, "certificate"), rapid.IntRange(0, 4).Draw(t, "card"))
	// Issuers are registry-wide: each run has its own.
	c.Issuer.Point[0], c.Issuer.Point[1] = byte(m.run), byte(m.run>>8)
	c.Issuer.Authority[0], c.Issuer.Authority[1] = byte(m.run), byte(m.run>>8)
	c.NotAfter = at.AddDate(0, 0, rapid.IntRange(1, 3).Draw(t, "days"))
	return c
}

func (m *machine) head(t *rapid.T) []byte {
	if len(m.heads) == 0 {
		t.Skip("no credential")
	}
	return rapid.SampledFrom(m.heads).Draw(t, "head")
}

func (m *machine) id(t *rapid.T) string {
	return fmt.Sprintf("T-%d", rapid.IntRange(0, 7).Draw(t, "ticket"))
}

func (m *machine) credential(t *rapid.T) {
	c, err := m.r.AddCredential(context.Background(), m.by(), m.scope, m.holder(t), m.card(t))
	if m.did(t, err); err == nil {
		m.heads = append(m.heads, c.Head)
	}
}

func (m *machine) renew(t *rapid.T) {
	c, err := m.r.RenewCredential(context.Background(), m.by(), m.scope, m.head(t), m.card(t))
	if m.did(t, err); err == nil {
		m.heads = append(m.heads, c.Head)
	}
}

func (m *machine) retire(t *rapid.T) {
	m.did(t, m.r.RetireCredential(context.Background(), m.by(), m.scope, m.head(t)))
}

func (m *machine) status(t *rapid.T) {
	m.did(t, m.r.SetCredentialStatus(context.Background(), m.by(), m.scope, m.head(t), status(t)))
}

func status(t *rapid.T) whitelist.Status {
	return rapid.SampledFrom([]whitelist.Status{whitelist.Active, whitelist.Blocked, whitelist.Revoked}).Draw(t, "status")
}

func order(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "A-1", "B-2", "C-3"}).Draw(t, "order")
}

func (m *machine) ticket(t *rapid.T) {
	ticket := Ticket{Entitlement: whitelist.Entitlement{ID: m.id(t), Uses: rapid.Uint32Range(0, 2).Draw(t, "uses")}, Order: order(t)}
	if rapid.Bool().Draw(t, "held") {
		ticket.Holder = m.holder(t)
	}
	m.did(t, m.r.PutTicket(context.Background(), m.by(), m.scope, ticket))
}

func (m *machine) ticketStatus(t *rapid.T) {
	m.did(t, m.r.SetTicketStatus(context.Background(), m.by(), m.scope, m.id(t), status(t)))
}

func (m *machine) transfer(t *rapid.T) {
	m.did(t, m.r.Transfer(context.Background(), m.by(), m.scope, m.id(t), m.holder(t)))
}

func (m *machine) link(t *rapid.T) {
	m.did(t, m.r.Link(context.Background(), m.by(), m.scope, m.holder(t), m.holder(t)))
}

func (m *machine) erase(t *rapid.T) {
	m.did(t, m.r.EraseHolder(context.Background(), m.by(), m.scope, m.holder(t)))
}

func (m *machine) clean(t *rapid.T) {
	_, err := m.r.Clean(context.Background(), m.by(), m.scope, at.AddDate(0, 0, rapid.IntRange(0, 2).Draw(t, "days")))
	m.did(t, err)
}

func (m *machine) settings(t *rapid.T) {
	s, err := m.r.Scope(context.Background(), m.scope)
	if err != nil {
		t.Fatal(err)
	}
	s.Venue, s.FirstUse = m.venue(t), rapid.Bool().Draw(t, "first use")
	m.did(t, m.r.SetScope(context.Background(), m.by(), s))
}

func (m *machine) epoch(t *rapid.T) {
	m.did(t, m.r.NewEpoch(context.Background(), m.by(), m.scope))
}

// revocation applies what an authority says, without its signature.
func (m *machine) revocation(t *rapid.T) {
	by, serials := m.by(), rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 2, rapid.ID[int]).Draw(t, "serials")
	hold := rapid.Bool().Draw(t, "hold")
	of := source{authority: testIssuer.Authority, asOf: by.At, digest: [32]byte{byte(m.clock), byte(m.clock >> 8), byte(m.run), byte(m.run >> 8)}, points: [][32]byte{{}}}
	of.authority[0], of.authority[1] = byte(m.run), byte(m.run>>8)
	m.did(t, m.r.do(context.Background(), by, "revoking", func(tx *tx) error {
		_, err := tx.apply(context.Background(), by, of, func(yield func(revoked) error) error {
			for _, n := range serials {
				if err := yield(revoked{new(big.Int).SetBytes(credential(n, 0).Serial), hold, by.At}); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}))
}

func (m *machine) file(t *rapid.T) {
	lines := []string{"id,holder,order,status,uses"}
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 7), 1, 4, rapid.ID[int]).Draw(t, "tickets") {
		lines = append(lines, fmt.Sprintf("T-%d,member-%d,%s,%v,%d", n, rapid.IntRange(0, 4).Draw(t, "holder"), order(t), status(t), rapid.IntRange(0, 2).Draw(t, "uses")))
	}
	text := strings.Join(lines, "\n")
	_, err := m.r.ImportTickets(context.Background(), m.by(), m.scope, strings.NewReader(text))
	if err != nil {
		m.did(t, err)
		return
	}
	again, err := m.r.ImportTickets(context.Background(), m.by(), m.scope, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if again.Added+again.Updated != 0 {
		t.Fatalf("the same file again: %+v", again)
	}
}

func (m *machine) publish(t *rapid.T) {
	if err := publishErr(context.Background(), m.r, m.scope, false, m.incremental); err != nil {
		t.Fatal(err)
	}
}

// check compares with a rebuild, and leaves the marks as they are.
func (m *machine) check(t *rapid.T) {
	ctx, taken, rebuilt := context.Background(), maps.Clone(m.incremental), set{}
	undo := errors.New("undo")
	for _, c := range []struct {
		full bool
		into set
	}{{false, taken}, {true, rebuilt}} {
		err := m.r.Publish(ctx, m.scope, c.full, func(p *Publication) error {
			for s, err := range p.Changed(ctx) {
				switch {
				case err != nil:
					return err
				case s.Gone:
					delete(c.into, string(s.Head))
				default:
					if err := p.Scope().Venue.CheckRow(s.Head, s.Row); err != nil {
						return err
					}
					c.into[string(s.Head)] = s.Row
				}
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(taken, rebuilt) {
		for head, row := range rebuilt {
			if !reflect.DeepEqual(row, taken[head]) {
				t.Errorf("%q: by changes %+v, rebuilt %+v", head, taken[head], row)
			}
		}
		for head := range taken {
			if _, ok := rebuilt[head]; !ok {
				t.Errorf("%q: by changes there, rebuilt gone", head)
			}
		}
		t.FailNow()
	}
}
