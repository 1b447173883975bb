package terminal_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard/adversary"
	"github.com/gate-agent/gate-agent/terminal"
)

// besiege lets adversaries come to gates with a short deadline, that many of each
// method at once.
func besiege(t *testing.T, lanes int, adversaries ...adversary.Adversary) []world.Outcome {
	t.Helper()
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	siege, err := c.NewSiege(700*time.Millisecond, adversaries...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.List(siege.Rows...)
	if err != nil {
		t.Fatal(err)
	}
	site, err := c.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := site.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := site.Store.Import(t.Context(), bytes.NewReader(list), c.Now, nil); err != nil {
		t.Fatal(err)
	}
	var outcomes []world.Outcome
	err = site.Besiege(t.Context(), siege, lanes, world.InProcess, func(o world.Outcome) { outcomes = append(outcomes, o) })
	if err != nil && !slices.ContainsFunc(outcomes, world.Outcome.Admitted) {
		t.Error(err)
	}
	if len(outcomes) != len(adversaries) {
		t.Errorf("%d outcomes of %d", len(outcomes), len(adversaries))
	}
	return outcomes
}

func TestEveryAdversaryGetsItsReason(t *testing.T) {
	for _, o := range besiege(t, 6, adversary.All()...) {
		if fault := o.Fault(); fault != "" {
			t.Errorf("%s: %s", o.Name, fault)
		}
		if n := o.Decision.TerminalSignatures; n > 1 || n != o.Signatures() {
			t.Errorf("%s: %d signatures of the terminal counted, %d sent", o.Name, n, o.Signatures())
		}
	}
}

// The table of adversaries can fail: a genuine card in the place of one is
// admitted, and so is whatever is made with the adversaries' tools and without a
// fault. The last of the controls is what first use does not prove (card-facts §5).
// One method at a time: cards of the victim at two gates at once would use the
// entry up before each other.
func TestControlsAreAdmitted(t *testing.T) {
	for _, method := range []string{adversary.TapUse, adversary.ExternalAuth, adversary.FirstUse} {
		others := func(a adversary.Adversary) bool { return a.Method != method }
		for _, o := range besiege(t, 1, slices.DeleteFunc(adversary.Controls(), others)...) {
			if !o.Admitted() || o.Decision.Reason != terminal.OK || o.Fault() != "admitted" {
				t.Errorf("%s: %v %s (%v)", o.Name, o.Decision.Verdict, o.Decision.Reason, o.Decision.Cause)
			}
		}
	}
}
