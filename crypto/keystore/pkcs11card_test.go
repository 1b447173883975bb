package keystore

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/halt"
	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/internal/pcscd/pcscdtest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const openSC = "opensc-pkcs11.so"

// opensc is the configuration that docs/keystore.md recommends.
const opensc = `app default {
	card_drivers = jpki;
	framework pkcs15 { use_pin_caching = false; }
}
`

// daemon is the one pcscd of this process.
var daemon pcscdtest.Daemon

func TestMain(m *testing.M) { daemon.Main(m) }

// A reader is a card in a slot of the private pcscd, and a store that reaches it
// through OpenSC.
type reader struct {
	testing.TB
	*Store
	module, pin string

	slot int
	card *vcard.Card
	stop func() // pulls the card
}

// newReader puts a card with the image into slot 0, after change has changed it.
func newReader(t testing.TB, image string, change func(*vcard.Image)) *reader {
	t.Helper()
	modules, err := filepath.Glob("/usr/lib/*/" + openSC)
	if err != nil || len(modules) == 0 {
		notInstalled(t, openSC, "opensc-pkcs11")
	}
	daemon.Need(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "opensc.conf")
	if err := os.WriteFile(conf, []byte(opensc), 0o600); err != nil {
		t.Fatal(err)
	}
	setenv(t, "OPENSC_CONF", conf)
	r := &reader{TB: t, Store: new(Store), module: modules[0], pin: filepath.Join(dir, "pin"), card: newCard(t, image, change)}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	r.setPIN("1234")
	r.put()
	return r
}

func newCard(t testing.TB, image string, change func(*vcard.Image)) *vcard.Card {
	t.Helper()
	b, err := os.ReadFile("../../testdata/cards/" + image)
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(img)
	}
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// put puts the card in, under power: a card that comes back before pcscd has
// looked would never be given any.
func (r *reader) put() {
	r.Helper()
	r.card.PowerOn()
	conn, err := pcscd.Dial(context.Background(), daemon.SlotAddr(r.slot))
	if err != nil {
		r.Fatal(err)
	}
	served := make(chan struct{})
	go func(card *vcard.Card, conn net.Conn) {
		_ = card.Serve(context.Background(), conn) // ends when it is pulled
		close(served)
	}(r.card, conn)
	r.stop = sync.OnceFunc(func() {
		conn.Close()
		<-served
	})
	r.Cleanup(r.pull)
}

// pull takes it out. A card without power forgets its login.
func (r *reader) pull() {
	r.stop()
	r.card.PowerOff()
}

func (r *reader) setPIN(pin string) {
	r.Helper()
	if err := os.WriteFile(r.pin, []byte(pin), 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *reader) uri(what string) string {
	return "pkcs11:module-path=" + r.module + ";token=JPKI%20(User%20Authentication%20PIN);" + what + "?pin-source=" + r.pin
}

// open waits until pcscd has seen the card, and opens its key.
func (r *reader) open(what string) *Key {
	r.Helper()
	k, err := r.Signer(r.uri(what), ExternalAuth)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := k.Close(); err != nil && !errors.Is(err, ErrClosed) {
			r.Error(err)
		}
	})
	r.until(k, nil)
	return k
}

