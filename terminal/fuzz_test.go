package terminal_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/gate"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A script is what a card answers, whatever it is asked: for each command a
// delay, a length of two bytes and so many bytes. A delay of F0 and more stands
// for one to sixteen times 400 ms. At its end the card leaves, or begins again.
type script struct {
	b, rest []byte
	again   bool
	sent    struct{ commands, values int }
}

func (s *script) PowerOn()  {}
func (s *script) PowerOff() {}

func (s *script) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	s.sent.commands++
	if len(capdu) > 5 && capdu[1] == 0x20 {
		s.sent.values++
	}
	if len(s.rest) < 3 && s.again {
		s.rest = s.b
	}
	if len(s.rest) < 3 {
		return nil, nil
	}
	delay, n := s.rest[0], int(binary.BigEndian.Uint16(s.rest[1:3]))
	s.rest = s.rest[3:]
	answer := s.rest[:min(n, len(s.rest))]
	s.rest = s.rest[len(answer):]
	if delay >= 0xF0 {
		timer := time.NewTimer(time.Duration(delay-0xEF) * 400 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return answer, nil
}

// scripted are the answers of a recorded session in the form of a script.
func scripted(t testing.TB, name string) (s []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../testdata/traces", name))
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := trace.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		s = append(binary.BigEndian.AppendUint16(append(s, 0), uint16(len(p.Response))), p.Response...)
	}
	return s
}

// fuzzed are the ways in which the card of testdata/cards/good.json is proved,
// and the sessions in which it was. Workers of the fuzzer are processes of
// their own: nothing here is drawn by chance.
var fuzzed = []struct {
	method jpki.Method
	row    func(auth, card cardkey.Key) whitelist.Row
	traces []string
}{
	{jpki.TapUse, func(_, card cardkey.Key) whitelist.Row { return whitelist.Row{CardKey: card} }, []string{"tap-use.txt"}},
	{jpki.TapUse, func(_, _ cardkey.Key) whitelist.Row { return whitelist.Row{BirthDate: "19900401"} },
		[]string{"first-use.txt", "first-use-short-reads.txt"}},
	{jpki.ExternalAuth, func(auth, _ cardkey.Key) whitelist.Row { return whitelist.Row{AuthKey: auth} }, []string{"external-auth.txt"}},
	{jpki.ExternalAuth, func(_, _ cardkey.Key) whitelist.Row { return whitelist.Row{} },
		[]string{"external-auth-chain.txt", "external-auth-short-reads.txt"}},
}

// FuzzTap: whatever a card answers to a gate, and however slowly, it is denied
// for a reason of the card within the deadline and the grace after it, gets one
// signature of the terminal and one birth date at most, and leaves the gate in
// order. The genuine sessions among the seeds answer other challenges.
func FuzzTap(f *testing.F) {
	for i, way := range fuzzed {
		for _, name := range way.traces {
			genuine := scripted(f, name)
			f.Add(uint8(i), genuine)
			slow := bytes.Clone(genuine)
			slow[0] = 0xFF
			f.Add(uint8(i), slow)
			f.Add(uint8(i), genuine[:len(genuine)/2])
		}
		f.Add(uint8(i)|0x80, []byte{0, 0, 3, 0xAA, 0x61, 0xFF})
		f.Add(uint8(i)|0x80, []byte{0xF0, 0, 2, 0x90, 0x00})
	}
	f.Add(uint8(0), []byte{})

	w := fixedWorld(f)
	f.Fuzz(func(t *testing.T, how uint8, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{b: b, rest: b, again: how&0x80 != 0}
			d, opened := w.tap(t, int(how&0x7F)%len(fuzzed), s)
			if d.Verdict != terminal.Deny || opened != 0 {
				t.Fatalf("%v %s", d.Verdict, d.Reason)
			}
			switch d.Reason {
			case terminal.OutOfOrder, terminal.GateFault, terminal.DataStale, terminal.ClockUntrusted, terminal.OK, "":
				t.Fatalf("a card makes the gate say %q: %v", d.Reason, d.Cause)
			}
			if d.Elapsed > terminal.DefaultDeadline+250*time.Millisecond {
				t.Fatalf("answered after %v", d.Elapsed)
			}
			if d.TerminalSignatures > 1 || s.sent.values > 1 {
				t.Fatalf("%d signatures, %d values presented", d.TerminalSignatures, s.sent.values)
			}
			// A byte of the card for each, at most: head, rest, three files, signature.
			if s.sent.commands > 12000 {
				t.Fatalf("%d commands", s.sent.commands)
			}
		})
	})
}

// Each recorded session leads up to the proof, which fails for the challenge
// alone: the fuzzer begins where a card has come as far as it can.
func TestRecordedSessionsLeadUpToTheProof(t *testing.T) {
	w := fixedWorld(t)
	for i, way := range fuzzed {
		for _, name := range way.traces {
			synctest.Test(t, func(t *testing.T) {
				b := scripted(t, name)
				s := &script{b: b, rest: b}
				d, _ := w.tap(t, i, s)
				if d.Reason != terminal.AuthFailed || len(s.rest) != 0 || d.Cause.Error() == "" {
					t.Errorf("%s: %s (%v) with %d bytes left", name, d.Reason, d.Cause, len(s.rest))
				}
			})
		}
	}
}

