package bus

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/sync/link"
)

func TestStrangersAreNotLetIn(t *testing.T) {
	s := newSite(t)
	b := s.open(s.config())
	foreign, err := authority.Need(filepath.Join(t.TempDir(), "tls"), "another hub", time.Now())
	s.must(err)
	known := s.terminal(hall, "gate-1")
	retired := s.terminal(hall, "gate-2")
	s.must(s.registry.RetireTerminal(t.Context(), by, hall, "gate-2"))

	for name, g := range map[string]func() *gate{
		"whom the registry does not know": func() *gate { return s.newGate(hall, "gate-9") },
		"who is retired":                  func() *gate { return retired },
		"of another authority": func() *gate {
			g := s.terminal(hall, "foreign")
			s.certify(g, foreign, link.ID(g.spki), time.Now())
			return g
		},
		"whose certificate has ended": func() *gate {
			g := s.terminal(hall, "ended")
			s.certify(g, s.authority, link.ID(g.spki), time.Now().Add(-authority.TerminalLasts-time.Hour))
			return g
		},
		"whose certificate begins tomorrow": func() *gate {
			g := s.terminal(hall, "early")
			s.certify(g, s.authority, link.ID(g.spki), time.Now().Add(25*time.Hour))
			return g
		},
		"with the certificate of another and a key of their own": func() *gate {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			s.must(err)
			return &gate{scope: hall, name: "gate-1", key: key, spki: known.spki, leaf: known.leaf}
		},
		"with another's name": func() *gate {
			g := s.newGate(hall, "gate-8")
			s.certify(g, s.authority, link.ID(known.spki), time.Now())
			return g
		},
		"with the hub's name": func() *gate {
			g := s.terminal(hall, "gate-7")
			s.certify(g, s.authority, HubName, time.Now())
			return g
		},
		"with the name of a leaf node": func() *gate {
			g := s.terminal(hall, "gate-6")
			s.certify(g, s.authority, LeafName(hall), time.Now())
			return g
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := g()
			for _, more := range [][]nats.Option{nil, {nats.UserInfo(HubName, "guess")}} {
				if n, err := s.raw(g, b.Address(), more...); err == nil {
					n.Close()
					t.Fatal("let in")
				}
			}
		})
	}
	t.Run("without a certificate", func(t *testing.T) {
		if n, err := nats.Connect("tls://"+b.Address(), nats.Secure(&tls.Config{RootCAs: s.authority.Pool()})); err == nil {
			n.Close()
			t.Fatal("let in")
		}
	})
	if _, err := s.raw(known, b.Address()); err != nil {
		t.Errorf("the terminal itself: %v", err)
	}
}

func TestWhoIsNotInForceAnyMoreIsCutOff(t *testing.T) {
	s := newSite(t)
	b := s.open(s.config())
	stays, leaves, swapped := s.terminal(hall, "stays"), s.terminal(hall, "leaves"), s.terminal(hall, "swapped")
	var links []*linked
	for _, g := range []*gate{stays, leaves, swapped} {
		l := s.link(g, b.Address())
		l.until(t, "connected", connected)
		links = append(links, l)
	}
	s.await("heartbeats came", func() bool { return len(b.Beats()) == 3 })
	s.must(b.Sweep(t.Context()))

	s.must(s.registry.RetireTerminal(t.Context(), by, hall, "leaves"))
	spare := s.newGate(hall, "swapped")
	s.must(s.registry.SetTerminalKeys(t.Context(), by, hall, "swapped", spare.spki, nil))
	s.must(b.Sweep(t.Context()))
	for _, l := range links[1:] {
		l.until(t, "cut off", func(s link.State) bool { return !s.Connected })
		l.until(t, "told why", func(s link.State) bool { return strings.Contains(strings.ToLower(s.Problem), "authorization") })
	}
	if len(b.Beats()) != 1 || !links[0].Connected() {
		t.Errorf("%d heartbeats; the other one is connected: %v", len(b.Beats()), links[0].Connected())
	}
	s.link(spare, b.Address()).until(t, "connected", connected)

	// A connection does not outlast the certificate that it was made with.
	s.must(b.cutOff(time.Now().Add(authority.TerminalLasts)))
	links[0].until(t, "cut off", func(s link.State) bool { return !s.Connected })
}

