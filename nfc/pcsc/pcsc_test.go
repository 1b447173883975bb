package pcsc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/internal/pcscd/pcscdtest"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// daemon is the one pcscd of this process.
var daemon pcscdtest.Daemon

func TestMain(m *testing.M) { daemon.Main(m) }

const (
	noticed   = 1200 * time.Millisecond // pcscd looks every 400 ms
	prompt    = time.Second             // at once, on a machine that is busy with other things
	cancelled = 2 * time.Second         // a wait that has to be given up, and then prompt
	settle    = 100 * time.Millisecond
)

// open opens a lane over every slot, and makes it look at them.
func open(t *testing.T, opt pcsc.Options) *pcsc.Lane {
	t.Helper()
	daemon.Need(t)
	if opt.Settle == 0 {
		opt.Settle = settle
	}
	lane, err := pcsc.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lane.Close(); err != nil {
			t.Error(err)
		}
	})
	if !opt.Present {
		if c, err := next(t, lane, 2*settle); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("before anything was put in: card %v, error %v", c, err)
		}
	}
	return lane
}

func next(t *testing.T, lane *pcsc.Lane, patience time.Duration) (nfc.Card, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return lane.Next(ctx)
}

func mustNext(t *testing.T, lane *pcsc.Lane) nfc.Card {
	t.Helper()
	c, err := next(t, lane, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Release() })
	return c
}

func mustRelease(t *testing.T, c nfc.Card) {
	t.Helper()
	if err := c.Release(); err != nil {
		t.Error(err)
	}
}

func noNext(t *testing.T, lane *pcsc.Lane, why string) {
	t.Helper()
	if c, err := next(t, lane, noticed); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s: card %v, error %v", why, c, err)
	}
}

// A responder answers command APDUs. It is what these tests need of a card
// and no card would do: odd lengths, silence, odd answers to reset.
type responder struct {
	atr     []byte
	respond func(capdu []byte) []byte // nil result: the card leaves

	mu       sync.Mutex
	controls []byte // as received, save requests for the ATR
}

// The controls of vpcd.
const (
	powerOff = 0
	powerOn  = 1
)

// seen gives the controls since forget.
func (r *responder) seen() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.controls)
}

func (r *responder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.controls = nil
}

var plainATR = []byte{0x3B, 0x80, 0x80, 0x01, 0x01} // T=0 and T=1, as PC/SC part 3 makes it

func echo(capdu []byte) []byte { return append(capdu[:4:4], 0x90, 0x00) }

func (r *responder) Serve(_ context.Context, rw io.ReadWriter) error {
	var size [2]byte
	for {
		if _, err := io.ReadFull(rw, size[:]); err != nil {
			return err
		}
		message := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(rw, message); err != nil {
			return err
		}
		var answer []byte
		switch {
		case len(message) > 1:
			if answer = r.respond(message); answer == nil {
				return io.ErrClosedPipe
			}
		case message[0] == 4:
			answer = r.atr
		default:
			r.mu.Lock()
			r.controls = append(r.controls, message[0])
			r.mu.Unlock()
			continue
		}
		binary.BigEndian.PutUint16(size[:], uint16(len(answer)))
		if _, err := rw.Write(append(size[:], answer...)); err != nil {
			return err
		}
	}
}

// newCard makes a virtual JPKI card.
func newCard(t *testing.T) *vcard.Card {
	t.Helper()
	b, err := os.ReadFile("../../testdata/cards/good.json")
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return card
}

type server interface {
	Serve(context.Context, io.ReadWriter) error
}

// insert puts a card into a slot and gives the function that takes it out.
func insert(t testing.TB, slot int, card server) (remove func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn := dial(t, slot)
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer conn.Close()
		_ = card.Serve(ctx, conn) // ends when the card is taken out
	}()
	var once sync.Once
	remove = func() {
		once.Do(func() {
			cancel()
			conn.Close()
			<-served
		})
	}
	t.Cleanup(func() {
		remove()
		gone(t, slot)
	})
	return remove
}

func dial(t testing.TB, slot int) net.Conn {
	t.Helper()
	conn, err := pcscd.Dial(t.Context(), daemon.SlotAddr(slot))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// left waits for a card that left in the middle of a command. pcscd says so as
// soon as its connection ends, but its poll has not noticed yet, and a card
// put in before that is never seen.
func left(t testing.TB, slot int) {
	t.Helper()
	gone(t, slot)
	time.Sleep(450 * time.Millisecond)
}

// gone waits until pcscd says that the slot is empty.
func gone(t testing.TB, slot int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("slot %d is empty", slot), func(s pcsc.Status) bool { return !s.Slots[slot].Card })
}

func there(t testing.TB, slot int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("slot %d holds a card", slot), func(s pcsc.Status) bool { return s.Slots[slot].Card })
}

func waitFor(t testing.TB, what string, ok func(pcsc.Status) bool) {
	t.Helper()
	lane, err := pcsc.Open(pcsc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer lane.Close()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s, err := lane.Status(context.Background()); err == nil && ok(s) {
			return
		}
	}
	t.Errorf("in vain waited that %s", what)
}
