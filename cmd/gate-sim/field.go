package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/gate-agent/gate-agent/internal/pcscd"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
)

// A field is where the demo presents cards: slots that lanes read from.
type field interface {
	// reader is that of slot i.
	reader(i int) (terminal.Reader, error)
	// present puts a card into slot i; pullAt as in world.Person.
	present(ctx context.Context, i int, card vcard.Device, pullAt int) (remove func() error, err error)
	close() error
}

// inProcess is a field without a PC/SC stack.
type inProcess struct{ slots []*nfctest.Field }

const onlySlot = "virtual slot"

func newInProcess(slots int) *inProcess {
	f := &inProcess{}
	for range slots {
		f.slots = append(f.slots, nfctest.NewField(onlySlot))
	}
	return f
}

func (f *inProcess) reader(i int) (terminal.Reader, error) { return f.slots[i], nil }

func (f *inProcess) present(_ context.Context, i int, card vcard.Device, pullAt int) (func() error, error) {
	var medium nfctest.Medium = card
	if pullAt > 0 {
		medium = nfctest.Pulled(card, pullAt)
	}
	f.slots[i].Insert(onlySlot, medium)
	return func() error { f.slots[i].Remove(onlySlot); return nil }, nil
}

func (f *inProcess) close() error { return nil }

// throughPCSC is a field behind a private pcscd with vpcd.
type throughPCSC struct {
	daemon *pcscd.Daemon
	lanes  []*pcsc.Lane
}

func newThroughPCSC(ctx context.Context, slots int) (*throughPCSC, error) {
	d, err := pcscd.Start(ctx, pcscd.Options{Slots: slots})
	if err != nil {
		return nil, err
	}
	// The client library reads it once, at its first call.
	if err := d.Setenv(); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return &throughPCSC{daemon: d}, nil
}

func (f *throughPCSC) reader(i int) (terminal.Reader, error) {
	// Present: the first card may come before the lane has looked.
	lane, err := pcsc.Open(pcsc.Options{Readers: []string{f.daemon.SlotName(i)}, Present: true})
	if err != nil {
		return nil, err
	}
	f.lanes = append(f.lanes, lane)
	return lane, nil
}

// present connects the card to its slot of vpcd, and serves it until remove.
func (f *throughPCSC) present(ctx context.Context, i int, card vcard.Device, pullAt int) (func() error, error) {
	conn, err := pcscd.Dial(ctx, f.daemon.SlotAddr(i))
	if err != nil {
		return nil, err
	}
	if pullAt > 0 {
		conn = pcscd.Pulled(conn, card.ATR(), pullAt)
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- vcard.Serve(serving, conn, card) }()
	return func() error {
		stop()
		err := <-served
		if errors.Is(err, context.Canceled) || errors.Is(err, pcscd.ErrPulled) {
			err = nil
		}
		if closeErr := conn.Close(); !errors.Is(closeErr, net.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
		return errors.Join(err, f.empty(ctx, i))
	}, nil
}

// look is how often pcscd looks for a card with vpcd, and a little more.
const look = 500 * time.Millisecond

// empty waits until pcscd has seen that slot i is empty: a card that comes
// back before its next look at the reader would be the one that never left.
func (f *throughPCSC) empty(ctx context.Context, i int) error {
	for {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		status, err := f.lanes[i].Status(ctx)
		if err != nil {
			return err
		}
		if len(status.Slots) == 1 && !status.Slots[0].Card {
			return nil
		}
	}
}

func (f *throughPCSC) close() error {
	var err error
	for _, l := range f.lanes {
		err = errors.Join(err, l.Close())
	}
	return errors.Join(err, f.daemon.Stop())
}
