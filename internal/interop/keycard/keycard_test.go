// Package keycard holds cards that carry a terminal's key behind a real PC/SC
// daemon, as a terminal has them: keystore over nfc/pcsc over pcscd.
package keycard

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/internal/pcscd/pcscdtest"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// daemon is the one pcscd of this process.
var daemon pcscdtest.Daemon

func TestMain(m *testing.M) { daemon.Main(m) }

// A reader is the first slot of the daemon.
type reader struct {
	t    *testing.T
	conn net.Conn // of the card in it, nil when it is empty
	done func()
}

func newReader(t *testing.T) *reader {
	t.Helper()
	daemon.Need(t)
	r := &reader{t: t}
	t.Cleanup(r.pull)
	return r
}

// put puts a card in. When at is above 0, it leaves instead of answering that
// command.
func (r *reader) put(image string, at int) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../testdata/cards", image))
	if err != nil {
		r.t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		r.t.Fatal(err)
	}
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.conn, err = pcscd.Dial(r.t.Context(), daemon.SlotAddr(0)); err != nil {
		r.t.Fatal(err)
	}
	if at > 0 {
		r.conn = pcscd.Pulled(r.conn, card.ATR(), at)
	}
	var served sync.WaitGroup
	conn := r.conn
	served.Go(func() { _ = card.Serve(context.Background(), conn) }) // it ends with the connection
	r.done = served.Wait
}

// pull takes the card out, and waits until the daemon has looked: an absence that
// is shorter than its look every 400 ms is none, and one that only a command has
// noticed hides the card that comes next.
func (r *reader) pull() {
	if r.conn == nil {
		return
	}
	r.conn.Close()
	r.done()
	r.conn = nil
	time.Sleep(600 * time.Millisecond)
}

// connect is what gate-agent does, with less patience.
func connect(ctx context.Context, name string) (keystore.Card, error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: []string{name}, Present: true})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, fmt.Errorf("%w: no card in reader %q", keystore.ErrAbsent, name))
	defer cancel()
	card, err := lane.Next(ctx)
	if err != nil {
		return nil, errors.Join(err, lane.Close())
	}
	return keyCard{card, lane}, nil
}

type keyCard struct {
	nfc.Card
	lane *pcsc.Lane
}

func (c keyCard) Release() error { return errors.Join(c.Card.Release(), c.lane.Close()) }