// However much a card says, a tap holds little of it: the longest response
// there is, many times over.
func TestTalkativeCardTakesLittleMemory(t *testing.T) {
	long := append(bytes.Repeat([]byte{0x30}, 65536), 0x90, 0x00)
	for _, d := range dialogues {
		for at := 1; at <= d.commands; at++ {
			r := newRig(t, methods(d.method))
			m := bend(card(t, r.card(t, d.name, d.method), vcard.Options{}), func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
				return long, nil, n >= at
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := r.tap(t, m)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; got.Admitted() || used > 4<<20 {
				t.Errorf("%s, command %d: %s, %d bytes", d.method, at, got.Reason, used)
			}
		}
	}
}

// A dummySigner is the terminal's key without its arithmetic: no card in a
// script checks the signature.
type dummySigner struct{ crypto.Signer }

func (dummySigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 256), nil
}

// A fixed world is made of testdata/cards: one listed card, and a terminal.
type fixed struct {
	*world.World
	head       []byte
	auth, card cardkey.Key
}

func fixedWorld(t testing.TB) fixed {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("../testdata/cards", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	w := fixed{World: &world.World{Now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}}
	img, err := vcard.ParseImage(read("good.json"))
	if err != nil {
		t.Fatal(err)
	}
	listed, err := w.Row(img, "ticket")
	if err != nil {
		t.Fatal(err)
	}
	w.head, w.auth, w.card = listed.Head, listed.Row.AuthKey, listed.Row.CardKey
	if w.Authority, err = perso.ParseAuthority(read("authority.json")); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(read("terminal.pem"))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	w.TerminalKey = private.(*rsa.PrivateKey)
	if w.TerminalCertificates[0], w.TerminalCertificates[1], err = w.Authority.TerminalCertificates(&w.TerminalKey.PublicKey); err != nil {
		t.Fatal(err)
	}
	return w
}

// tap lets one card come to a gate, in a bubble of testing/synctest, and tells
// how often the gate opened.
func (w fixed) tap(t *testing.T, way int, m nfctest.Medium) (terminal.Decision, int) {
	t.Helper()
	time.Sleep(time.Until(w.Now))
	key, err := w.ExternalAuthKey(dummySigner{w.TerminalKey})
	if err != nil {
		t.Fatal(err)
	}
	dialogue, err := jpki.NewDialogue(jpki.DefaultProfile(), key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	field, simulator := nfctest.NewField(slotA), gate.NewSimulator(nil)
	decisions := make(chan terminal.Decision, 2)
	lane, err := terminal.NewLane(terminal.Config{
		Scope: "s", Terminal: "t", GateName: "g", FirstUse: true,
		Methods:     []jpki.Method{fuzzed[way].method},
		HolderCheck: map[jpki.Method]terminal.HolderCheck{jpki.TapUse: terminal.CheckNone, jpki.ExternalAuth: terminal.CheckNone},
		Deadline:    terminal.DefaultDeadline, HolderCheckTimeout: terminal.DefaultHolderCheckTimeout,
		PassTime: terminal.DefaultPassTime,
		Anchors:  w.Anchors(), SurfaceAuthorities: w.SurfaceAuthorities(),
	}, terminal.Parts{
		Reader: field, Dialogue: dialogue, List: w.list(fuzzed[way].row(w.auth, w.card)), Journal: memoryJournal{}, Gate: simulator,
		Rand: rand.Reader, Now: time.Now, After: time.After,
		Observe: func(d terminal.Decision) { decisions <- d }, Incidents: func(terminal.Incident) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- lane.Run(ctx) }()
	field.Insert(slotA, m)
	d := <-decisions
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return d, int(simulator.Opened())
}

// list is a list with one row, without its file.
func (w fixed) list(row whitelist.Row) memoryList {
	row.Status, row.Entitlements = whitelist.Active, []whitelist.Entitlement{{ID: "ticket"}}
	return memoryList{w, row}
}

type memoryList struct {
	fixed
	row whitelist.Row
}

func (l memoryList) Current() (whitelist.View, error) { return l, nil }
func (l memoryList) Release()                         {}

func (l memoryList) Manifest() whitelist.Manifest {
	return whitelist.Manifest{IssuedAt: l.Now.Add(-time.Hour), NotAfter: l.Now.Add(time.Hour), RevocationAsOf: l.Now}
}

func (l memoryList) CardID(head []byte) cardid.CardID { return cardid.CardID{byte(len(head))} }

func (l memoryList) Lookup(_ context.Context, head []byte) (whitelist.Row, error) {
	if bytes.Equal(l.head, head) {
		return l.row, nil
	}
	return whitelist.Row{}, whitelist.ErrNotListed
}

// A memoryJournal forgets. What a lane without a sensor does not call it does not
// have.
type memoryJournal struct{ terminal.Journal }

func (memoryJournal) History(context.Context, string) (terminal.History, error) {
	return terminal.History{}, nil
}
func (memoryJournal) BirthDateRefused(context.Context, string) (bool, error)     { return false, nil }
func (memoryJournal) Record(context.Context, terminal.Decision) error            { return nil }
func (memoryJournal) Commit(context.Context, terminal.Reservation, uint32) error { return nil }
func (memoryJournal) Latest() time.Time                                          { return time.Time{} }
func (memoryJournal) Reserve(context.Context, terminal.Decision, uint64) (terminal.Reservation, error) {
	return 1, nil
}
func (memoryJournal) Annul(context.Context, terminal.Reservation, terminal.Reason) error { return nil }
