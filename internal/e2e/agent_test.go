package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// patience is for what happens at once, on a machine that is busy.
const patience = 15 * time.Second

// settled is how long after the start of an agent a card that comes is surely
// not taken for one that lay there before (pcsc.Options.Settle, 1 s).
const settled = 1400 * time.Millisecond

// An agent is a running gate-agent.
type agent struct {
	t      *testing.T
	site   site
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *output
	events chan terminal.Event
	all    []terminal.Event // that were taken from the channel
	exited chan struct{}
	ended  bool // the test has waited for its end
}

// launch starts gate-agent run --events -, which may refuse to.
func launch(t *testing.T, s site, env ...string) *agent {
	t.Helper()
	a := newAgent(t, s, env...)
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.begin(stdout)
	return a
}

func newAgent(t *testing.T, s site, env ...string) *agent {
	t.Helper()
	a := &agent{
		t: t, site: s, stderr: new(output),
		events: make(chan terminal.Event, 100), exited: make(chan struct{}),
		cmd: exec.Command(filepath.Join(programs, "gate-agent"), "run", "--config", s.config, "--events", "-"),
	}
	a.cmd.Env = append(a.cmd.Environ(), env...)
	a.cmd.Stderr = a.stderr
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return a
}

// begin starts the process, whose events come from stdout when it is not nil.
func (a *agent) begin(stdout io.Reader) {
	t := a.t
	t.Helper()
	var err error
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.exited)
		defer close(a.events)
		if stdout != nil {
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				if e, ok := parse(t, a.site, lines.Bytes()); ok {
					a.events <- e
				}
			}
		}
		_ = a.cmd.Wait() // ProcessState has it all
	}()
	t.Cleanup(func() {
		if !a.ended {
			a.process()
			a.end(syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("what the agent said:\n%s", a.stderr)
		}
		keepsSecrets(t, a.site, a.stderr.String())
		keepsKeys(t, a.site, []byte(a.stderr.String()))
	})
}

// start starts an agent at the daemon's readers, and returns when it sees
// cards that come.
func start(t *testing.T, s site, r *readers) *agent {
	t.Helper()
	a := launch(t, s, r.daemon.Env())
	a.says(`"msg":"list in force"`)
	a.process()
	time.Sleep(settled)
	return a
}

// members are those that every event has, and no others unless it is named in
// docs/events.md as one that comes at times.
var members = []string{
	"at", "bytes", "card_id", "commands", "direction", "elapsed_ms", "gate", "list_epoch", "list_seq",
	"method", "reason", "stages", "terminal_signatures", "verdict",
}

var stages = []string{"auth", "claim", "decide", "detect", "journal", "key", "read", "resolve", "select", "sign", "verify"}

// parse reads one line of the event stream, and holds it to its form.
func parse(t *testing.T, s site, line []byte) (e terminal.Event, ok bool) {
	var object, inside map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		t.Errorf("event %q: %v", line, err)
		return e, false
	}
	for _, sometimes := range []string{"claim", "holder_check", "message", "others", "passed", "people", "reservation", "used", "warnings", "zone"} {
		delete(object, sometimes)
	}
	if err := json.Unmarshal(object["stages"], &inside); err != nil {
		t.Errorf("stages of event %s: %v", line, err)
	}
	if got := sortedKeys(object); !slices.Equal(got, members) {
		t.Errorf("event %s has members %q, want %q", line, got, members)
	}
	if got := sortedKeys(inside); !slices.Equal(got, stages) {
		t.Errorf("event %s has stages %q, want %q", line, got, stages)
	}
	if err := json.Unmarshal(line, &e); err != nil {
		t.Errorf("event %s: %v", line, err)
		return e, false
	}
	keepsSecrets(t, s, strings.ReplaceAll(string(line), e.CardID, ""))
	return e, true
}

// event waits for the next event.
func (a *agent) event() terminal.Event {
	a.t.Helper()
	select {
	case e, ok := <-a.events:
		if !ok {
			a.t.Fatal("the agent has ended")
		}
		a.all = append(a.all, e)
		return e
	case <-time.After(patience):
		a.t.Fatal("no event")
	}
	panic("unreachable")
}

// rest is what comes until nothing has come for that long.
func (a *agent) rest(d time.Duration) (all []terminal.Event) {
	a.t.Helper()
	for {
		select {
		case e, ok := <-a.events:
			if !ok {
				a.t.Fatal("the agent has ended")
			}
			a.all = append(a.all, e)
			all = append(all, e)
		case <-time.After(d):
			return all
		}
	}
}

