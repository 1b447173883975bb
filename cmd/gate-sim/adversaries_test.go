package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard/adversary"
)

// A gate that admits an adversary, or answers it for another reason, fails the
// command; here genuine cards stand in for both.
func TestBattleThatIsLostIsToldAndFails(t *testing.T) {
	wrong := adversary.Honest(adversary.ExternalAuth)
	for _, a := range adversary.All() {
		if a.Name == "copied-card" {
			a.Reason, a.Name = "card_unsupported", "copied-card-for-another-reason"
			wrong = a
		}
	}
	for _, json := range []bool{true, false} {
		var out bytes.Buffer
		b := battle{
			adversaries: []adversary.Adversary{adversary.Honest(adversary.TapUse), wrong},
			deadline:    2 * time.Second, json: json, lanes: 2,
			post: world.InProcess,
			out:  &out, say: io.Discard,
		}
		err := b.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "2 of 2 adversaries were answered wrongly") ||
			!strings.Contains(err.Error(), "honest-card-for-tap-use: admitted") || !strings.Contains(err.Error(), "a gate opened 1 times") {
			t.Errorf("error %v", err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		want := "2 adversaries came: 0 denied for their reason, 1 for another, 1 admitted, 0 answered after the deadline."
		if json {
			want = `{"adversaries":2,"denied_with_expected_reason":0,"wrong_reason":1,"admitted":1,"deadline_exceeded":0}`
		}
		if got := lines[len(lines)-1]; got != want {
			t.Errorf("the last line is %s", got)
		}
	}
}
