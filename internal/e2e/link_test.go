package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
)

// connects says what status has of the hub.
func (s site) connects(t *testing.T) (connected bool) {
	t.Helper()
	hub, ok := s.says(t, "status")["hub"].(map[string]any)
	if !ok {
		t.Fatal("status knows of no hub")
	}
	return hub["connected"].(bool)
}

// heard is the heartbeat that the running hub has of the terminal, nil for none.
func (h *hub) heard() map[string]any {
	h.t.Helper()
	var list struct {
		Terminals []struct {
			Name      string
			Heartbeat map[string]any
		}
	}
	if err := json.Unmarshal([]byte(h.must("terminal", "list", "--json")), &list); err != nil {
		h.t.Fatal(err)
	}
	for _, t := range list.Terminals {
		if t.Name == world.Terminal {
			return t.Heartbeat
		}
	}
	return nil
}

// A new list is there at once, the hub knows how the gate is, a hub that is away holds
// nothing up, and a terminal that is retired is cut off.
func TestTerminalIsConnectedLive(t *testing.T) {
	t.Parallel()
	nats := anAddress(t)
	h, r := newHub(t), newReaders(t)
	h.edit("hub.toml", "[nats]\nlisten = \"127.0.0.1:0\"", fmt.Sprintf("[nats]\nlisten = %q", nats))
	h.serve()
	gate := bare(t)
	gate.edit(t, "every = \"1s\"\n", "every = \"1h\"\n") // a list that comes sooner came by a poke
	gate.must(t, "enrol", "--token-file", h.token(gate, "token", world.Terminal))
	gate.leased(t)
	a := start(t, gate, r)
	a.says(`"msg":"connected to the hub","server":"tls://` + nats)
	if !gate.connects(t) {
		t.Error("status says not connected")
	}
	says(t, gate.must(t, "status"), "connected to tls://"+nats)
	await(t, "a heartbeat", func() bool { return h.heard() != nil })
	says(t, h.must("terminal", "show", world.Terminal), "heard")

	rows := func() float64 {
		list, ok := gate.says(t, "sync", "status")["list"].(map[string]any)
		if !ok {
			return 0
		}
		return list["rows"].(float64)
	}
	before := rows()
	h.must("ticket", "import", h.write(h.beside("tickets.csv"), crowd(3)))
	await(t, "a list with three more", func() bool { return rows() == before+3 })

	h.stop()
	a.says(`"msg":"not connected to the hub: taps go on"`)
	if gate.connects(t) {
		t.Error("status says connected to a hub that is away")
	}
	says(t, gate.must(t, "status"), "NOT CONNECTED")
	says(t, h.must("terminal", "list"), world.Terminal) // without a hub that runs
	h.serve()
	await(t, "connected again", func() bool { return gate.connects(t) })

	h.must("terminal", "retire", world.Terminal, "--reason", "stolen")
	await(t, "cut off", func() bool { return !gate.connects(t) })
	await(t, "told why", func() bool {
		return strings.Contains(strings.ToLower(gate.must(t, "status")), "authorization violation")
	})
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	h.keepsSecrets(a.stderr.String())
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
