package ingest

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/internal/smalldisk"
	"github.com/gate-agent/gate-agent/sync/upload"
)

const childStore = "GATE_TEST_INGEST"

// TestHelperProcess is a hub for the test below: batches come in on standard input,
// answers go out.
func TestHelperProcess(t *testing.T) {
	name := os.Getenv(childStore)
	if name == "" {
		t.Skip("run by another test")
	}
	h := newHub(t, name)
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		must(t, err)
		data, err := base64.StdEncoding.DecodeString(string(line[:len(line)-1]))
		must(t, err)
		fmt.Printf("answer %s\n", base64.StdEncoding.EncodeToString(h.Handle(t.Context(), hall, "gate-1", data)))
	}
}

// The hub is killed with SIGKILL while batches come: whatever it acknowledged is
// there, and the terminal goes on from it.
func TestNothingAcknowledgedIsLostWhenTheHubIsKilled(t *testing.T) {
	on(t, func(t *testing.T, h *hub) {
		c := newChain("gate-1", 1)
		acknowledged := uint64(0)
		for life := range 5 {
			c.fill(200)
			cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
			cmd.Env = append(os.Environ(), childStore+"="+h.name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			in, err := cmd.StdinPipe()
			must(t, err)
			out, err := cmd.StdoutPipe()
			must(t, err)
			runtime.LockOSThread() // Pdeathsig watches the thread that forked
			must(t, cmd.Start())
			send := func(b *upload.Batch) {
				data, err := b.Encode()
				must(t, err)
				_, err = fmt.Fprintln(in, base64.StdEncoding.EncodeToString(data))
				must(t, err)
			}
			// Several under way, of which some are never answered.
			n := uint64(len(c.events))
			sending := acknowledged + 1
			answers := bufio.NewScanner(out)
			for range 5 + life*3 {
				send(c.batch(sending, min(n, sending+9)))
				sending = min(n, sending+9) + 1
			}
			for range 3 + life {
				if !answers.Scan() {
					t.Fatal("the hub ended by itself")
				}
				var text string
				if _, err := fmt.Sscanf(answers.Text(), "answer %s", &text); err != nil {
					t.Fatalf("%v: %s", err, answers.Text())
				}
				message, err := base64.StdEncoding.DecodeString(text)
				must(t, err)
				a, err := upload.VerifyAck(h.keys, message)
				must(t, err)
				acknowledged = a.Through
			}
			must(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
			runtime.UnlockOSThread()

			h.restart(t)
			a, r := h.send(t, "gate-1", c.batch(n+1, n))
			if r != nil || a.Through < acknowledged || a.Hash != c.hashes[a.Through] {
				t.Fatalf("%d were acknowledged, %d are held (%v)", acknowledged, a.Through, r)
			}
			acknowledged = a.Through
		}
		for first := acknowledged + 1; first <= uint64(len(c.events)); first += upload.MaxEvents {
			last := min(uint64(len(c.events)), first+upload.MaxEvents-1)
			h.keep(t, "gate-1", c.batch(first, last), last)
		}
		h.holds(t, c)
	})
}

// PostgreSQL loses power in the middle: what was acknowledged is there.
func TestNothingAcknowledgedIsLostWithTheDatabase(t *testing.T) {
	h := newHub(t, server.Database(t))
	c := newChain("gate-1", 1)
	c.fill(30)
	h.keep(t, "gate-1", c.batch(1, 20), 20)
	must(t, server.Kill())
	if _, r := h.send(t, "gate-1", c.batch(21, 30)); r == nil || r.Code != upload.Unavailable || !r.Retry {
		t.Errorf("without a database: %v", r)
	}
	must(t, server.Restart())
	h.keep(t, "gate-1", c.batch(21, 30), 30)
	h.holds(t, c)
}

// A full disk at the hub: nothing is acknowledged, and with room again it goes on.
func TestFullDiskAcknowledgesNothing(t *testing.T) {
	dir, ok := smalldisk.Mount(t)
	if !ok {
		return
	}
	h := newHub(t, "sqlite:"+filepath.Join(dir, "events.db"))
	c := newChain("gate-1", 1)
	c.fill(3000)
	h.keep(t, "gate-1", c.batch(1, 10), 10)
	smalldisk.Fill(t, dir, 64<<10)
	through, full := uint64(10), 0
	for first := through + 1; first < 2900; first += 100 {
		a, r := h.send(t, "gate-1", c.batch(first, first+99))
		if r != nil {
			if r.Code != upload.Full || !r.Retry {
				t.Fatalf("refused: %v", r)
			}
			full++
			break
		}
		through = a.Through
	}
	if full == 0 {
		t.Fatal("the disk never became full")
	}
	if _, r := h.send(t, "gate-1", c.batch(through+1, through+200)); r == nil {
		t.Error("the hub acknowledges with a full disk")
	}
	must(t, os.Remove(filepath.Join(dir, "ballast")))
	h.keep(t, "gate-1", c.batch(through+1, through+100), through+100)
	h.restart(t)
	h.keep(t, "gate-1", c.batch(3001, 3000), through+100)
}

func TestKeyThatCannotSignAcknowledgesNothing(t *testing.T) {
	h := newHub(t, "sqlite:"+filepath.Join(t.TempDir(), "events.db"))
	c := newChain("gate-1", 1)
	c.fill(1)
	key := h.Signer
	h.Signer = ed25519.PrivateKey(make([]byte, 64)) // signs, with another key
	data, err := c.batch(1, 1).Encode()
	must(t, err)
	if _, err := upload.VerifyAck(h.keys, h.Handle(t.Context(), hall, "gate-1", data)); err == nil {
		t.Error("an acknowledgement of another key counts")
	}
	h.Signer = key
	h.keep(t, "gate-1", c.batch(1, 1), 1)
}
