package bus

import (
	"crypto/tls"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/sync/link"
)

// natsServer builds the server's program from the module that go.mod pins, as somebody
// who runs it by itself has it.
var natsServer = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "nats-server-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(folder, "nats-server")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return "", errors.New("building nats-server: " + string(out))
	}
	return program, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		if program, err := natsServer(); err == nil {
			os.RemoveAll(filepath.Dir(program))
		}
	}
	os.Exit(code)
}

// built is whether a test has built the program.
var built bool

// A process is a nats-server of its own.
type process struct {
	s      *site
	config string
	cmd    *exec.Cmd
}

// files issues a node's certificate, and gives it its files.
func (s *site) files(n *Node, a authority.Authority, name string) string {
	s.Helper()
	folder := s.TempDir()
	certificate, key, err := a.Node(name, []string{"127.0.0.1"}, time.Now())
	s.must(err)
	n.Certificate, n.Key, n.Authority, n.Store = filepath.Join(folder, "server.pem"), filepath.Join(folder, "server.key"), filepath.Join(folder, "ca.pem"), filepath.Join(folder, "store")
	ca, err := os.ReadFile(filepath.Join(s.folder, "tls", authority.RootFile))
	s.must(err)
	for path, b := range map[string][]byte{n.Certificate: certificate, n.Key: key, n.Authority: ca} {
		s.must(os.WriteFile(path, b, 0o600))
	}
	return folder
}

// run starts a node.
func (s *site) run(n Node, folder string) *process {
	s.Helper()
	p := &process{s: s, config: filepath.Join(folder, "nats.conf")}
	p.write(n)
	p.start()
	s.Cleanup(p.stop)
	return p
}

func (p *process) write(n Node) {
	p.s.Helper()
	text, err := n.Text()
	p.s.must(err)
	p.s.must(os.WriteFile(p.config, text, 0o600))
}

func (p *process) start() {
	p.s.Helper()
	built = true
	program, err := natsServer()
	p.s.must(err)
	p.cmd = exec.Command(program, "-c", p.config)
	p.cmd.Stderr = &told{s: p.s}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.s.must(p.cmd.Start())
}

// told logs what a process says and is not plain.
type told struct {
	s  *site
	mu sync.Mutex
}

func (w *told) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(string(b)) {
		if w.s.Context().Err() == nil && (strings.Contains(line, "[ERR]") || strings.Contains(line, "[FTL]") || strings.Contains(line, "nats-server:")) {
			w.s.Log(strings.TrimSpace(line))
		}
	}
	return len(b), nil
}

// stop kills the process, as a power cut does.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

func (p *process) reload() {
	p.s.Helper()
	p.s.must(p.cmd.Process.Signal(syscall.SIGHUP))
}

// client is the hub as a client of a server at an address.
func (s *site) client(address string, domains map[string]string) *Bus {
	s.Helper()
	certificate, key, err := s.authority.Node(HubName, nil, time.Now())
	s.must(err)
	pair, err := tls.X509KeyPair(certificate, key)
	s.must(err)
	cfg := s.config()
	cfg.URL, cfg.Domains, cfg.Certificate = "tls://"+address, domains, func() (*tls.Certificate, error) { return &pair, nil }
	b := s.open(cfg)
	s.await("the hub is connected", b.Connected)
	return b
}

func (s *site) inForce() []Terminal {
	s.Helper()
	all, err := Of(s.registry).InForce(s.Context())
	s.must(err)
	return all
}

