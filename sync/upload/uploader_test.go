package upload_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"pgregory.net/rapid"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/sync/upload"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "25"); err != nil { // two databases each: -rapid.checks asks for more
		panic(err)
	}
	os.Exit(m.Run())
}

const scope, gate = "hall", "gate-1"

func key(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

func trust(t testing.TB, k ed25519.PrivateKey) sign1.Keys {
	t.Helper()
	keys, err := sign1.NewKeys(sign1.Key{Public: k.Public(), Role: sign1.RoleAck, Scope: scope})
	must(t, err)
	return keys
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A bed is a terminal and its hub, both real, and the line between them.
type bed struct {
	folder  string
	journal *journal.Journal
	store   *ingest.Store
	handler *ingest.Handler
	cfg     upload.Config

	line func(ctx context.Context, send func() ([]byte, error)) ([]byte, error) // nil: it holds
}

func (b *bed) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if subject != "gate.hall.gate-1.events" {
		return nil, fmt.Errorf("sent to %s", subject)
	}
	send := func() ([]byte, error) { return b.handler.Handle(ctx, scope, gate, data), nil }
	if b.line == nil {
		return send()
	}
	return b.line(ctx, send)
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{folder: t.TempDir()}
	b.openJournal(t)
	b.openHub(t, "events.db")
	b.handler.Signer = key(7)
	b.cfg = upload.Config{
		Journal: b.journal, Hub: b, Subject: "gate.hall.gate-1.events", Scope: scope, Terminal: gate, Agent: "v1",
		Keys: trust(t, key(7)), File: filepath.Join(b.folder, "ack.cose"),
	}
	t.Cleanup(func() { must(t, errors.Join(b.journal.Close(), b.store.Close())) })
	return b
}

func (b *bed) openJournal(t testing.TB) {
	t.Helper()
	j, err := journal.Open(b.journalPath(), nil)
	must(t, err)
	b.journal, b.cfg.Journal = j, j
}

func (b *bed) journalPath() string { return filepath.Join(b.folder, "journal.db") }

func (b *bed) openHub(t testing.TB, name string) {
	t.Helper()
	s, err := ingest.Open(t.Context(), "sqlite:"+filepath.Join(b.folder, name))
	must(t, err)
	if b.handler == nil {
		b.handler = new(ingest.Handler)
	}
	b.store, b.handler.Store = s, s
}

// happen writes events to the journal.
func (b *bed) happen(t testing.TB, n int) {
	t.Helper()
	for range n {
		must(t, b.journal.Incident(t.Context(), terminal.Incident{At: time.Now(), Reason: terminal.Tailgate, Gate: "north"}))
	}
}

// settle makes rounds until there is nothing to do.
func (b *bed) settle(t testing.TB, u *upload.Uploader) {
	t.Helper()
	for range 100 {
		more, err := u.Round(t.Context())
		must(t, err)
		if !more {
			return
		}
	}
	t.Fatal("it never ends")
}

// arrived checks that the hub holds the journal, each event once and nothing else.
func (b *bed) arrived(t testing.TB, name string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(b.folder, name)+"?mode=ro")
	must(t, err)
	defer db.Close()
	var got, want bytes.Buffer
	must(t, b.journal.Export(t.Context(), &want, journal.Filter{}, journal.JSONLines))
	rows, err := db.Query(`SELECT bytes FROM events ORDER BY journal, seq`)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var e []byte
		must(t, rows.Scan(&e))
		got.Write(append(e, '\n'))
	}
	must(t, rows.Err())
	if got.String() != want.String() {
		t.Errorf("the hub holds %d bytes, the journal has %d", got.Len(), want.Len())
	}
}

func TestJournalArrivesWholeAndGoesOnWhereItWas(t *testing.T) {
	b := newBed(t)
	b.happen(t, 2*upload.MaxEvents+3)
	u := upload.New(b.cfg)
	if s := u.Status(); s != (upload.Status{}) {
		t.Errorf("before anything: %+v", s)
	}
	b.settle(t, u)
	b.arrived(t, "events.db")
	if s := u.Status(); s.Acknowledged != s.Last || s.Last != 2*upload.MaxEvents+3 || s.Problem != "" || s.At.IsZero() {
		t.Errorf("%+v", s)
	}
	b.happen(t, 5)
	asked := 0
	b.line = func(_ context.Context, send func() ([]byte, error)) ([]byte, error) { asked++; return send() }
	b.settle(t, upload.New(b.cfg)) // as after kill -9
	b.settle(t, upload.New(b.cfg))
	b.arrived(t, "events.db")
	if asked != 1 {
		t.Errorf("%d requests for five events", asked)
	}
}

