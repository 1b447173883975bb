package vcard_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// conversation is a vpcd that has said everything it will ever say.
type conversation struct {
	io.Reader
	bytes.Buffer // what the card said
}

func (c *conversation) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func frame(payloads ...[]byte) []byte {
	var b []byte
	for _, p := range payloads {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

func TestServeSpeaksVPCD(t *testing.T) {
	img := image(t, "good.json")
	card := newCard(t, img, vcard.Options{})
	verify := []byte("\x00\x20\x00\x98\x041234")
	sign := append([]byte{0x80, 0x2A, 0x00, 0x97, 0x01}, 0x00, 0x00)
	off, on, reset, atr := []byte{0}, []byte{1}, []byte{2}, []byte{4}
	rw := &conversation{Reader: bytes.NewReader(frame(
		off, on, atr, selectDF(vcard.AIDJPKI()), verify,
		reset, atr, selectDF(vcard.AIDJPKI()), sign,
		off, on, selectDF(vcard.AIDJPKI()), sign,
		off, sign,
	))}
	if err := card.Serve(t.Context(), rw); err != nil {
		t.Fatal(err)
	}
	ok := []byte{0x90, 0x00}
	want := [][]byte{
		img.ATR, ok, ok,
		img.ATR, ok, nil, // the PIN stays verified after a warm reset: a signature
		ok, {0x69, 0x82}, // and not after power-down
		{0x6F, 0x00}, // no power, but vpcd wants an answer
	}
	for i, w := range want {
		var length [2]byte
		if _, err := io.ReadFull(&rw.Buffer, length[:]); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
		got := rw.Buffer.Next(int(binary.BigEndian.Uint16(length[:])))
		if w == nil {
			if len(got) != 258 {
				t.Errorf("reply %d: %d bytes, want a signature", i, len(got))
			}
		} else if !bytes.Equal(got, w) {
			t.Errorf("reply %d: %X, want %X", i, got, w)
		}
	}
	if rw.Buffer.Len() != 0 {
		t.Errorf("%d bytes too many", rw.Buffer.Len())
	}
}

// mute is a device that is no Card: every command gets one byte too few.
type mute struct{ on, off, resets int }

func (m *mute) PowerOn()    { m.on++ }
func (m *mute) PowerOff()   { m.off++ }
func (m *mute) Reset()      { m.resets++ }
func (m *mute) ATR() []byte { return []byte{0x3B, 0x00} }

func (m *mute) Transmit(_ context.Context, capdu []byte) ([]byte, error) {
	if capdu[0] == 0xFF {
		return nil, errors.New("broken")
	}
	return []byte{0x90}, nil
}

func TestServeTakesAnyDevice(t *testing.T) {
	m := &mute{}
	rw := &conversation{Reader: bytes.NewReader(frame([]byte{1}, []byte{4}, []byte{2}, []byte{0x00, 0xA4}, []byte{0}))}
	if err := vcard.Serve(t.Context(), rw, m); err != nil {
		t.Fatal(err)
	}
	if *m != (mute{1, 1, 1}) {
		t.Errorf("power and reset: %+v", *m)
	}
	if want := frame([]byte{0x3B, 0x00}, []byte{0x90}); !bytes.Equal(rw.Buffer.Bytes(), want) {
		t.Errorf("said %X, want %X", rw.Buffer.Bytes(), want)
	}
	if err := vcard.Serve(t.Context(), &conversation{Reader: bytes.NewReader(frame([]byte{0xFF, 0xCA}))}, m); err == nil {
		t.Errorf("a device that fails: %v", err)
	}
}

func TestServeReportsABrokenMessage(t *testing.T) {
	for name, stream := range map[string][]byte{
		"half a length":  {0x00},
		"no payload":     {0x00, 0x05},
		"half a payload": {0x00, 0x05, 0x00, 0xA4},
	} {
		card := newCard(t, image(t, "good.json"), vcard.Options{})
		err := card.Serve(t.Context(), &conversation{Reader: bytes.NewReader(stream)})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	card := newCard(t, image(t, "good.json"), vcard.Options{})
	go func() { done <- card.Serve(ctx, r) }() // it has nothing to write
	cancel()                                   // while it waits for vpcd to speak, or before
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// FuzzServe: whatever vpcd sends, every complete message but power and reset gets
// a reply of at least two bytes, and nothing else is said.
func FuzzServe(f *testing.F) {
	img := image(f, "good.json")
	f.Add(frame([]byte{1}, []byte{4}, selectDF(vcard.AIDJPKI()), []byte{0x00, 0xB0, 0x8A, 0x00, 0x00}, []byte{0}))
	f.Add(frame([]byte{}, []byte{3}, []byte{0}, selectDF(vcard.AIDSurface())))
	f.Add([]byte{0xFF, 0xFF, 0x00})
	f.Fuzz(func(t *testing.T, stream []byte) {
		rw := &conversation{Reader: bytes.NewReader(stream)}
		_ = newCard(t, img, vcard.Options{}).Serve(t.Context(), rw) // an error says the stream was cut
		for len(stream) >= 2 {
			n := int(binary.BigEndian.Uint16(stream))
			if len(stream) < 2+n {
				break
			}
			message := stream[2 : 2+n]
			stream = stream[2+n:]
			if n == 1 && message[0] <= 2 {
				continue
			}
			length := rw.Buffer.Next(2)
			if len(length) < 2 || binary.BigEndian.Uint16(length) < 2 {
				t.Fatalf("%X: no reply", message)
			}
			if n := int(binary.BigEndian.Uint16(length)); len(rw.Buffer.Next(n)) != n {
				t.Fatalf("%X: reply is cut", message)
			}
		}
		if rw.Buffer.Len() != 0 {
			t.Fatalf("%d bytes that nobody asked for", rw.Buffer.Len())
		}
	})
}
