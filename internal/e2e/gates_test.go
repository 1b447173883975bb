package e2e

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	_ "github.com/mattn/go-sqlite3"    // database/sql driver "sqlite3"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
)

// A doorway is one gate of a venue with several.
type doorway struct {
	site
	name string
	r    *readers
	a    *agent
}

// An arena is a hub with three gates that have enrolled.
type arena struct {
	*hub
	db    string // of the events, as gate-hub init has it; "" is SQLite beside the registry
	gates []*doorway
	apart func() // takes away what gates ask
	back  func()
}

// opens enrols three gates; the second has an exit too.
func (h *arena) opens() {
	t := h.t
	t.Helper()
	for i := range 3 {
		d := &doorway{site: bare(t), name: fmt.Sprintf("gate-%d", i+1), r: newReaders(t)}
		text := must(os.ReadFile(d.config))(t)
		d.write(t, "config.toml", regexp.MustCompile(`(?m)^name( *)= "`+world.Gate+`"$`).ReplaceAll(text, fmt.Appendf(nil, "name$1= %q", d.name)))
		if i == 1 {
			d.edit(t, "[scope_key]", fmt.Sprintf("[reader]\nslots = [%q]\n\n[[lanes]]\n[lanes.gate]\nname = %q\ndirection = \"exit\"\n[lanes.reader]\nslots = [%q]\n\n[scope_key]",
				d.r.daemon.SlotName(0), d.name, d.r.daemon.SlotName(1)))
		}
		d.must(t, "enrol", "--token-file", h.token(d.site, "token", d.name))
		h.gates = append(h.gates, d)
	}
	h.must("lease", "issue", "--scope", world.Scope) // at once
	for _, d := range h.gates {
		d.leased(t)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A linked is what status says of the hub.
type linked struct {
	Hub struct {
		Connected bool
		Unsent    uint64
		Claims    struct {
			Apart         bool
			Untold        uint64
			Loose, Unread int
		}
	}
}

func (d *doorway) linked(t *testing.T) linked {
	t.Helper()
	return reads[linked](t, d.site, "status")
}

// settled waits until every gate asks the venue, and has told hub and venue all.
func (h *arena) settled() {
	h.t.Helper()
	for _, d := range h.gates {
		await(h.t, d.name+" has told all", func() bool {
			is := d.linked(h.t).Hub
			return is.Connected && !is.Claims.Apart && is.Unsent == 0 && is.Claims.Untold == 0 && is.Claims.Loose == 0
		})
	}
}

// enters taps at the entry of a gate.
func (h *arena) enters(gate int, img *vcard.Image, v terminal.Verdict, reason terminal.Reason, claim terminal.ClaimState) terminal.Event {
	h.t.Helper()
	d := h.gates[gate-1]
	e := d.r.tap(d.a, img)
	want(h.t, e, v, reason)
	if e.Claim != claim {
		h.t.Errorf("at %s: claim %q, want %q", d.name, e.Claim, claim)
	}
	return e
}

// log is what the venue's log of a ticket comes to, without its numbers.
func (h *arena) log(ticket string) []claims.Passage {
	h.t.Helper()
	var log struct {
		Records []struct {
			N uint64
			claims.Record
		}
	}
	if err := json.Unmarshal([]byte(h.must("claims", "show", ticket, "--json")), &log); err != nil {
		h.t.Fatal(err)
	}
	var numbered []claims.Numbered
	for _, r := range log.Records {
		numbered = append(numbered, claims.Numbered{N: r.N, Record: r.Record})
	}
	folded := claims.Fold(numbered)
	if len(folded.Unsure) > 0 {
		h.t.Errorf("log of %s: %+v", ticket, folded)
	}
	for i := range folded.Passages {
		folded.Passages[i].N = 0
		folded.Passages[i].Reservation = 0
	}
	return folded.Passages
}

// stored is what the hub holds of a terminal: the bytes of each event.
func (h *arena) stored(name string) (all []string) {
	h.t.Helper()
	driver, source := "sqlite3", "file:"+h.path("events.db")+"?mode=ro"
	if h.db != "" {
		driver, source = "pgx", h.db
	}
	db := must(sql.Open(driver, source))(h.t)
	defer db.Close()
	rows := must(db.QueryContext(h.t.Context(), `SELECT e.bytes FROM events e JOIN journals j ON j.id = e.journal WHERE j.terminal = $1 ORDER BY e.seq`, name))(h.t)
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, string(b))
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// kill ends the hub as a power cut does.
func (h *hub) kill() {
	h.t.Helper()
	if err := h.server.Process.Kill(); err != nil {
		h.t.Fatal(err)
	}
	<-h.ended
}

// One ticket goes through one gate of a venue, while gates can ask and after they could
// not; what they did meanwhile arrives once, and the hub tells who came in twice.
func TestOneTicketGoesThroughOneGate(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *arena{"the hub's own server": ownServer, "another server, a leaf node and PostgreSQL": otherServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t).goes()
		})
	}
}

