package terminal_test

import (
	"crypto"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/terminal"
)

// A losable key is on a medium that may be away.
type losable struct {
	crypto.Signer
	away *atomic.Bool
}

var errAway = errors.New("the token is away")

func (k losable) Lost() error {
	if k.away.Load() {
		return errAway
	}
	return nil
}

// While the terminal's key is away nobody is let in by it, the lamps say so before
// a card does, and what does not need it goes on.
func TestLostTerminalKeyDeniesAndIsShown(t *testing.T) {
	for _, c := range []struct {
		name    string
		methods []jpki.Method
		person  jpki.Method
		shows   terminal.Signal
		reason  terminal.Reason
	}{
		{"it is the only method", []jpki.Method{jpki.ExternalAuth}, jpki.ExternalAuth, terminal.ShowOutOfOrder, terminal.OutOfOrder},
		{"the other method goes on", []jpki.Method{jpki.TapUse, jpki.ExternalAuth}, jpki.TapUse, terminal.ShowCaution, terminal.OK},
		{"it is needed all the same", []jpki.Method{jpki.ExternalAuth, jpki.TapUse}, jpki.ExternalAuth, terminal.ShowCaution, terminal.OutOfOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			var away atomic.Bool
			incidents := make(chan terminal.Incident, 16)
			r := newRig(t, func(r *rig, cfg *terminal.Config, p *terminal.Parts) {
				key, err := r.ExternalAuthKey(losable{r.signer, &away})
				if err != nil {
					t.Fatal(err)
				}
				if p.Dialogue, err = jpki.NewDialogue(jpki.DefaultProfile(), key, nil); err != nil {
					t.Fatal(err)
				}
				cfg.Methods = c.methods
				away.Store(true)
				p.Incidents = func(i terminal.Incident) { incidents <- i }
			})
			for start := time.Now(); r.gate.Signal() != c.shows; time.Sleep(time.Millisecond) {
				if time.Since(start) > 10*time.Second {
					t.Fatalf("the lamps show %v, want %v", r.gate.Signal(), c.shows)
				}
			}
			if _, why := r.lane.Idle(); !slices.Equal(why, []terminal.Reason{terminal.OutOfOrder}) {
				t.Errorf("because of %v", why)
			}
			if i := <-incidents; i.Reason != terminal.OutOfOrder || i.State != terminal.Begins || !errors.Is(i.Cause, errAway) {
				t.Errorf("told: %+v", i)
			}
			d := r.tap(t, card(t, r.card(t, "listed", c.person), vcard.Options{}))
			if d.Reason != c.reason || d.TerminalSignatures != 0 {
				t.Errorf("%v %s with %d signatures, want %s with none", d.Verdict, d.Reason, d.TerminalSignatures, c.reason)
			}
			if c.reason != terminal.OutOfOrder {
				return
			}
			away.Store(false)
			if d := r.tap(t, card(t, r.card(t, "listed", c.person), vcard.Options{})); d.Reason != terminal.OK || d.TerminalSignatures != 1 {
				t.Errorf("when it is back: %v %s with %d signatures", d.Verdict, d.Reason, d.TerminalSignatures)
			}
		})
	}
}