// bucket makes the stream of claims as the hub makes it.
func (s *site) bucket(js jetstream.JetStream, scope string) jetstream.Stream {
	s.Helper()
	name := link.SubjectsOf(scope, "", nil).Bucket
	stream, err := js.CreateStream(s.Context(), jetstream.StreamConfig{
		Name: "KV_" + name, Subjects: []string{"$KV." + name + ".>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, Storage: jetstream.FileStorage,
	})
	s.must(err)
	return stream
}

func TestTerminalSpeaksAndHearsForNobodyElse(t *testing.T) {
	s := newSite(t)
	s.addScope("other")
	b := s.open(s.config())
	js, err := b.JetStream(hall)
	s.must(err)
	s.bucket(js, hall)
	s.bucket(js, "other")
	g, victim := s.terminal(hall, "gate-1"), s.terminal(hall, "gate-2")
	mine, theirs := g.subjects(), victim.subjects()

	all, err := b.nats.SubscribeSync(">")
	s.must(err)
	s.must(b.nats.Flush())
	refused := make(chan error, 64)
	n, err := s.raw(g, b.Address(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	s.must(err)

	for _, subject := range []string{
		theirs.Events, theirs.Health, theirs.Live, theirs.Inbox + ".x", "gate." + hall + ".gate-1.other", "gate.other.gate-1.events",
		mine.Poke, link.PokeOf("other"), hubInbox + ".x", "_INBOX.x", "anything",
		"$KV.claims_other.token.1", "$KV.claims_hall.token", "$KV.claims_hall.token.1.2",
		"$JS.API.INFO", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.KV_claims_other",
		"$JS.API.STREAM.UPDATE.KV_claims_hall", "$JS.API.STREAM.DELETE.KV_claims_hall", "$JS.API.STREAM.PURGE.KV_claims_hall",
		"$JS.API.STREAM.MSG.DELETE.KV_claims_hall", "$JS.API.STREAM.MSG.GET.KV_claims_other", "$JS.API.STREAM.SNAPSHOT.KV_claims_hall", "$JS.API.STREAM.RESTORE.X",
		"$JS.API.CONSUMER.CREATE.KV_claims_other.x", "$JS.API.CONSUMER.DURABLE.CREATE.KV_claims_other.x",
		"$JS.API.DIRECT.GET.KV_claims_other.$KV.claims_other.token.1",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ",
	} {
		s.must(n.PublishRequest(subject, mine.Inbox+".x", []byte("{}")))
		s.must(n.Flush())
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("publishing to %s: %v", subject, err)
			}
		case <-time.After(patience):
			t.Fatalf("may publish to %s", subject)
		}
	}
	for _, subject := range []string{
		">", "*", "gate.>", theirs.Events, mine.Events, "hub.>", link.PokeOf("other"), "_INBOX.>", "_INBOX." + hall + ".>", theirs.Inbox + ".>", hubInbox + ".>",
		"$KV.>", "$KV.claims_hall.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>",
	} {
		sub, err := n.SubscribeSync(subject)
		s.must(err)
		s.must(n.Flush())
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("subscribing to %s: %v", subject, err)
			}
		case <-time.After(patience):
			t.Fatalf("may subscribe to %s", subject)
		}
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrBadSubscription) {
			t.Error(err)
		}
	}
	if m, err := all.NextMsg(time.Second); err == nil {
		t.Errorf("came through: %s %q", m.Subject, m.Data)
	}
}

// What is in the log of claims stays as it was written, whatever a terminal sends.
func TestClaimIsNeitherChangedNorDeleted(t *testing.T) {
	s := newSite(t)
	b := s.open(s.config())
	js, err := b.JetStream(hall)
	s.must(err)
	stream := s.bucket(js, hall)
	n, err := s.raw(s.terminal(hall, "gate-1"), b.Address())
	s.must(err)
	const key = "$KV.claims_hall.token.1"
	terminal, err := jetstream.New(n)
	s.must(err)
	_, err = terminal.Publish(t.Context(), key, []byte("first"))
	s.must(err)
	for name, header := range map[string]nats.Header{
		"written again": {}, "deleted": {"Kv-Operation": {"DEL"}}, "purged": {"Kv-Operation": {"PURGE"}},
		"rolled up": {"Nats-Rollup": {"sub"}}, "rolled up whole": {"Nats-Rollup": {"all"}}, "replaced": {"Nats-Expected-Last-Subject-Sequence": {"1"}},
	} {
		if _, err := terminal.PublishMsg(t.Context(), &nats.Msg{Subject: key, Header: header, Data: []byte("second")}); err == nil {
			t.Errorf("claim %s", name)
		}
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), key)
	s.must(err)
	if string(m.Data) != "first" {
		t.Errorf("claim is %q", m.Data)
	}
}