// until checks the key until the error is that one: pcscd looks at its slots every
// 400 ms.
func (r *reader) until(k *Key, want error) {
	r.Helper()
	var err error
	for range 100 {
		if err = k.Check(r.Context()); errors.Is(err, want) {
			return
		}
		if err != nil && !errors.Is(err, ErrAbsent) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.Fatalf("%v, want %v", err, want)
}

func TestCardInAReaderSigns(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k := r.open("id=01")
	signsFor(t, k, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	exportable(t, k, false)
	entries, err := r.List(t.Context(), r.uri("id=01"))
	if err != nil || len(entries) != 1 || entries[0].Type != string(RSA2048) || !SameKey(entries[0].Public, k.Public()) {
		t.Errorf("%+v, %v", entries, err)
	}
	r.open("object=User%20Authentication%20Key")
	if _, err := r.Generate(t.Context(), r.uri("object=new"), ExternalAuth, RSA2048); err == nil {
		t.Error("a card of somebody else makes keys")
	} else {
		t.Log(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256}); !errors.Is(err, ErrCannot) || k.Lost() != nil {
		t.Errorf("PSS: %v, %v", err, k.Lost())
	}
}

func TestCardThatReturnsIsOpenedAnew(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k := r.open("id=01")
	for range 2 {
		r.pull()
		r.until(k, ErrAbsent)
		for range 3 {
			if err := signs(k); !errors.Is(err, ErrAbsent) {
				t.Errorf("without the card: %v", err)
			}
		}
		r.put()
		r.until(k, nil)
		signsFor(t, k, crypto.SHA256)
	}
	if got := r.tries(); got != "63C3" {
		t.Errorf("%s, want three tries", got)
	}
}

// The card lost its power for so short a time that nobody saw it: it has forgotten
// the login, and nothing has told the module.
func TestCardThatForgotItsLoginUnseenIsLoggedInAgain(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k := r.open("id=01")
	for range 3 {
		r.pull()
		r.put()
		if err := signs(k); err != nil && !errors.Is(err, ErrAbsent) {
			t.Error(err)
		}
		r.until(k, nil)
		if err := signs(k); err != nil {
			r.until(k, nil)
			signsFor(t, k, crypto.SHA256)
		}
	}
}

// The module has to be restarted for the one key, and the other is inside it.
func TestKeysOfACardThatForgotItsLoginMakeWayForEachOther(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k, l := r.open("id=01"), r.open("id=01")
	r.pull()
	r.put()
	if err := signs(k); err != nil && !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	var err error
	for range 100 {
		if err = errors.Join(k.Check(t.Context()), l.Check(t.Context())); err == nil {
			if err = signs(k); err == nil {
				break
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	signsFor(t, l, crypto.SHA256)
}

func TestKilledDaemonIsOutlived(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k, l := r.open("id=01"), r.open("id=01")
	for range 2 {
		daemon.Kill()
		r.pull()
		r.until(k, ErrAbsent)
		r.until(l, ErrAbsent)
		if err := daemon.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.put()
		r.until(k, nil)
		r.until(l, nil)
		signsFor(t, k, crypto.SHA256)
		signsFor(t, l, crypto.SHA256)
	}
}

// Nobody asks for the key between the end of pcscd and its return.
func TestDaemonThatWasKilledUnseenIsOutlived(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k := r.open("id=01")
	daemon.Kill()
	r.pull()
	if err := daemon.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.put()
	if err := signs(k); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	r.until(k, nil)
	signsFor(t, k, crypto.SHA256)
}

// A call into the module that does not come back holds up neither who signs, nor
// who lists, nor who ends the program.
func TestDaemonThatHangsHoldsNobodyUp(t *testing.T) {
	r := newReader(t, "good.json", nil)
	k, l := r.open("id=01"), r.open("id=01")
	halt.Process(t, daemon.Pid())
	goOn := sync.OnceFunc(func() {
		if err := syscall.Kill(daemon.Pid(), syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(goOn)
	for range 3 { // the first waits 3 s, the others do not
		if err := signs(k); !errors.Is(err, ErrAbsent) {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for name, err := range map[string]error{
		"check":         k.Check(ctx),
		"another check": l.Check(ctx),
		"list":          func() error { _, err := r.List(ctx, r.uri("id=01")); return err }(),
	} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Close(); err == nil {
		t.Error("the store was closed under a call")
	}
	goOn()
	r.until(k, nil)
	r.until(l, nil)
	signsFor(t, k, crypto.SHA256)
	signsFor(t, l, crypto.SHA256)
}

// OpenSC asks a JPKI card for both of its PINs. The SIM of our model has no
// signature PIN, and OpenSC 0.23 does not know it; with one it does.
func TestSIMInAReaderSigns(t *testing.T) {
	r := newReader(t, "sim.json", func(img *vcard.Image) {
		ap := img.Application(vcard.AIDJPKI())
		ap.PINs = append(ap.PINs, vcard.PIN{ID: 0x001B, Value: "ABC123", Limit: 5, Left: 5})
	})
	k := r.open("id=01")
	signsFor(t, k, crypto.SHA256)
	exportable(t, k, false)
}

func BenchmarkSignOpenSC(b *testing.B) {
	r := newReader(b, "good.json", nil)
	k := r.open("id=01")
	for b.Loop() {
		if err := signs(k); err != nil {
			b.Fatal(err)
		}
	}
}
