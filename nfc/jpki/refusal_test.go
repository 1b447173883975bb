package jpki_test

import (
	"context"
	"errors"
	"testing"

	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
)

// steps are the commands of each method with registered keys, and the
// error class of a refusal there.
var steps = map[jpki.Method][]struct {
	name string
	want error
}{
	jpki.TapUse: {
		{"select JPKI-AP", jpki.ErrUnsupported},
		{"read", jpki.ErrUnsupported},
		{"select card-surface AP", jpki.ErrUnsupported},
		{"sign", jpki.ErrRefused},
	},
	jpki.ExternalAuth: {
		{"select JPKI-AP", jpki.ErrUnsupported},
		{"read", jpki.ErrUnsupported},
		{"select terminal CA key", jpki.ErrUnsupported},
		{"intermediate body", jpki.ErrUnsupported},
		{"intermediate signature", jpki.ErrUnsupported},
		{"terminal body", jpki.ErrUnsupported},
		{"terminal signature", jpki.ErrUnsupported},
		{"GET CHALLENGE", jpki.ErrUnsupported},
		{"EXTERNAL AUTHENTICATE", jpki.ErrRefused},
		{"sign", jpki.ErrRefused},
	},
}

var classes = []error{jpki.ErrUnsupported, jpki.ErrPINRequired, jpki.ErrRefused, jpki.ErrTerminalKey, nfc.ErrRemoved}

// wantClass checks that err is of one class and of no other.
func wantClass(t *testing.T, err, want error) {
	t.Helper()
	for _, class := range classes {
		if errors.Is(err, class) != (class == want) {
			t.Errorf("error %v: is %v: %v", err, class, errors.Is(err, class))
		}
	}
}

func TestEveryRefusalHasItsReason(t *testing.T) {
	words := []nfc.SW{0x6982, 0x6A82, 0x6D00, 0x6985, 0x6988, 0x6300, 0x6700, 0x6F00, 0x6A80, 0x66F1, 0x69FC, 0x6981, 0x63C0, 0x6A86, 0x6282, 0x9001}
	for _, method := range methods {
		for i, step := range steps[method] {
			t.Run(string(method)+"/"+step.name, func(t *testing.T) {
				for _, sw := range words {
					term := newTerminal(t)
					medium := bend(good(t), func(n int, _ []byte) []byte {
						// 6F00 to the first command is repeated once.
						if n == i+1 || sw == nfc.SWUnknown && n > i {
							return []byte{byte(sw >> 8), byte(sw)}
						}
						return nil
					})
					e, _, err := term.tap(t, medium, registered(method))
					want := step.want
					if step.name == "read" && sw == nfc.SWSecurityStatus {
						want = jpki.ErrPINRequired
					}
					wantClass(t, err, want)
					if status, ok := errors.AsType[*nfc.StatusError](err); !ok || status.SW != sw {
						t.Errorf("SW %04X: error %v does not tell it", uint16(sw), err)
					}
					if e.Signature != nil {
						t.Errorf("SW %04X: evidence has a signature", uint16(sw))
					}
					signed := 0
					if method == jpki.ExternalAuth && i+1 >= 9 {
						signed = 1
					}
					if term.signer.signatures != signed || e.TerminalSignatures != signed {
						t.Errorf("SW %04X: %d terminal signatures, evidence says %d, want %d", uint16(sw), term.signer.signatures, e.TerminalSignatures, signed)
					}
				}
			})
		}
	}
}

// A status word other than 9000 with data is no data.
func TestWarningsAreNoSuccess(t *testing.T) {
	for _, method := range methods {
		for i, step := range steps[method] {
			card := good(t)
			medium := &nfctest.Faulty{Medium: card, Bend: func(ctx context.Context, n int, capdu []byte) ([]byte, error, bool) {
				if n != i+1 {
					return nil, nil, false
				}
				rapdu, err := card.Transmit(ctx, capdu) // it is done, and yet
				return append(rapdu[:len(rapdu)-2:len(rapdu)-2], 0x62, 0x82), err, true
			}}
			e, _, err := newTerminal(t).tap(t, medium, registered(method))
			wantClass(t, err, step.want)
			if e.Signature != nil {
				t.Errorf("%s, %s: evidence has a signature", method, step.name)
			}
		}
	}
}

func TestTransportErrorsComeThrough(t *testing.T) {
	broken := errors.New("broken cable")
	for _, method := range methods {
		for i, step := range steps[method] {
			for _, c := range []struct {
				name  string
				rapdu []byte
				err   error
				want  error // class
			}{
				{"removed", nil, nfc.ErrRemoved, nfc.ErrRemoved},
				{"empty response", []byte{}, nil, nfc.ErrRemoved},
				{"anything else", nil, broken, nil},
				{"no extended length", nil, nfc.ErrExtendedLength, jpki.ErrUnsupported},
				{"half a status word", []byte{0x90}, nil, jpki.ErrUnsupported},
				{"more than was asked for", append(make([]byte, 257), 0x90, 0x00), nil, jpki.ErrUnsupported},
			} {
				term := newTerminal(t)
				medium := &nfctest.Faulty{Medium: good(t), Bend: func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
					return c.rapdu, c.err, n == i+1
				}}
				e, stats, err := term.tap(t, medium, registered(method))
				if err == nil || c.err == broken && !errors.Is(err, broken) {
					t.Errorf("%s, %s, %s: error %v", method, step.name, c.name, err)
				}
				wantClass(t, err, c.want)
				if stats.Commands != i+1 {
					t.Errorf("%s, %s, %s: %d commands, want %d", method, step.name, c.name, stats.Commands, i+1)
				}
				if term.signer.signatures > 1 || e.Signature != nil {
					t.Errorf("%s, %s, %s: %d terminal signatures, evidence %X", method, step.name, c.name, term.signer.signatures, e.Signature)
				}
			}
		}
	}
}

// A challenge of another size is not signed: a shorter one might be a
// constant.
func TestChallengeHasItsSize(t *testing.T) {
	for _, n := range []int{0, 1, 31} {
		term := newTerminal(t)
		medium := bend(good(t), func(_ int, capdu []byte) []byte {
			if capdu[1] == 0x84 {
				return append(make([]byte, n), 0x90, 0x00)
			}
			return nil
		})
		_, _, err := term.tap(t, medium, registered(jpki.ExternalAuth))
		wantClass(t, err, jpki.ErrUnsupported)
		if term.signer.signatures != 0 {
			t.Errorf("%d bytes were signed", n)
		}
	}
}

func TestNothingIsSignedTooLate(t *testing.T) {
	late := errors.New("deadline of the tap")
	ctx, cancel := context.WithCancelCause(t.Context())
	term, card := newTerminal(t), good(t)
	medium := &nfctest.Faulty{Medium: card, Bend: func(_ context.Context, _ int, capdu []byte) ([]byte, error, bool) {
		if capdu[1] != 0x84 {
			return nil, nil, false
		}
		defer cancel(late) // after the challenge has come
		rapdu, err := card.Transmit(t.Context(), capdu)
		return rapdu, err, true
	}}
	_, err := term.dialogue(t, jpki.DefaultProfile()).Run(ctx, "slot", nfc.NewChannel(medium), registered(jpki.ExternalAuth))
	if !errors.Is(err, late) {
		t.Errorf("error %v, want %v", err, late)
	}
	if term.signer.signatures != 0 {
		t.Error("the terminal's key signed")
	}
}
