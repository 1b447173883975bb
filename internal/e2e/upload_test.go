package e2e

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/terminal"
)

// reported is what the hub holds of the terminal.
func (h *hub) reported() (r struct {
	Contact *string
	Events  float64
	Unsent  float64
	Clone   *string
}) {
	h.t.Helper()
	var all struct{ Terminals []json.RawMessage }
	err := json.Unmarshal([]byte(h.must("report", "terminals", "--json")), &all)
	if err == nil && len(all.Terminals) == 1 {
		err = json.Unmarshal(all.Terminals[0], &r)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// Somebody comes in, with the hub there and away; hub and agent are killed; the hub
// has each event once, and says when the doors can open.
func TestWhatTheGateRecordsIsAtTheHub(t *testing.T) {
	t.Parallel()
	nats := anAddress(t)
	h, r := newHub(t), newReaders(t)
	h.must("ticket", "import", h.write(h.beside("tickets.csv"), crowd(1)))
	h.edit("hub.toml", "[nats]\nlisten = \"127.0.0.1:0\"", fmt.Sprintf("[nats]\nlisten = %q", nats))
	h.serve()
	gate := bare(t)
	gate.must(t, "enrol", "--token-file", h.token(gate, "token", world.Terminal))
	gate.leased(t)
	if _, _, code := h.run("ready"); code != 1 {
		t.Errorf("ready before anything was heard: exit code %d", code)
	}
	v := &venue{hub: h, site: gate, r: r}
	alice := v.registers(gate, r, "T-spare")
	v.a = start(t, gate, r)
	v.until("got the card", func(s syncs) bool { return s.List != nil && s.List.Rows == 2 })
	v.tap(alice, terminal.Admit, terminal.OK)

	here := func() float64 { return gate.says(t, "journal", "verify")["events"].(float64) }
	arrived := func() bool { return h.reported().Events == here() }
	await(t, "everything is at the hub", arrived)
	says(t, gate.must(t, "status", "--json"), `"unsent":0`)
	await(t, "the doors can open", func() bool { _, _, code := h.run("ready"); return code == 0 })

	h.stop()
	v.a.says(`"msg":"not connected to the hub: taps go on"`)
	v.tap(alice, terminal.Deny, terminal.AlreadyUsed)
	if code := v.a.end(syscall.SIGKILL); code == 0 {
		t.Fatal("it ended in order")
	}
	v.a = start(t, gate, r)
	h.serve()
	await(t, "everything is at the hub again", arrived)
	if s := h.reported(); s.Contact == nil || s.Clone != nil {
		t.Errorf("%+v", s)
	}
	says(t, h.must("report", "conflicts"), "0 conflicts")
	if code := v.a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	h.keepsSecrets(v.a.stderr.String())
}