// JetStream sends what a terminal asks it for to any subject. That is nobody's message.
func TestJetStreamSpeaksForNobody(t *testing.T) {
	s := newSite(t)
	var refused []string
	cfg := s.config()
	told := make(chan string, 256)
	cfg.Tell = func(v Severity, text string) {
		if v == Warning {
			told <- text
		}
	}
	b := s.open(cfg)
	s.answering(b)
	js, err := b.JetStream(hall)
	s.must(err)
	s.bucket(js, hall)
	g, victim := s.terminal(hall, "gate-1"), s.terminal(hall, "gate-2")
	theirs := victim.subjects()
	n, err := s.raw(g, b.Address())
	s.must(err)
	forged, err := json.Marshal(link.Health{Version: 1, At: time.Now(), Agent: "forged"})
	s.must(err)
	terminal, err := jetstream.New(n)
	s.must(err)
	_, err = terminal.Publish(t.Context(), "$KV.claims_hall.token.1", forged)
	s.must(err)

	seen, err := b.nats.SubscribeSync(theirs.Health)
	s.must(err)
	s.must(b.nats.Flush())
	// As the answer to a read …
	s.must(n.PublishRequest("$JS.API.DIRECT.GET.KV_claims_hall.$KV.claims_hall.token.1", theirs.Health, nil))
	// … as a delivery …
	_, err = n.Request("$JS.API.CONSUMER.CREATE.KV_claims_hall.forger",
		[]byte(`{"stream_name":"KV_claims_hall","config":{"name":"forger","deliver_subject":"`+theirs.Health+`","deliver_policy":"all","ack_policy":"none","mem_storage":true}}`), 5*time.Second)
	s.must(err)
	// … and as the answer to a question about the stream.
	s.must(n.PublishRequest("$JS.API.STREAM.INFO.KV_claims_hall", theirs.Health, nil))
	for range 3 {
		m, err := seen.NextMsg(patience)
		if err != nil {
			t.Fatalf("the server sends no such thing any more: Genuine is for nothing (%v)", err)
		}
		if theirs.Genuine(m.Reply) {
			t.Errorf("forged with the reply %q", m.Reply)
		}
	}
	for len(refused) < 3 {
		select {
		case text := <-told:
			if strings.Contains(text, "message refused") {
				refused = append(refused, text)
			}
		case <-time.After(patience):
			t.Fatalf("refused only %q", refused)
		}
	}
	if slices.ContainsFunc(b.Beats(), func(b Beat) bool { return b.Terminal == "gate-2" }) {
		t.Error("the forged heartbeat counts")
	}
}

func TestOversizedMessageCutsItsSenderOffAndNobodyElse(t *testing.T) {
	s := newSite(t)
	b := s.open(s.config())
	s.answering(b)
	g, other := s.terminal(hall, "gate-1"), s.terminal(hall, "gate-2")
	l := s.link(other, b.Address())
	l.until(t, "connected", connected)
	// The library sends no such message: by hand.
	plain, err := net.Dial("tcp", b.Address())
	s.must(err)
	defer plain.Close()
	s.must(plain.SetDeadline(time.Now().Add(patience)))
	if _, err := bufio.NewReaderSize(plain, 1).ReadString('\n'); err != nil { // INFO
		t.Fatal(err)
	}
	c := tls.Client(plain, &tls.Config{ServerName: "127.0.0.1", RootCAs: s.authority.Pool(), GetClientCertificate: g.certificate})
	_, err = fmt.Fprintf(c, "CONNECT {\"verbose\":false}\r\nPUB %s %d\r\n", g.subjects().Events, link.MaxMessage+1)
	s.must(err)
	answer, err := io.ReadAll(c) // until the server closes
	if !strings.Contains(string(answer), "Maximum Payload Violation") {
		t.Errorf("answered %q, %v", answer, err)
	}
	if got := s.ask(l, other, "batch"); got != "hall/gate-2: batch" {
		t.Errorf("answer %q", got)
	}
}

// A terminal whose identity key goes to another terminal is that one from then on.
func TestKeyOfARetiredTerminalIsAnothers(t *testing.T) {
	s := newSite(t)
	b := s.open(s.config())
	g := s.terminal(hall, "gate-1")
	l := s.link(g, b.Address())
	l.until(t, "connected", connected)
	s.must(s.registry.RetireTerminal(t.Context(), by, hall, "gate-1"))
	s.must(s.registry.AddTerminal(t.Context(), by, hall, registry.Terminal{Name: "gate-2", Identity: g.spki}))
	s.must(b.Sweep(t.Context()))
	l.until(t, "cut off", func(s link.State) bool { return !s.Connected })
}