// Requests and answers get lost, agent and hub are started anew, people come
// meanwhile: each event is at the hub once, and what is called acknowledged is there.
func TestEveryEventArrivesOnceOverAnyLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBed(t)
		b.line = func(ctx context.Context, send func() ([]byte, error)) ([]byte, error) {
			switch rapid.IntRange(0, 5).Draw(rt, "line") {
			case 0:
				return nil, errors.New("cut before")
			case 1:
				_, _ = send()
				return nil, errors.New("cut behind")
			case 2:
				_, _ = send()
			case 3:
				return []byte("\x00"), nil
			}
			return send()
		}
		u := upload.New(b.cfg)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				b.happen(t, rapid.IntRange(1, 5).Draw(rt, "events"))
			case 2:
				u = upload.New(b.cfg)
			case 3:
				must(t, b.store.Close())
				b.openHub(t, "events.db")
			default:
				_, _ = u.Round(t.Context())
			}
		}
		b.line = nil
		b.settle(t, u)
		b.arrived(t, "events.db")
	})
}

func TestForgedAcknowledgementCountsForNothing(t *testing.T) {
	b := newBed(t)
	b.happen(t, 3)
	id, err := b.journal.Incarnation(t.Context())
	must(t, err)
	hash, err := b.journal.HashAt(t.Context(), 3)
	must(t, err)
	good := upload.Ack{Terminal: gate, Scope: scope, Incarnation: id, Through: 3, Hash: hash, At: time.Now()}
	sign := func(k ed25519.PrivateKey, change func(*upload.Ack)) []byte {
		a := good
		change(&a)
		m, err := a.Sign(k)
		must(t, err)
		return m
	}
	other, err := sign1.Sign(nil, sign1.RoleCheckpoint, key(7), sign(key(7), func(*upload.Ack) {}))
	must(t, err)
	for what, m := range map[string][]byte{
		"of another key":           sign(key(8), func(*upload.Ack) {}),
		"of another role":          other,
		"of another terminal":      sign(key(7), func(a *upload.Ack) { a.Terminal = "gate-2" }),
		"of another scope":         sign(key(7), func(a *upload.Ack) { a.Scope = "park" }),
		"of another journal":       sign(key(7), func(a *upload.Ack) { a.Incarnation[0]++ }),
		"of other events":          sign(key(7), func(a *upload.Ack) { a.Hash[0]++ }),
		"of more than there is":    sign(key(7), func(a *upload.Ack) { a.Through = 4 }),
		"nothing":                  nil,
		"long":                     make([]byte, 5000),
		"a refusal of version two": []byte(`{"version":2,"code":"full"}`),
		"half a refusal":           []byte(`{"version":1`),
	} {
		b.line = func(context.Context, func() ([]byte, error)) ([]byte, error) { return m, nil }
		u := upload.New(b.cfg)
		if _, err := u.Round(t.Context()); err == nil || u.Acknowledged(id) != 0 || u.Status().Problem == "" {
			t.Errorf("%s: %v, %+v", what, err, u.Status())
		}
		must(t, os.WriteFile(b.cfg.File, m, 0o600))
		if got := upload.New(b.cfg).Acknowledged(id); got != 0 && what != "of other events" && what != "of more than there is" {
			t.Errorf("%s, kept: acknowledged through %d", what, got)
		}
		must(t, os.Remove(b.cfg.File))
	}
}

// A disk was copied and set back: the copy goes on with other events.
func TestRestoredJournalStopsAndBothSidesSaySo(t *testing.T) {
	b := newBed(t)
	b.happen(t, 5)
	b.settle(t, upload.New(b.cfg))
	must(t, b.journal.Close())
	old, err := os.ReadFile(b.journalPath())
	must(t, err)
	oldAck, err := os.ReadFile(b.cfg.File)
	must(t, err)
	b.openJournal(t)
	b.happen(t, 5)
	b.settle(t, upload.New(b.cfg))
	id, err := b.journal.Incarnation(t.Context())
	must(t, err)

	for what, restore := range map[string]func(){
		"with its acknowledgement": func() { must(t, os.WriteFile(b.cfg.File, oldAck, 0o600)) },
		"without it":               func() { must(t, os.Remove(b.cfg.File)) },
		"with a later one":         func() {},
	} {
		newest, err := os.ReadFile(b.cfg.File)
		must(t, err)
		restore()
		for _, more := range []int{0, 2, 7} {
			must(t, b.journal.Close())
			must(t, os.WriteFile(b.journalPath(), old, 0o600))
			b.openJournal(t)
			b.happen(t, more)
			var told upload.Status
			b.cfg.Changed = func(s upload.Status) { told = s }
			u := upload.New(b.cfg)
			_, err := u.Round(t.Context())
			if more == 0 && what == "with its acknowledgement" {
				continue // nothing has happened that anybody could know of
			}
			if !errors.Is(err, upload.ErrClone) || !told.Stopped || told.Code != upload.Clone || u.Acknowledged(id) != 0 {
				t.Errorf("%s and %d more: %v, %+v", what, more, err, told)
			}
			b.happen(t, 1)
			if _, err := u.Round(t.Context()); !errors.Is(err, upload.ErrClone) {
				t.Errorf("%s and %d more: it goes on: %v", what, more, err)
			}
		}
		must(t, os.WriteFile(b.cfg.File, newest, 0o600))
	}
	all, err := b.store.Terminals(t.Context(), scope)
	must(t, err)
	if len(all) != 1 || all[0].Clone.IsZero() || all[0].Events != 10 {
		t.Errorf("the hub knows %+v", all)
	}
}