// silent fails the test when an event comes meanwhile.
func (a *agent) silent(d time.Duration, why string) {
	a.t.Helper()
	select {
	case e := <-a.events:
		a.t.Errorf("%s: event %+v", why, e)
	case <-time.After(d):
	}
}

// says waits until the agent has said so.
func (a *agent) says(what string) {
	a.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(a.stderr.String(), what); {
		if time.Now().After(deadline) {
			a.t.Fatalf("the agent does not say %q", what)
		}
		select {
		case <-a.exited:
			if !strings.Contains(a.stderr.String(), what) {
				a.t.Fatalf("the agent ended and did not say %q", what)
			}
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// opened is how often the relay has moved until the last event that was read.
// Log and events come by different ways: the log is waited for until it tells
// of as many taps, and it tells of each after its relay.
func (a *agent) opened() int {
	a.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		log := a.stderr.String()
		if strings.Count(log, `"msg":"tap"`) >= len(a.all) {
			return strings.Count(log, "relay: gate opens")
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("the log tells of fewer taps than the %d events", len(a.all))
		}
	}
}

// end sends a signal and returns the exit code, -1 for one that was killed.
func (a *agent) end(sig syscall.Signal) int {
	a.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil && sig != syscall.SIGKILL {
		a.t.Error(err)
	}
	return a.wait()
}

// wait waits for the end and returns the exit code.
func (a *agent) wait() int {
	a.t.Helper()
	a.ended = true
	for timeout := time.After(patience); ; {
		select {
		case e, ok := <-a.events:
			if !ok {
				<-a.exited
				return a.cmd.ProcessState.ExitCode()
			}
			a.all = append(a.all, e)
		case <-timeout:
			_ = a.cmd.Process.Kill()
			a.t.Fatal("the agent does not end")
		}
	}
}

// stop ends the agent as systemd does; it must be content.
func (a *agent) stop() {
	a.t.Helper()
	if code := a.end(syscall.SIGTERM); code != 0 {
		a.t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// A recorded event of the journal, as journal list --json prints it.
type recorded struct {
	Seq         uint64 `json:"seq"`
	Kind        string `json:"kind"`
	At          time.Time
	Reservation uint64
	Verdict     string
	Reason      string
	Method      string
	CardID      string                `json:"card_id"`
	HolderCheck terminal.CheckOutcome `json:"holder_check"`
	Gate        string                `json:"gate"`
	Direction   string
	People      uint32
	State       string
	Staff, Role string
	Note        string
	ListSeq     uint64 `json:"list_seq"`
	Scope       string
	Action      string
}

// journal lists what the terminal has recorded, after it verified.
func (s site) journal(t testing.TB) []recorded {
	t.Helper()
	var report struct {
		Events uint64
		Open   uint64
	}
	if err := json.Unmarshal([]byte(s.must(t, "journal", "verify", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	var all []recorded
	dec := json.NewDecoder(strings.NewReader(s.must(t, "journal", "list", "--json")))
	for {
		var r recorded
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if report.Events != uint64(len(all)) {
		t.Errorf("%d events verify, %d are listed", report.Events, len(all))
	}
	return all
}

// agree fails the test unless the journal has the events' decisions, in their
// order, and nothing else but starts and lists; an admission is a reservation
// that is committed.
func agree(t testing.TB, s site, events []terminal.Event) {
	t.Helper()
	var decisions []recorded
	committed := make(map[uint64]bool)
	for _, r := range s.journal(t) {
		switch r.Kind {
		case "decision", "reserve":
			decisions = append(decisions, r)
		case "commit":
			committed[r.Reservation] = true
		case "start", "list":
		default:
			t.Errorf("journal has %+v", r)
		}
	}
	if len(decisions) != len(events) {
		t.Fatalf("journal has %d decisions, there were %d events", len(decisions), len(events))
	}
	for i, r := range decisions {
		e := events[i]
		if r.Verdict != e.Verdict.String() || r.Reason != string(e.Reason) || r.Method != e.Method || r.CardID != e.CardID || r.Gate != e.Gate ||
			r.HolderCheck != e.HolderCheck || r.ListSeq != e.ListSeq || !r.At.Equal(e.At) {
			t.Errorf("journal has %+v, the event was %+v", r, e)
		}
		if admitted := e.Verdict == terminal.Admit; (r.Kind == "reserve") != admitted || committed[r.Seq] != admitted {
			t.Errorf("event %+v is a %s in the journal, committed: %v", e, r.Kind, committed[r.Seq])
		}
	}
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// An output is what a process has written so far. The zero value is empty.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
