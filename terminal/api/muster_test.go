package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

const born = "19850720"

func TestWhatStaffCanDoAtAShelter(t *testing.T) {
	r := newRig(t, nil)
	ctx, who := t.Context(), Who{"kei", passcode}
	for _, note := range []string{"", "card under the rubble"} {
		if got, err := r.client.GiveToken(ctx, NewToken{Where{}, Why{note, who}}); err != nil || got != (Token{3, 11}) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, e := range []Expectation{{born, 0, Where{}, who}, {"", 3, Where{}, who}, {born, 3, Where{}, who}} {
		if got, err := r.client.Expect(ctx, e); err != nil || got.Until.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got, err := r.client.TokenLeaves(ctx, Departure{3, Where{}, who}); err != nil || got != (Token{3, 13}) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err := r.client.TokenLeaves(ctx, Departure{404, Where{}, who})
	refused(t, err, "token", http.StatusConflict)
	want := []string{
		"token by kei: ", "token by kei: card under the rubble",
		"expects birth date true, token 0 by kei", "expects birth date false, token 3 by kei", "expects birth date true, token 3 by kei",
		"number 3 leaves, says kei",
	}
	if fmt.Sprint(r.done) != fmt.Sprint(want) {
		t.Errorf("done: %q", r.done)
	}
}

func TestExpectationThatMakesNoSenseIsRefused(t *testing.T) {
	r := newRig(t, nil)
	who := Who{"kei", passcode}
	_, err := r.client.Expect(t.Context(), Expectation{"", 4, Where{}, who})
	refused(t, err, "token", http.StatusConflict)
	_, err = r.client.Expect(t.Context(), Expectation{"", 0, Where{}, who})
	refused(t, err, "malformed", http.StatusBadRequest)
	_, err = r.client.GiveToken(t.Context(), NewToken{Where{}, Why{strings.Repeat("x", MaxReason+1), who}})
	refused(t, err, "malformed", http.StatusBadRequest)
	r.nothing()
	r.fails = fmt.Errorf("%w: gate.mode is venue", terminal.ErrMode)
	_, err = r.client.Expect(t.Context(), Expectation{"", 3, Where{}, who})
	refused(t, err, "mode", http.StatusConflict)
	_, err = r.client.GiveToken(t.Context(), NewToken{Where{}, Why{"", who}})
	refused(t, err, "mode", http.StatusConflict)
}

// Whatever is wrong about a request, its answer does not have the birth date.
func TestBirthDateIsNeverAnswered(t *testing.T) {
	r := newRig(t, nil)
	for _, body := range []string{
		`{"lane":"","birth_date":"19850732","token":0,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"19850720x","token":0,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":19850720,"token":0,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":["19850720"],"token":0,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"19850720","token":-1,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"","token":19850720,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"","token":"19850720","staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"","token":1985072000000000,"staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"19850720","staff":"kei","passcode":"` + passcode + `"}`,
		`{"lane":"","birth_date":"19850720","token":0,"staff":"kei","passcode":"another"}`,
	} {
		status, p, _ := r.post("/v1/muster/expectations", "application/json", body)
		if text := p.Error(); status == http.StatusOK || strings.Contains(text, "198507") {
			t.Errorf("%s: %d, %s", body, status, text)
		}
	}
	r.nothing()
	for _, verb := range []string{"%v", "%s", "%q", "%x", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, Expectation{BirthDate: born, Who: Who{Passcode: passcode}}); strings.Contains(text, born) || strings.Contains(text, passcode) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestCheckpointIsSignedForWhoeverAsks(t *testing.T) {
	r := newRig(t, nil)
	_, err := r.client.Checkpoint(t.Context())
	refused(t, err, "no-checkpoint-key", http.StatusConflict)
	r = newRig(t, func(p *Parts) {
		p.Checkpoint = func(context.Context) ([]byte, error) { return []byte{0xD2, 0x00, 0xFF}, r.fails }
	})
	if msg, err := r.client.Checkpoint(t.Context()); err != nil || string(msg) != "\xD2\x00\xFF" {
		t.Errorf("%x, %v", msg, err)
	}
	if status, _, _ := r.post("/v1/checkpoints", "application/json", `{"staff":"kei"}`); status != http.StatusBadRequest {
		t.Errorf("a body with a member: %d", status)
	}
	r.fails = errors.New("no space left")
	_, err = r.client.Checkpoint(t.Context())
	refused(t, err, "fault", http.StatusServiceUnavailable)
}