func (h *arena) goes() {
	t := h.t
	first := h.gates[0]
	h.must("scope", "set", h.write(h.beside("settings.toml"), []byte("lifetime = \"24h\"\n[venue]\ntime_zone = \"Asia/Tokyo\"\n[policy]\nexpired = \"deny\"\nstale_revocation = \"warn\"\nuntrusted_clock = \"deny\"\nrevocation_max_age = \"72h\"\n")))
	h.must("ticket", "import", h.write(h.beside("tickets.csv"), []byte("id,uses,re_entry\nT-back,1,after_exit\nT-once,1,none\nT-late,1,none\n")))
	back, once, late := h.registers(first.site, first.r, "T-back"), h.registers(first.site, first.r, "T-once"), h.registers(first.site, first.r, "T-late")
	for _, d := range h.gates {
		await(t, d.name+" has the cards", func() bool {
			d.must(t, "sync", "now")
			s := d.syncs(t)
			return s.List != nil && s.List.Rows == 3
		})
	}
	for _, d := range h.gates {
		d.a = launch(t, d.site, d.r.daemon.Env())
		d.a.says(`"msg":"list in force"`)
		d.a.process()
	}
	time.Sleep(settled)
	h.settled()

	in := h.enters(1, once, terminal.Admit, terminal.OK, terminal.ClaimConfirmed)
	again := h.enters(2, once, terminal.Deny, terminal.AlreadyUsed, "")
	if again.Used == nil || again.Used.Gate != "gate-1" || again.Used.Terminal != "gate-1" || !again.Used.At.Equal(in.At.Truncate(time.Millisecond)) {
		t.Errorf("used %+v, want at gate-1, %v", again.Used, in.At)
	}
	h.enters(1, back, terminal.Admit, terminal.OK, terminal.ClaimConfirmed)
	out := h.gates[1].r.tapAs(h.gates[1].a, back, how{slot: 1})
	want(t, out, terminal.Admit, terminal.Leaving)
	h.settled()
	await(t, "gate 1 hears of the exit", func() bool {
		return first.r.tap(first.a, back).Verdict == terminal.Admit
	})
	h.settled()

	h.apart()
	for _, d := range h.gates {
		await(t, d.name+" is apart", func() bool { return d.linked(t).Hub.Claims.Apart })
	}
	one := h.enters(1, late, terminal.Admit, terminal.OK, terminal.ClaimUnconfirmed)
	h.enters(1, late, terminal.Deny, terminal.AlreadyUsed, "")
	two := h.enters(3, late, terminal.Admit, terminal.OK, terminal.ClaimUnconfirmed)
	h.enters(3, once, terminal.Deny, terminal.AlreadyUsed, "") // heard before
	h.back()
	h.settled()
	h.enters(2, late, terminal.Deny, terminal.AlreadyUsed, "")
	h.settled()
	h.reports(one, two)
	h.rebuilds()
	await(t, "all gates are ready", func() bool {
		said, _, code := h.run("ready", "--scope", world.Scope)
		return code == 0 && strings.Count(said, "gate-") == 3
	})
	for _, d := range h.gates {
		d.a.stop()
	}
}