func newKey(t *testing.T, aid, key, pin string) *keystore.Key {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(daemon.SlotName(0), " ", "%20")
	store := &keystore.Store{Card: connect}
	k, err := store.Signer(fmt.Sprintf("scard:reader=%s;aid=%s;key=%s?pin-source=%s", name, aid, key, file), keystore.ExternalAuth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func sign(k *keystore.Key) error {
	digest := sha256.Sum256([]byte("message"))
	_, err := k.Sign(nil, digest[:], crypto.SHA256) // verified by the keystore
	return err
}

const (
	jpki = "D392F000260100000001"
	piv  = "A000000308"
)

// cards are the media of a terminal's key.
var cards = []struct{ image, aid, key, pin string }{
	{"good.json", jpki, "17", "1234"},
	{"good.json", jpki, "1A", "ABC123"},
	{"sim.json", jpki, "17", "1234"},
	{"piv.json", piv, "9A", "123456"},
	{"piv.json", piv, "9C", "123456"},
	{"piv.json", piv, "9D", "123456"},
	{"piv.json", piv, "9E", "123456"},
}

func TestCardInAReaderSigns(t *testing.T) {
	for _, c := range cards {
		t.Run(c.image+" "+c.key, func(t *testing.T) {
			r := newReader(t)
			r.put(c.image, 0)
			k := newKey(t, c.aid, c.key, c.pin)
			for range 2 {
				if err := errors.Join(k.Check(t.Context()), sign(k)); err != nil {
					t.Fatal(err)
				}
			}
			if exportable, err := k.Exportable(t.Context()); err != nil || exportable {
				t.Errorf("exportable %v (%v)", exportable, err)
			}
			if err := errors.Join(sign(k), k.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCardComesAndGoes(t *testing.T) {
	for _, c := range cards[2:4] {
		t.Run(c.image, func(t *testing.T) {
			r := newReader(t)
			k := newKey(t, c.aid, c.key, c.pin)
			if err := k.Check(t.Context()); !errors.Is(err, keystore.ErrAbsent) {
				t.Errorf("an empty reader: %v", err)
			}
			for range 2 {
				r.put(c.image, 0)
				if err := errors.Join(k.Check(t.Context()), sign(k)); err != nil {
					t.Fatal(err)
				}
				r.pull()
				if err := sign(k); !errors.Is(err, keystore.ErrAbsent) {
					t.Errorf("pulled: %v", err)
				}
			}
		})
	}
}

// The card leaves during each command of opening and signing.
func TestCardLeavesInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		image, aid, key, pin string
		at                   []int
	}{
		{"good.json", jpki, "17", "1234", []int{1, 4, 6}},
		{"piv.json", piv, "9A", "123456", []int{3, 6, 8}},
	} {
		for _, at := range c.at {
			t.Run(fmt.Sprint(c.image, at), func(t *testing.T) {
				r := newReader(t)
				r.put(c.image, at)
				k := newKey(t, c.aid, c.key, c.pin)
				err := k.Check(t.Context())
				if err == nil {
					err = sign(k)
				}
				if !errors.Is(err, keystore.ErrAbsent) {
					t.Errorf("%v, want ErrAbsent", err)
				}
				r.pull()
				r.put(c.image, 0)
				if err := errors.Join(k.Check(t.Context()), sign(k)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestDaemonMayRestart(t *testing.T) {
	r := newReader(t)
	r.put("good.json", 0)
	k := newKey(t, jpki, "17", "1234")
	if err := errors.Join(k.Check(t.Context()), sign(k)); err != nil {
		t.Fatal(err)
	}
	daemon.Kill()
	if err := sign(k); !errors.Is(err, keystore.ErrAbsent) {
		t.Errorf("without pcscd: %v", err)
	}
	if err := k.Check(t.Context()); !errors.Is(err, keystore.ErrAbsent) {
		t.Errorf("without pcscd: %v", err)
	}
	if err := daemon.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.pull() // the connection went with the daemon
	r.put("good.json", 0)
	if err := errors.Join(k.Check(t.Context()), sign(k)); err != nil {
		t.Error(err)
	}
}

// A PIN that was verified is not left to whoever connects next (docs/card-facts.md
// §3, the session trap).
func TestClosedKeyLeavesNoPINVerified(t *testing.T) {
	r := newReader(t)
	r.put("good.json", 0)
	k := newKey(t, jpki, "17", "1234")
	if err := errors.Join(k.Check(t.Context()), sign(k), k.Close()); err != nil {
		t.Fatal(err)
	}
	card, err := connect(t.Context(), daemon.SlotName(0))
	if err != nil {
		t.Fatal(err)
	}
	defer card.Release()
	ch := nfc.NewChannel(card)
	if _, err := ch.Do(t.Context(), nfc.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: vcard.AIDJPKI()}); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Do(t.Context(), nfc.Command{CLA: 0x80, INS: 0x2A, P1: 0x02, P2: 0x97, Data: make([]byte, 32), Ne: 256}); !errors.Is(err, nfc.ErrSecurityStatus) {
		t.Errorf("signing without a PIN: %v", err)
	}
}

func TestWrongPINIsSentToACardOnce(t *testing.T) {
	for _, c := range []struct{ image, aid, key, wrong string }{
		{"good.json", jpki, "17", "4321"},
		{"piv.json", piv, "9A", "654321"},
	} {
		r := newReader(t)
		r.put(c.image, 0)
		k := newKey(t, c.aid, c.key, c.wrong)
		for i := range 4 {
			e, ok := errors.AsType[*keystore.PINError](k.Check(t.Context()))
			if !ok || e.Left != 2 || e.NotSent != (i > 0) {
				t.Errorf("%s, %d: %+v", c.image, i, e)
			}
		}
		r.pull()
	}
}
