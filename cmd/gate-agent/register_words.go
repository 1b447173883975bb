package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/terminal"
)

// registerError gives an error of card register its exit code: what a card said
// or a person typed was refused; a card that left, and a person who did not
// come or did not type, only ended it.
func registerError(err error) error {
	for _, refused := range []error{
		jpki.ErrUnsupported, jpki.ErrRefused, nfc.ErrMalformed, terminal.ErrMultipleCards,
		cardauth.ErrNotGenuine, cardauth.ErrUntrusted, cardauth.ErrExpired, cardauth.ErrHeadMalformed, cardauth.ErrHeadIncomplete,
	} {
		if errors.Is(err, refused) {
			return cli.RefusedError{Err: fmt.Errorf("registering the card: %w", err)}
		}
	}
	return fmt.Errorf("registering the card: %w", err)
}

// registerWords says to the holder what happened and what to do next.
func registerWords(err error) words.Text {
	if t, ok := errors.AsType[*jpki.TriesError](err); ok {
		return triesWords(*t)
	}
	switch {
	case errors.Is(err, nfc.ErrRemoved):
		return words.Text{
			EN: "The card left the reader. Nothing is registered: begin again, and leave it there to the end.",
			JA: "カードが離れました。登録されていません。最初からやり直し、終わるまで置いたままにしてください。",
		}
	case errors.Is(err, errNotTyped), errors.Is(err, errNoCard), errors.Is(err, context.Canceled):
		return words.Text{EN: "Nothing is registered.", JA: "登録されていません。"}
	}
	if reason := terminal.ReasonOf(err); reason != terminal.OutOfOrder {
		return words.Reason(reason)
	}
	return words.Text{EN: "Registering does not work here. Ask the staff.", JA: "ここでは登録できません。係員にお尋ねください。"}
}

func triesWords(t jpki.TriesError) words.Text {
	en, ja := "PIN", "暗証番号"
	if t.Secret == jpki.SecretBirthDate {
		en, ja = "birth date", "生年月日"
	}
	const municipalityEN, municipalityJA = "Your municipality can help.", "市区町村の窓口にご相談ください。"
	switch {
	case t.Left == 0:
		return words.Text{
			EN: fmt.Sprintf("The %s is locked. %s", en, municipalityEN),
			JA: fmt.Sprintf("%sはロックされています。%s", ja, municipalityJA),
		}
	case !t.Wrong:
		return words.Text{
			EN: fmt.Sprintf("Only the last try of the %s is left, and this terminal does not take it. %s", en, municipalityEN),
			JA: fmt.Sprintf("%sの残り回数が1回のため、この端末では受け付けません。%s", ja, municipalityJA),
		}
	case t.Left < 0:
		return words.Text{EN: fmt.Sprintf("The %s is wrong.", en), JA: fmt.Sprintf("%sが違います。", ja)}
	}
	return words.Text{
		EN: fmt.Sprintf("The %s is wrong. Tries left: %d.", en, t.Left),
		JA: fmt.Sprintf("%sが違います。残り%d回です。", ja, t.Left),
	}
}
