package nfc_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/trace"
)

// run sends one command over a recorded session.
func run(t *testing.T, session string, cmd nfc.Command) ([]byte, nfc.Stats, error) {
	t.Helper()
	pairs, err := trace.Parse(strings.NewReader(session))
	if err != nil {
		t.Fatal(err)
	}
	replay := &trace.Replay{Pairs: pairs}
	ch := nfc.NewChannel(replay)
	data, err := ch.Do(context.Background(), cmd)
	if !replay.Done() {
		t.Errorf("not every command of the session was sent (error %v)", err)
	}
	return data, ch.Stats(), err
}

func TestResponsesAreMadeWhole(t *testing.T) {
	read := nfc.Command{INS: 0xB0, Ne: 256}
	for _, c := range []struct {
		name, session, want string
		cmd                 nfc.Command
	}{
		{"plain", "> 00B0000000\n< 01029000", "0102", read},
		{"first command after power-up is repeated", "> 00B0000000\n< 6F00\n> 00B0000000\n< 019000", "01", read},
		{"wrong Le is corrected", "> 00B0000000\n< 6C02\n> 00B0000002\n< 01029000", "0102", read},
		{"more data, nothing yet", "> 00B0000000\n< 6102\n> 00C0000002\n< 01029000", "0102", read},
		{"more data, a part already", "> 00B0000000\n< 016101\n> 00C0000001\n< 029000", "0102", read},
		{"more data twice", "> 00B0000000\n< 6101\n> 00C0000001\n< 016101\n> 00C0000001\n< 029000", "0102", read},
		{"more data than a byte can say", "> 00B00000000200\n< 6100\n> 00C0000000\n< " + strings.Repeat("AA", 256) + "9000",
			strings.Repeat("AA", 256), nfc.Command{INS: 0xB0, Ne: 512}},
		{"wrong Le, then more data", "> 00B0000000\n< 6C02\n> 00B0000002\n< 6102\n> 00C0000002\n< 01029000", "0102", read},
		{"more data that nobody asked for", "> 00A4040C0501020304FF\n< 6114", "",
			nfc.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte{1, 2, 3, 4, 0xFF}}},
		{"GET RESPONSE keeps no proprietary class", "> 802A0000010000\n< 6101\n> 00C0000001\n< 019000", "01",
			nfc.Command{CLA: 0x80, INS: 0x2A, Data: []byte{0}, Ne: 256}},
		{"short lengths, a long answer", "> 00CB3FFF00\n< " + strings.Repeat("AA", 256) + "6102\n> 00C0000002\n< 01029000",
			strings.Repeat("AA", 256) + "0102", nfc.Command{INS: 0xCB, P1: 0x3F, P2: 0xFF, Ne: 512, Chained: true}},
		{"short lengths, long data", "> 1087079AFF" + strings.Repeat("AA", 255) + "\n< 9000\n> 0087079A01AA00\n< 019000",
			"01", nfc.Command{INS: 0x87, P1: 0x07, P2: 0x9A, Data: bytes.Repeat([]byte{0xAA}, 256), Ne: 512, Chained: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, _, err := run(t, c.session, c.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(data); !strings.EqualFold(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestChainEndsWithTheFirstRefusal(t *testing.T) {
	cmd := nfc.Command{INS: 0x87, Data: bytes.Repeat([]byte{0xAA}, 600), Ne: 256, Chained: true}
	_, stats, err := run(t, "> 10870000FF"+strings.Repeat("AA", 255)+"\n< 6884\n", cmd)
	if status, ok := errors.AsType[*nfc.StatusError](err); !ok || status.SW != 0x6884 || stats.Commands != 1 {
		t.Errorf("%v after %d commands", err, stats.Commands)
	}
	if _, err := cmd.Append(nil); err == nil {
		t.Error("600 bytes went into one command of short length")
	}
}

func TestStatusWordsAreErrors(t *testing.T) {
	for _, c := range []struct {
		session string
		sw      nfc.SW
		is      error
	}{
		{"> 00B0000000\n< 6A82", 0x6A82, nfc.ErrNotFound},
		{"> 00B0000000\n< 6982", 0x6982, nfc.ErrSecurityStatus},
		{"> 00B0000000\n< 6983", 0x6983, nfc.ErrBlocked},
		{"> 00B0000000\n< 6984", 0x6984, nfc.ErrBlocked},
		{"> 00B0000000\n< 63C0", 0x63C0, nfc.ErrBlocked},
		{"> 00B0000000\n< 6700", 0x6700, nfc.ErrWrongLength},
		{"> 00B0000000\n< 6D00", 0x6D00, nil},
		{"> 00B0000000\n< 6F00\n> 00B0000000\n< 6F00", 0x6F00, nil},                   // only once
		{"> 00B0000000\n< 6C02\n> 00B0000002\n< 6C03", 0x6C03, nil},                   // only once
		{"> 00B0000000\n< 6102\n> 00C0000002\n< 6982", 0x6982, nfc.ErrSecurityStatus}, // after a promise
		{"> 00B0000000\n< 01026282", 0x6282, nil},                                     // a warning is no success
	} {
		data, _, err := run(t, c.session, nfc.Command{INS: 0xB0, Ne: 256})
		status, ok := errors.AsType[*nfc.StatusError](err)
		if !ok || status.SW != c.sw || data != nil {
			t.Errorf("%q: data %X, error %v, want SW %04X", c.session, data, err, uint16(c.sw))
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%q: %v is not %v", c.session, err, c.is)
		}
	}
}

func TestTriesLeft(t *testing.T) {
	for sw, want := range map[nfc.SW]int{0x63C3: 3, 0x63C0: 0, 0x6300: -1, 0x6982: -1} {
		n, ok := (&nfc.StatusError{SW: sw}).TriesLeft()
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%04X: %d, %v", uint16(sw), n, ok)
		}
	}
}

func TestResponsesThatBreakTheRulesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		session string
		want    error
	}{
		"empty, as from a card that left": {"> 00B0000004\n< ", nfc.ErrRemoved},
		"half a status word":              {"> 00B0000004\n< 90", nfc.ErrMalformed},
		"longer than asked":               {"> 00B0000004\n< 01020304059000", nfc.ErrMalformed},
		"longer than anything":            {"> 00B0000004\n< " + strings.Repeat("00", 65539), nfc.ErrMalformed},
		"GET RESPONSE without progress":   {"> 00B0000004\n< 6104\n> 00C0000004\n< 6104", nfc.ErrMalformed},
		"GET RESPONSE past the end":       {"> 00B0000004\n< 6104\n> 00C0000004\n< 010203046101", nfc.ErrMalformed},
		"GET RESPONSE longer than asked":  {"> 00B0000004\n< 6104\n> 00C0000004\n< 01020304059000", nfc.ErrMalformed},
		"wrong Le that offers more":       {"> 00B0000004\n< 6C05", nfc.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			data, _, err := run(t, c.session, nfc.Command{INS: 0xB0, Ne: 4})
			if !errors.Is(err, c.want) {
				t.Errorf("data %X, error %v, want %v", data, err, c.want)
			}
		})
	}
}

// A card that answers 61xx for ever is cut off by what was asked of it.
func TestEndlessChainEnds(t *testing.T) {
	endless := transmitFunc(func(context.Context, []byte) ([]byte, error) { return []byte{0xAA, 0x61, 0xFF}, nil })
	ch := nfc.NewChannel(endless)
	_, err := ch.Do(context.Background(), nfc.Command{INS: 0xB0, Ne: 256})
	if !errors.Is(err, nfc.ErrMalformed) {
		t.Fatalf("error %v", err)
	}
	if n := ch.Stats().Commands; n > 257 {
		t.Errorf("%d commands", n)
	}
}

func TestNothingIsSentAfterTheDeadline(t *testing.T) {
	late := errors.New("too late")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(late)
	ch := nfc.NewChannel(transmitFunc(func(context.Context, []byte) ([]byte, error) {
		t.Error("a command was sent")
		return nil, nil
	}))
	if _, err := ch.Do(ctx, nfc.Command{INS: 0xB0}); !errors.Is(err, late) {
		t.Errorf("error %v", err)
	}
}

func TestEverythingIsCounted(t *testing.T) {
	_, stats, err := run(t, "> 00B0000000\n< 6C02\n> 00B0000002\n< 6102\n> 00C0000002\n< 01029000", nfc.Command{INS: 0xB0, Ne: 256})
	if want := (nfc.Stats{Commands: 3, Bytes: 5 + 2 + 5 + 2 + 5 + 4}); err != nil || stats != want {
		t.Errorf("%+v, %v, want %+v", stats, err, want)
	}
}

type transmitFunc func(context.Context, []byte) ([]byte, error)

func (f transmitFunc) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	return f(ctx, capdu)
}

