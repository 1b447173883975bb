package ingest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/postgres"
	"github.com/gate-agent/gate-agent/sync/upload"
)

var server postgres.Server

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "40"); err != nil { // two engines: -rapid.checks asks for more
		panic(err)
	}
	server.Main(m)
}

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const hall = "hall"

// on runs a test with a store on each engine.
func on(t *testing.T, f func(t *testing.T, h *hub)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, newHub(t, "sqlite:"+filepath.Join(t.TempDir(), "events.db"))) })
	t.Run("postgres", func(t *testing.T) { f(t, newHub(t, server.Database(t))) })
}

// A hub is a store with a key, which can be closed and opened again.
type hub struct {
	*Handler
	name string
	keys sign1.Keys
}

func newHub(t testing.TB, name string) *hub {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	keys, err := sign1.NewKeys(sign1.Key{Public: key.Public(), Role: sign1.RoleAck, Scope: hall})
	must(t, err)
	h := &hub{&Handler{Signer: key, Now: func() time.Time { return noon }}, name, keys}
	h.start(t)
	t.Cleanup(func() { must(t, h.Store.Close()) })
	return h
}

func (h *hub) start(t testing.TB) {
	t.Helper()
	s, err := Open(context.Background(), h.name)
	must(t, err)
	h.Store = s
}

func (h *hub) restart(t testing.TB) {
	t.Helper()
	must(t, h.Store.Close())
	h.start(t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// send hands a batch in as terminal and returns what the hub answers.
func (h *hub) send(t testing.TB, terminal string, b *upload.Batch) (upload.Ack, *upload.Refusal) {
	t.Helper()
	data, err := b.Encode()
	must(t, err)
	return h.raw(t, terminal, data)
}

func (h *hub) raw(t testing.TB, terminal string, data []byte) (upload.Ack, *upload.Refusal) {
	t.Helper()
	reply := h.Handle(t.Context(), hall, terminal, data)
	if len(reply) > 0 && reply[0] == '{' {
		r := new(upload.Refusal)
		must(t, json.Unmarshal(reply, r))
		return upload.Ack{}, r
	}
	a, err := upload.VerifyAck(h.keys, reply)
	must(t, err)
	return a, nil
}

// keep is send of a batch that is acknowledged through an event.
func (h *hub) keep(t testing.TB, terminal string, b *upload.Batch, through uint64) upload.Ack {
	t.Helper()
	a, r := h.send(t, terminal, b)
	if r != nil || a.Through != through || a.Terminal != terminal || a.Incarnation != b.Incarnation {
		t.Fatalf("events %d and %d further: acknowledged %+v, refused %v; want through %d", b.First, len(b.Events), a, r, through)
	}
	return a
}

// A chain is the journal of a terminal.
type chain struct {
	terminal string
	id       upload.Incarnation
	events   [][]byte
	hashes   []upload.Hash // of number 0 too
}

func newChain(terminal string, id byte) *chain {
	c := &chain{terminal: terminal, id: upload.Incarnation{id}}
	c.hashes = []upload.Hash{upload.FirstHash(c.id)}
	return c
}

// add appends an event: members without seq, or bytes that are none.
func (c *chain) add(format string, a ...any) uint64 {
	c.put([]byte(fmt.Sprintf(`{"seq":%d,`+format+`}`, append([]any{len(c.events) + 1}, a...)...)))
	return uint64(len(c.events))
}

func (c *chain) put(e []byte) {
	c.events = append(c.events, e)
	c.hashes = append(c.hashes, upload.NextHash(c.hashes[len(c.hashes)-1], e))
}

// enter appends an entry of people that was committed, and returns its number.
func (c *chain) enter(at time.Time, gate, zone, entitlement string, people int) uint64 {
	n := c.add(`"kind":"reserve","at":%q,"gate":%q,"verdict":"admit","reason":"ok","entitlement":%q,"zone":%q,"people":%d`, at.Format(instantFormat), gate, entitlement, zone, people)
	c.settle("commit", n, people)
	return n
}

func (c *chain) leave(at time.Time, gate, zone, entitlement string, people int) uint64 {
	n := c.add(`"kind":"reserve","at":%q,"gate":%q,"verdict":"admit","reason":"exit","entitlement":%q,"direction":"exit","zone":%q,"people":%d`, at.Format(instantFormat), gate, entitlement, zone, people)
	c.settle("commit", n, people)
	return n
}

func (c *chain) settle(kind string, n uint64, people int) {
	c.add(`"kind":%q,"at":%q,"reservation":%d,"people":%d`, kind, noon.Format(instantFormat), n, people)
}

func (c *chain) fill(n int) {
	for range n {
		c.add(`"kind":"decision","at":"2026-07-01T12:00:00.000Z","verdict":"deny","reason":"not_listed"`)
	}
}

// batch has events first to last; last+1 = first is a question.
func (c *chain) batch(first, last uint64) *upload.Batch {
	return &upload.Batch{
		Scope: hall, Terminal: c.terminal, Incarnation: c.id, Agent: "v1", Sent: noon, Last: uint64(len(c.events)),
		First: first, Prev: c.hashes[first-1], Events: c.events[first-1 : last],
	}
}

// all sends everything, in batches.
func (c *chain) all(t testing.TB, h *hub) {
	t.Helper()
	n := uint64(len(c.events))
	for first := uint64(1); first <= n; first += upload.MaxEvents {
		last := min(n, first+upload.MaxEvents-1)
		h.keep(t, c.terminal, c.batch(first, last), last)
	}
}

// holds checks that the store has each event of the chain once, as it is.
func (h *hub) holds(t testing.TB, c *chain) {
	t.Helper()
	rows, err := h.Store.query(t.Context(), `SELECT e.seq, e.hash, e.bytes FROM events e JOIN journals j ON j.id = e.journal
		WHERE j.scope = ?1 AND j.terminal = ?2 AND j.incarnation = ?3 ORDER BY e.seq`, hall, c.terminal, c.id[:])
	n := 0
	must(t, each(rows, err, func() error {
		var seq int
		var hash, b []byte
		if err := rows.Scan(&seq, &hash, &b); err != nil {
			return err
		}
		n++
		if seq != n || n > len(c.events) || !bytes.Equal(b, c.events[n-1]) || upload.Hash(hash) != c.hashes[n] {
			return errors.New("event " + fmt.Sprint(seq) + " is another one")
		}
		return nil
	}))
	if n != len(c.events) {
		t.Errorf("%s: %d events are held, want %d", c.terminal, n, len(c.events))
	}
}

func (h *hub) count(t testing.TB, table string) (n int) {
	t.Helper()
	rows, err := h.Store.query(t.Context(), `SELECT count(*) FROM `+table)
	must(t, each(rows, err, func() error { return rows.Scan(&n) }))
	return n
}