// reports holds what the hub has to what the gates have.
func (h *arena) reports(one, two terminal.Event) {
	t := h.t
	t.Helper()
	for _, d := range h.gates {
		var sent []string
		await(t, d.name+"'s journal is at the hub", func() bool {
			sent = strings.Split(strings.TrimSpace(d.must(t, "journal", "export", "--format", "jsonl")), "\n")
			return slices.Equal(sent, h.stored(d.name))
		})
	}
	var r struct {
		Conflicts []struct {
			Kind, Entitlement string
			Entry, Earlier    struct {
				Gate string
				At   time.Time
			}
		}
	}
	if err := json.Unmarshal([]byte(h.must("report", "conflicts", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	at := func(e terminal.Event) time.Time { return e.At.Truncate(time.Millisecond) }
	if len(r.Conflicts) != 1 || r.Conflicts[0].Kind != "double_entry" || r.Conflicts[0].Entitlement != "T-late" ||
		r.Conflicts[0].Earlier.Gate != "gate-1" || !r.Conflicts[0].Earlier.At.Equal(at(one)) ||
		r.Conflicts[0].Entry.Gate != "gate-3" || !r.Conflicts[0].Entry.At.Equal(at(two)) {
		t.Errorf("conflicts %+v, want T-late at gate-1 %v, gate-3 %v", r.Conflicts, at(one), at(two))
	}
}

// rebuilds has the hub make the log again: it comes to the same.
func (h *arena) rebuilds() {
	t := h.t
	t.Helper()
	before := make(map[string][]claims.Passage)
	for _, ticket := range []string{"T-back", "T-once", "T-late"} {
		before[ticket] = h.log(ticket)
	}
	if n := len(before["T-back"]) + len(before["T-once"]) + len(before["T-late"]); n != 6 {
		t.Errorf("%d passages, want 6: %+v", n, before)
	}
	h.must("claims", "rebuild")
	for ticket, want := range before {
		got := h.log(ticket)
		sort := func(p []claims.Passage) {
			slices.SortFunc(p, func(a, b claims.Passage) int { return a.At.Compare(b.At) })
		}
		sort(got)
		sort(want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s made again: %+v\nwas %+v", ticket, got, want)
		}
	}
	h.settled()
}

// ownServer is a venue whose gates ask the hub itself.
func ownServer(t *testing.T) *arena {
	h := &arena{hub: newHub(t)}
	h.edit("hub.toml", "[nats]\nlisten = \"127.0.0.1:0\"", fmt.Sprintf("[nats]\nlisten = %q", anAddress(t)))
	h.serve()
	h.opens()
	h.apart, h.back = h.kill, h.serve
	return h
}

func anAddress(t *testing.T) string {
	t.Helper()
	l := must(net.Listen("tcp4", "127.0.0.1:0"))(t)
	defer l.Close()
	return l.Addr().String()
}

// natsServer builds the server's program from the module that go.mod pins.
var natsServer = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programs, "nats-server")
	out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		err = errors.New("building nats-server: " + string(out))
	}
	return program, err
})

// A natsProcess is a nats-server of its own.
type natsProcess struct {
	t      *testing.T
	folder string
	cmd    *exec.Cmd
}

func (p *natsProcess) start() {
	p.t.Helper()
	log := new(output)
	p.cmd = exec.Command(must(natsServer())(p.t), "-c", filepath.Join(p.folder, "nats.conf"))
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	await(p.t, "nats-server is ready", func() bool { return strings.Contains(log.String(), "Server is ready") })
}

// kill ends it as a power cut does.
func (p *natsProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *natsProcess) reload() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
}

// otherServer is a venue whose gates ask a leaf node of its own, of a server that the hub
// is a client of. The hub has its events in PostgreSQL.
func otherServer(t *testing.T) *arena {
	db := databases.Database(t)
	h := &arena{hub: newHub(t, "--db", db), db: db}
	main, leaves, venue := anAddress(t), anAddress(t), anAddress(t)
	h.edit("hub.toml", "[nats]\nlisten = \"127.0.0.1:0\"", "[nats]\nlisten = \"\"")
	h.edit("hub.toml", `url = ""`, fmt.Sprintf("url = %q\n\n[[nats.venues]]\nscope = %q\ndomain = \"hall\"\naddress = %q", "tls://"+main, world.Scope, "tls://"+venue))
	center, leaf := &natsProcess{t: t, folder: h.beside("center")}, &natsProcess{t: t, folder: h.beside("leaf")}
	configure := func() {
		h.must("nats", "config", center.folder, "--host", "127.0.0.1", "--listen", main, "--leaves", leaves)
		h.must("nats", "config", leaf.folder, "--host", "127.0.0.1", "--listen", venue, "--venue", world.Scope, "--remote", "tls://"+leaves)
	}
	configure()
	for _, p := range []*natsProcess{center, leaf} {
		p.start()
		t.Cleanup(p.kill)
	}
	h.serve()
	h.opens()
	configure()
	center.reload()
	leaf.reload()
	h.apart = func() {
		h.kill()
		leaf.kill()
	}
	h.back = func() {
		leaf.start()
		h.serve()
	}
	return h
}