// The same as with the embedded server, at one that somebody else runs.
func TestTerminalAndHubSpeakThroughAServerOfItsOwn(t *testing.T) {
	s := newSite(t)
	g, victim := s.terminal(hall, "gate-1"), s.terminal(hall, "gate-2")
	n := Node{Listen: freeAddress(t), Terminals: s.inForce()}
	p := s.run(n, s.files(&n, s.authority, "server"))
	_ = p
	b := s.client(n.Listen, nil)
	s.answering(b)
	l := s.link(g, n.Listen)
	l.until(t, "connected", connected)
	if got := s.ask(l, g, "batch"); got != "hall/gate-1: batch" {
		t.Errorf("answer %q", got)
	}
	s.await("a heartbeat came", func() bool { return len(b.Beats()) == 1 })
	s.must(b.Poke(hall))
	<-l.pokes

	// Nobody speaks for another here either.
	refused := make(chan error, 8)
	raw, err := s.raw(g, n.Listen, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	s.must(err)
	for _, subject := range []string{victim.subjects().Events, "$JS.API.STREAM.DELETE.KV_claims_hall", "$SYS.REQ.SERVER.PING"} {
		s.must(raw.Publish(subject, nil))
		if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	_, err = raw.SubscribeSync(">")
	s.must(err)
	if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Error(err)
	}
	if _, err := s.raw(s.newGate(hall, "gate-9"), n.Listen); err == nil {
		t.Error("a stranger is let in")
	}

	// Retired, and the configuration made again: cut off.
	s.must(s.registry.RetireTerminal(t.Context(), by, hall, "gate-1"))
	n.Terminals = s.inForce()
	p.write(n)
	p.reload()
	l.until(t, "cut off", func(s link.State) bool { return !s.Connected })
}

func (s *site) claim(l *linked, key string) error {
	js, err := l.JetStream()
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(s.Context(), link.SubjectsOf(hall, "", nil).Bucket)
	if err != nil {
		return err
	}
	_, err = kv.Create(s.Context(), key, []byte("claim"))
	return err
}

// Gates of a venue claim at its leaf node; events pass through it.
func testVenue(t *testing.T, s *site, g *gate, b *Bus, leaf Node, hubAway, hubBack func() *Bus) {
	s.answering(b)
	l := s.link(g, leaf.Listen)
	l.until(t, "connected", connected)
	if got := s.ask(l, g, "batch"); got != "hall/gate-1: batch" {
		t.Errorf("answer %q", got)
	}
	s.await("a poke comes through", func() bool {
		s.must(b.Poke(hall))
		select {
		case <-l.pokes:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	js, err := b.JetStream(hall)
	s.must(err)
	s.bucket(js, hall)
	own, err := jetstream.New(b.nats)
	s.must(err)
	if _, err := own.Stream(t.Context(), "KV_claims_hall"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the claims are at the hub: %v", err)
	}
	s.must(s.claim(l, "token.1"))

	b = hubAway()
	if err := s.claim(l, "token.2"); err != nil {
		t.Errorf("while the line is down: %v", err)
	}
	if err := s.claim(l, "token.1"); !errors.Is(err, jetstream.ErrKeyExists) {
		t.Errorf("claimed twice: %v", err)
	}
	b = hubBack()
	s.await("the hub sees what was claimed meanwhile", func() bool {
		js, err := b.JetStream(hall)
		if err != nil {
			return false
		}
		stream, err := js.Stream(t.Context(), "KV_claims_hall")
		if err != nil {
			return false
		}
		m, err := stream.GetLastMsgForSubject(t.Context(), "$KV.claims_hall.token.2")
		return err == nil && string(m.Data) == "claim"
	})
}

func TestVenueClaimsAtItsLeafNodeWhileTheHubIsAway(t *testing.T) {
	venues := map[string]string{hall: "arena"}
	t.Run("of the hub's own server", func(t *testing.T) {
		s := newSite(t)
		g := s.terminal(hall, "gate-1")
		cfg := s.config()
		cfg.Listen, cfg.Leaves, cfg.Domains = freeAddress(t), freeAddress(t), venues
		b := s.open(cfg)
		leaf := Node{Listen: freeAddress(t), Terminals: s.inForce(), Scope: hall, Domain: "arena", Remote: "tls://" + cfg.Leaves}
		s.run(leaf, s.files(&leaf, s.authority, LeafName(hall)))
		testVenue(t, s, g, b, leaf, func() *Bus { s.must(b.Close()); return nil }, func() *Bus {
			b = s.open(cfg)
			return b
		})
		s.must(b.Sweep(t.Context()))
		if n := b.server.NumLeafNodes(); n != 1 {
			t.Errorf("%d leaf nodes after a sweep", n)
		}
	})
	t.Run("of a server of its own", func(t *testing.T) {
		s := newSite(t)
		g := s.terminal(hall, "gate-1")
		main := Node{Listen: freeAddress(t), Leaves: freeAddress(t), Venues: venues, Terminals: s.inForce()}
		p := s.run(main, s.files(&main, s.authority, "server"))
		leaf := Node{Listen: freeAddress(t), Terminals: s.inForce(), Scope: hall, Domain: "arena", Remote: "tls://" + main.Leaves}
		s.run(leaf, s.files(&leaf, s.authority, LeafName(hall)))
		b := s.client(main.Listen, venues)
		testVenue(t, s, g, b, leaf, func() *Bus { p.stop(); return b }, func() *Bus { p.start(); return b })
	})
}

// A leaf node is one venue's, and a terminal is none.
func TestLeafNodeOfAStrangerIsNotLetIn(t *testing.T) {
	s := newSite(t)
	s.addScope("other")
	g := s.terminal(hall, "gate-1")
	cfg := s.config()
	cfg.Leaves, cfg.Domains = freeAddress(t), map[string]string{hall: "arena"}
	b := s.open(cfg)
	for _, name := range []string{LeafName("other"), link.ID(g.spki), HubName, "server"} {
		leaf := Node{Listen: freeAddress(t), Scope: hall, Domain: "arena", Remote: "tls://" + cfg.Leaves}
		s.run(leaf, s.files(&leaf, s.authority, name))
	}
	// One that may, started last, is let in; until then none was.
	leaf := Node{Listen: freeAddress(t), Scope: hall, Domain: "arena", Remote: "tls://" + cfg.Leaves}
	s.run(leaf, s.files(&leaf, s.authority, LeafName(hall)))
	s.await("the leaf node is connected", func() bool { return b.server.NumLeafNodes() > 0 })
	b.admit.mu.Lock()
	defer b.admit.mu.Unlock()
	if len(b.admit.admitted) != 1 {
		t.Errorf("let in: %v", b.admit.admitted)
	}
}

func TestServerTooOldForClaimsIsRefused(t *testing.T) {
	for version, ok := range map[string]bool{"2.9.10": false, "2.10.29": false, "2.11.0": true, "2.15.2": true, "v2.12.1-beta": true, "3.0.0": true, "1.4.1": false, "": false, "x": false} {
		if err := durable(version); (err == nil) != ok || err != nil && !errors.Is(err, ErrTooOld) {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func TestConfigurationHoldsNoMoreThanItSays(t *testing.T) {
	for name, n := range map[string]Node{
		"a path with a line break": {Listen: ":4222", Store: "a\nauthorization {}"},
		"no port":                  {Listen: "host"},
		"the hub's domain":         {Listen: ":4222", Scope: hall, Domain: HubDomain},
		"no domain":                {Listen: ":4222", Scope: hall, Domain: "a.b"},
		"leaf nodes of a leaf":     {Listen: ":4222", Scope: hall, Domain: "arena", Leaves: ":7422"},
	} {
		if _, err := n.Text(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	text, err := Node{Listen: ":4222", Store: `a"b\c`, Terminals: []Terminal{{Scope: "a > b", Name: "x\n}", Identity: []byte("k")}}}.Text()
	if err != nil || !strings.Contains(string(text), `"a\"b\\c"`) || strings.Contains(string(text), "a > b") || strings.Contains(string(text), "x\n}") {
		t.Errorf("%s, %v", text, err)
	}
}
