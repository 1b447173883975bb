package nfctest

import (
	"context"

	"github.com/gate-agent/gate-agent/nfc"
)

// Faulty is a medium whose answers a test bends. Bend is called for every
// command with its number in the session, from 1, and may answer in the
// medium's place; when it returns handled false, the medium answers.
type Faulty struct {
	Medium
	Bend func(ctx context.Context, n int, capdu []byte) (rapdu []byte, err error, handled bool)

	n int
}

// PowerOn begins a session.
func (f *Faulty) PowerOn() {
	f.n = 0
	f.Medium.PowerOn()
}

// Transmit implements nfc.Transmitter.
func (f *Faulty) Transmit(ctx context.Context, capdu []byte) ([]byte, error) {
	f.n++
	if rapdu, err, handled := f.Bend(ctx, f.n, capdu); handled {
		return rapdu, err
	}
	return f.Medium.Transmit(ctx, capdu)
}

// Pulled is a medium that leaves the field before it answers command at, from 1.
func Pulled(m Medium, at int) Medium {
	return &Faulty{Medium: m, Bend: func(_ context.Context, n int, _ []byte) ([]byte, error, bool) {
		return nil, nfc.ErrRemoved, n >= at
	}}
}