// FuzzChannel: whatever a card answers, Do ends, never gives more than Ne
// bytes, and sends no more commands than Ne and the repeats allow.
func FuzzChannel(f *testing.F) {
	f.Add([]byte{0x90, 0x00}, uint16(0))
	f.Add([]byte{3, 0x01, 0x61, 0x01, 3, 0x02, 0x90, 0x00}, uint16(2))
	f.Fuzz(func(t *testing.T, script []byte, ne uint16) {
		rest := script
		ch := nfc.NewChannel(transmitFunc(func(context.Context, []byte) ([]byte, error) {
			if len(rest) == 0 {
				rest = script // a card that goes on for ever
			}
			if len(rest) == 0 {
				return nil, nil
			}
			n := min(int(rest[0]), len(rest)-1)
			answer := rest[1 : 1+n]
			rest = rest[1+n:]
			return answer, nil
		}))
		data, err := ch.Do(context.Background(), nfc.Command{INS: 0xB0, Ne: int(ne)})
		if err != nil && data != nil || len(data) > int(ne) {
			t.Fatalf("%d bytes for Ne %d, error %v", len(data), ne, err)
		}
		if n := ch.Stats().Commands; n > int(ne)+4 {
			t.Fatalf("%d commands for Ne %d", n, ne)
		}
	})
}

// FuzzParseResponse: data and status word are the response, in this order.
func FuzzParseResponse(f *testing.F) {
	f.Add([]byte{1, 2, 0x90, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		data, sw, err := nfc.ParseResponse(b)
		if err == nil && !bytes.Equal(append(bytes.Clone(data), byte(sw>>8), byte(sw)), b) {
			t.Fatalf("%X gives %X and %04X", b, data, uint16(sw))
		}
	})
}
