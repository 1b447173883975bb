package claimer_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/sync/claims/claimer"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

const (
	scope  = "demo-hall"
	bucket = "claims_demo-hall"
)

// A hub is a real nats-server in this process, which can be stopped and started again on
// its port and its folder.
type hub struct {
	t      testing.TB
	dir    string
	port   int
	server *server.Server
	users  []*server.User // none: everybody may do everything
	admin  jetstream.JetStream
}

func newHub(t testing.TB) *hub {
	t.Helper()
	return newHubFor(t)
}

func newHubFor(t testing.TB, users ...*server.User) *hub {
	t.Helper()
	h := &hub{t: t, dir: t.TempDir(), port: server.RANDOM_PORT, users: users}
	h.start()
	t.Cleanup(h.stop)
	nc := h.connect(h.address())
	h.admin = must(jetstream.New(nc))(t)
	h.makeBucket()
	return h
}

func (h *hub) makeBucket() {
	h.t.Helper()
	check(h.t, claims.MakeBucket(h.t.Context(), h.admin, bucket, 1))
}

func (h *hub) start() {
	h.t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: h.port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: h.dir, SyncAlways: true, Users: h.users,
	})
	check(h.t, err)
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		h.t.Fatal("the server does not get ready")
	}
	h.server, h.port = s, s.Addr().(*net.TCPAddr).Port
}

func (h *hub) stop() {
	h.server.Shutdown()
	h.server.WaitForShutdown()
}

func (h *hub) address() string { return h.server.Addr().String() }

func (h *hub) connect(address string, options ...nats.Option) *nats.Conn {
	h.t.Helper()
	if len(h.users) > 0 && len(options) == 0 {
		options = append(options, nats.UserInfo("hub", "hub"))
	}
	nc, err := nats.Connect("nats://"+address, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1), nats.RetryOnFailedConnect(true))...)
	check(h.t, err)
	h.t.Cleanup(nc.Close)
	return nc
}

// log reads an entitlement's log from the server.
func (h *hub) log(entitlement string) []claims.Numbered {
	h.t.Helper()
	b := must(claims.Open(h.t.Context(), h.admin, bucket))(h.t)
	return must(b.Log(h.t.Context(), scope, entitlement))(h.t)
}

// A wire is between a gate and the hub. It can be cut, or lose what is sent while both
// ends believe in it.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	cut   bool
	deaf  bool // what the gate sends is lost
	mute  bool // what the hub answers is lost
}

func newWire(t testing.TB, to string) *wire {
	l := &wire{to: to, conns: make(map[net.Conn]struct{})}
	l.listener = must(net.Listen("tcp", "127.0.0.1:0"))(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.carry(near) })
		}
	})
	t.Cleanup(func() {
		l.listener.Close()
		l.setCut(true)
		wg.Wait()
	})
	return l
}

// setTo leads new connections elsewhere.
func (l *wire) setTo(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}

func (l *wire) carry(near net.Conn) {
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil {
		near.Close()
		return
	}
	for _, c := range []net.Conn{near, far} {
		l.mu.Lock()
		l.conns[c] = struct{}{}
		if l.cut {
			c.Close()
		}
		l.mu.Unlock()
	}
	var wg sync.WaitGroup
	for i, way := range [][2]net.Conn{{near, far}, {far, near}} {
		wg.Go(func() {
			buffer := make([]byte, 1<<16)
			for {
				n, err := way[0].Read(buffer)
				if !l.loses(i == 1) && err == nil {
					_, err = way[1].Write(buffer[:n])
				}
				if err != nil {
					way[0].Close()
					way[1].Close()
					return
				}
			}
		})
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, near)
	delete(l.conns, far)
}

func (l *wire) loses(answers bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return answers && l.mute || !answers && l.deaf
}

// lose loses what is sent, or what is answered, until the link is healed.
func (l *wire) lose(sent, answers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf, l.mute = sent, answers
}

func (l *wire) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for c := range l.conns {
		if cut {
			c.Close()
		}
	}
}

// heal makes the link work again, by new connections.
func (l *wire) heal() {
	l.lose(false, false)
	l.setCut(true)
	l.setCut(false)
}

// A post is a terminal without its lane: a journal and its claimer.
type post struct {
	t       testing.TB
	name    string
	journal *journal.Journal
	*claimer.Claimer
	conn *nats.Conn
	stop func()
}

// open opens a terminal in a folder, over an address.
func (h *hub) open(name, dir, address string, j *journal.Journal, options ...nats.Option) *post {
	h.t.Helper()
	p := &post{t: h.t, name: name, journal: j, conn: h.connect(address, options...)}
	p.start(dir)
	h.t.Cleanup(func() { p.stop() })
	return p
}

func (p *post) start(dir string) {
	p.t.Helper()
	var err error
	p.Claimer, err = claimer.Open(claimer.Config{
		Path: filepath.Join(dir, "claims.db"), Scope: scope, Terminal: p.name, Bucket: bucket,
		JetStream: must(jetstream.New(p.conn))(p.t), Connected: p.conn.IsConnected, Journal: p.journal.Reader,
		Report: func(err error) { p.t.Log(p.name, err) },
	})
	check(p.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(ctx)
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		check(p.t, p.Close())
	})
}

// wipe deletes the copy.
func (p *post) wipe(dir string) {
	p.t.Helper()
	for _, name := range must(filepath.Glob(filepath.Join(dir, "claims.db*")))(p.t) {
		check(p.t, os.Remove(name))
	}
}

// eventually waits for what comes by itself.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

// connected waits until a terminal can ask, or cannot.
func (p *post) connected(is bool) {
	p.t.Helper()
	eventually(p.t, "connected", func() bool {
		l, err := p.Log(p.t.Context(), "nobody's")
		check(p.t, err)
		return l.Apart != is
	})
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// must is for what returns a value and an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}