func TestHubThatLostItsEventsGetsThemAgain(t *testing.T) {
	b := newBed(t)
	b.happen(t, 300)
	u := upload.New(b.cfg)
	b.settle(t, u)
	must(t, b.store.Close())
	b.openHub(t, "another.db")
	b.happen(t, 1)
	b.settle(t, u)
	b.arrived(t, "another.db")
}

func TestAnotherJournalBeginsAnew(t *testing.T) {
	b := newBed(t)
	b.happen(t, 5)
	u := upload.New(b.cfg)
	b.settle(t, u)
	must(t, b.journal.Close())
	for _, end := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(b.journalPath() + end)
	}
	b.openJournal(t)
	id, err := b.journal.Incarnation(t.Context())
	must(t, err)
	u = upload.New(b.cfg)
	if n := u.Acknowledged(id); n != 0 {
		t.Errorf("%d events of the new journal are acknowledged", n)
	}
	b.happen(t, 2)
	b.settle(t, u)
	if n := u.Acknowledged(id); n != 2 {
		t.Errorf("%d events of the new journal are acknowledged", n)
	}
}

func TestWhatIsNotAcknowledgedIsNotDeleted(t *testing.T) {
	b := newBed(t)
	b.happen(t, 10)
	id, err := b.journal.Incarnation(t.Context())
	must(t, err)
	u := upload.New(b.cfg)
	prune := func(want uint64) {
		t.Helper()
		n, err := b.journal.Prune(t.Context(), time.Now(), u.Acknowledged(id), nil, terminal.Staff{})
		if err != nil || n != want {
			t.Errorf("%d deleted, %v; want %d", n, err, want)
		}
	}
	time.Sleep(2 * time.Millisecond) // an instant is rounded down
	prune(0)
	b.settle(t, u)
	b.happen(t, 5)
	time.Sleep(2 * time.Millisecond)
	prune(10)
	prune(0)
	b.settle(t, u)
	prune(6) // 5, and the record of the deletion before

	// A hub that comes late is told that they are gone.
	must(t, errors.Join(b.store.Close(), os.Remove(b.cfg.File)))
	b.openHub(t, "late.db")
	u = upload.New(b.cfg)
	b.settle(t, u)
	all, err := b.store.Terminals(t.Context(), scope)
	must(t, err)
	if len(all) != 1 || all[0].Missing != 16 || all[0].Events != 1 {
		t.Errorf("%+v", all)
	}
}

func TestBrokenChainIsNotSent(t *testing.T) {
	b := newBed(t)
	b.happen(t, 10)
	db, err := sql.Open("sqlite3", "file:"+b.journalPath())
	must(t, err)
	_, err = db.Exec(`DROP TRIGGER events_no_update; UPDATE events SET bytes = replace(bytes, 'north', 'south') WHERE seq = 4`)
	must(t, errors.Join(err, db.Close()))
	u := upload.New(b.cfg)
	_, err = u.Round(t.Context()) // the question
	must(t, err)
	if _, err := u.Round(t.Context()); !errors.Is(err, upload.ErrBroken) {
		t.Errorf("%v", err)
	}
	if s := u.Status(); s.Acknowledged != 0 || !strings.Contains(s.Problem, "1 and 10") {
		t.Errorf("%+v", s)
	}
}

// A hub that is away is asked ever less often, at most every five minutes on
// average, and gets everything when it is back.
func TestHubThatIsAwayIsLeftInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		u := upload.New(upload.Config{
			Journal: still{}, Scope: scope, Terminal: gate, File: filepath.Join(t.TempDir(), "ack"),
			Hub: hubFunc(func() ([]byte, error) { asked++; return nil, errors.New("away") }),
		})
		done := make(chan struct{})
		go func() { u.Run(ctx); close(done) }()
		time.Sleep(24 * time.Hour)
		cancel()
		<-done
		if asked < 24*12 || asked > 24*12*4 {
			t.Errorf("asked %d times in a day", asked)
		}
		if s := u.Status(); s.Failures != asked || !strings.Contains(s.Problem, "away") {
			t.Errorf("%+v", s)
		}
	})
}

type hubFunc func() ([]byte, error)

func (f hubFunc) Request(context.Context, string, []byte) ([]byte, error) { return f() }

// still is a journal of one event.
type still struct{}

func (still) Incarnation(context.Context) (id upload.Incarnation, err error) { return id, nil }
func (still) Ends(context.Context) (pruned, last uint64, err error)          { return 0, 1, nil }
func (still) HashAt(context.Context, uint64) (h upload.Hash, err error)      { return h, nil }
func (still) Bytes(context.Context, uint64, int) ([][]byte, error)           { return [][]byte{{}}, nil }
