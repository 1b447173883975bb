package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A wire is what a gate's connection to the hub goes through. It carries bytes of
// TLS, so whatever is lost ends the connection.
type wire struct {
	listener net.Listener
	ended    sync.WaitGroup

	mu     sync.Mutex
	to     string
	conns  map[net.Conn]struct{}
	state  wireState
	next   trouble
	random *rand.Rand // of delays; nil: there are none
}

type wireState uint8

const (
	wireWhole  wireState = iota
	wireCut              // connections end, and none comes about
	wireSilent           // connections stay, and nothing comes through
)

// A trouble befalls a wire once.
type trouble uint8

const (
	noTrouble  trouble = iota
	cutsOff            // the connection ends, now
	losesClaim         // with the next that the gate says
	losesReply         // with the next that the hub says
	late               // that comes later than a gate waits
	troubles
)

// lateBy is longer than a tap waits for its claims.
const lateBy = 200 * time.Millisecond

func newWire(random *rand.Rand) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, conns: make(map[net.Conn]struct{}), random: random}
	w.ended.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			w.ended.Go(func() { w.carry(near) })
		}
	})
	return w, nil
}

func (w *wire) address() string { return w.listener.Addr().String() }

// leadTo says where new connections go.
func (w *wire) leadTo(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = address
}

// set changes the state. Connections that lost something end.
func (w *wire) set(s wireState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s != wireSilent && (s == wireCut || w.state == wireSilent) {
		w.drop()
	}
	w.state = s
}

// strike makes a trouble happen.
func (w *wire) strike(t trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t == cutsOff {
		w.drop()
		t = noTrouble
	}
	w.next = t
}

// drop ends all connections. The caller holds mu.
func (w *wire) drop() {
	for c := range w.conns {
		_ = c.Close() // whoever reads from it says so
	}
	clear(w.conns)
}

// add notes connections, unless none may come about.
func (w *wire) add(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == wireCut {
		return false
	}
	for _, c := range conns {
		w.conns[c] = struct{}{}
	}
	return true
}

// carry serves a connection of the gate's.
func (w *wire) carry(near net.Conn) {
	defer near.Close()
	w.mu.Lock()
	to := w.to
	w.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return // the hub is away
	}
	defer far.Close()
	if !w.add(near, far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(far, near, losesClaim) })
	both.Go(func() { w.copy(near, far, losesReply) })
	both.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, near)
	delete(w.conns, far)
}

// copy carries one way until an end closes; loss is the trouble of this way.
func (w *wire) copy(to, from net.Conn, loss trouble) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		delay, silent, lost := w.meets(loss)
		if lost {
			return
		}
		time.Sleep(delay)
		if silent {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// meets is what happens to the next bytes of one way.
func (w *wire) meets(loss trouble) (delay time.Duration, silent, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.random != nil {
		switch w.random.IntN(50) {
		case 0:
			delay = time.Duration(w.random.IntN(int(30 * time.Millisecond)))
		case 1, 2, 3, 4, 5:
			delay = time.Duration(w.random.IntN(int(4 * time.Millisecond)))
		}
	}
	switch w.next {
	case loss:
		w.next = noTrouble
		return 0, false, true
	case late:
		if loss == losesReply {
			w.next, delay = noTrouble, lateBy
		}
	}
	return delay, w.state == wireSilent, false
}

func (w *wire) close() error {
	err := w.listener.Close()
	w.set(wireCut)
	w.ended.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}
