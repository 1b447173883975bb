package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/registration"
)

// A clerk is a running card register, at a terminal of its own.
type clerk struct {
	*pty
	site   site
	cmd    *exec.Cmd
	stdout bytes.Buffer
	out    string // the record's file
}

// register starts card register, which has nobody's card yet.
func register(t *testing.T, s site, r *readers, args ...string) *clerk {
	t.Helper()
	c := &clerk{pty: newPTY(t), site: s, out: filepath.Join(t.TempDir(), "record.cose")}
	c.cmd = exec.Command(filepath.Join(programs, "gate-agent"), append([]string{"card", "register", "--config", s.config, "--out", c.out}, args...)...)
	c.cmd.Env = append(c.cmd.Environ(), r.daemon.Env())
	c.cmd.Stdout = &c.stdout
	c.control(c.cmd)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// end waits for the end and returns the exit code.
func (c *clerk) end() int {
	c.t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.cmd.Wait() // ProcessState has it all
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		c.t.Fatal("card register does not end")
	}
	keepsSecrets(c.t, c.site, c.screen.String())
	return c.cmd.ProcessState.ExitCode()
}

// answers types what the command asks for. Meanwhile whoever looks at the
// processes sees no secret.
func (c *clerk) answers(pin, birthDate string) {
	c.t.Helper()
	c.sees("PIN (4 digits, not shown): ")
	c.types(pin)
	if birthDate == "" {
		return
	}
	c.sees("Birth date (YYYYMMDD, not shown): ")
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(c.cmd.Process.Pid), name))
		if err != nil {
			c.t.Fatal(err)
		}
		noSecrets(c.t, name, b)
	}
	c.types(birthDate)
}

// nothing fails the test when something was written.
func (c *clerk) nothing() {
	c.t.Helper()
	files, err := os.ReadDir(filepath.Dir(c.out))
	if err != nil || len(files) > 0 {
		c.t.Errorf("left behind: %v, %v", files, err)
	}
	if c.stdout.Len() > 0 {
		c.t.Errorf("standard output: %s", &c.stdout)
	}
}

// record verifies what was written, as a hub does.
func (c *clerk) record() registration.Registration {
	c.t.Helper()
	w := theTown(c.t)
	msg, err := os.ReadFile(c.out)
	if err != nil {
		c.t.Fatal(err)
	}
	if info, err := os.Stat(c.out); err != nil || info.Mode() != 0o600 {
		c.t.Errorf("%v, %v", info.Mode(), err)
	}
	// The key from the file that an operator would carry to the hub.
	text, err := os.ReadFile(c.site.path("identity.pub.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	public, err := sign1.ParsePublicKey(text)
	if err != nil {
		c.t.Fatal(err)
	}
	keys, err := sign1.NewKeys(sign1.Key{Public: public, Role: sign1.RoleRegistration, Scope: world.Scope, Signer: world.Terminal})
	if err != nil {
		c.t.Fatal(err)
	}
	trust := registration.Trust{
		Keys: keys, Hierarchy: registration.Test, Anchors: w.Anchors(), SurfaceAuthorities: w.SurfaceAuthorities(), MaxAge: time.Hour,
	}
	reg, err := trust.Verify(msg, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return reg
}

// tries are those of the authentication PIN and of the birth date, as the card
// answers when it is asked.
func (c *card) tries() (answers []byte) {
	c.r.t.Helper()
	c.PowerOn()
	for _, pin := range []struct {
		df  []byte
		sfi byte
	}{{vcard.AIDJPKI(), 0x18}, {vcard.AIDSurface(), 0x11}} {
		for _, command := range [][]byte{
			slices.Concat([]byte{0x00, 0xA4, 0x04, 0x0C, byte(len(pin.df))}, pin.df),
			{0x00, 0x20, 0x00, 0x80 | pin.sfi},
		} {
			answer, err := c.Transmit(context.Background(), command)
			if err != nil {
				c.r.t.Fatal(err)
			}
			if command[1] == 0x20 {
				answers = append(answers, answer[1])
			}
		}
	}
	return answers
}

// A PIN and a birth date that are found nowhere by accident.
const thePIN, theBirthDate = "7294", "19851103"

// newcomer has such a card.
func newcomer(t *testing.T, left int) *vcard.Image {
	t.Helper()
	img, err := theTown(t).Card(perso.CardOptions{PIN: thePIN, BirthDate: time.Date(1985, 11, 3, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	pins := img.Application(vcard.AIDJPKI()).PINs
	for i := range pins {
		if pins[i].ID == 0x0018 {
			pins[i].Left = left
		}
	}
	return img
}

func noSecrets(t *testing.T, where string, b []byte) {
	t.Helper()
	for _, secret := range []string{thePIN, theBirthDate, "601103"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s has %q:\n%s", where, secret, b)
		}
	}
}
