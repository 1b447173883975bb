package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// Two tries are left on this card: a right PIN would make them three again,
// and a wrong one would leave one.
func TestReadingACardSpendsNoPIN(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	b, err := theTown(t).alice(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b) // its own copy
	if err != nil {
		t.Fatal(err)
	}
	pins := 0
	for i := range img.Applications {
		for j := range img.Applications[i].PINs {
			img.Applications[i].PINs[j].Left--
			pins++
		}
	}
	if pins < 4 {
		t.Fatalf("the card has %d PINs", pins)
	}
	c := r.insert(img, how{})
	cmd := exec.Command(filepath.Join(programs, "gate-agent"), "card", "read", "--json", "--config", s.config, "--wait", "10s")
	cmd.Env = append(cmd.Environ(), r.daemon.Env())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	keepsSecrets(t, s, stderr.String())
	var report struct {
		Certificate []byte
		Trusted     bool
		PINRequired bool `json:"pin_required"`
	}
	if err := json.Unmarshal(stdout, &report); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(report.Certificate, img.AuthenticationCertificate()) || !report.Trusted || report.PINRequired {
		t.Errorf("card read says %s", stdout)
	}

	// And a tap does not either.
	c.remove()
	a := start(t, s, r)
	c = r.insert(img, how{})
	a.event()
	c.remove()
	a.stop()

	c.PowerOn()
	for _, pin := range []struct {
		name string
		df   []byte
		sfi  byte
		want []byte
	}{
		{"authentication PIN", vcard.AIDJPKI(), 0x18, []byte{0x63, 0xC2}},
		{"signature password", vcard.AIDJPKI(), 0x1B, []byte{0x63, 0xC4}},
		{"birth date", vcard.AIDSurface(), 0x11, []byte{0x63, 0xC9}},
	} {
		// SELECT DF, and VERIFY without a value, which tells the tries left.
		for _, command := range [][]byte{
			slices.Concat([]byte{0x00, 0xA4, 0x04, 0x0C, byte(len(pin.df))}, pin.df),
			{0x00, 0x20, 0x00, 0x80 | pin.sfi},
		} {
			answer, err := c.Transmit(context.Background(), command)
			if err != nil {
				t.Fatal(err)
			}
			if command[1] == 0x20 && !bytes.Equal(answer, pin.want) {
				t.Errorf("%s: %X, want %X", pin.name, answer, pin.want)
			}
		}
	}
}
