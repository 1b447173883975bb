package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// dialogueRead is the dialogue of card read, by the name that traces have for
// it. The others have the names of their methods.
const dialogueRead = "read"

var dialogues = []string{dialogueRead, string(jpki.TapUse), string(jpki.ExternalAuth)}

// A speaker has one dialogue with a card: card trace with a real one, card
// replay with a recorded one.
type speaker struct {
	dialogue string
	terminal.Prover
	list *sheet
	at   time.Time
}

// spoken is what came of it.
type spoken struct {
	err    error // nil when the card did it
	reason terminal.Reason
	detail string
	stats  nfc.Stats
	proved terminal.Proved
}

func (s *speaker) speak(ctx context.Context, slot string, card nfc.Transmitter) (said spoken) {
	channel := nfc.NewChannel(card)
	if s.dialogue == dialogueRead {
		var info jpki.Info
		info, said.err = s.Dialogue.Inspect(ctx, slot, channel)
		said.detail = describeInfo(info)
	} else {
		said.proved, said.err = s.Prove(ctx, slot, channel, s.list, s.at)
		said.detail = fmt.Sprintf("signature of %d bytes, ", len(said.proved.Evidence.Signature))
		if s.dialogue == string(jpki.TapUse) && errors.Is(said.err, terminal.ErrNoKey) {
			said.detail += "not checked: " + unchecked[s.list.state]
			said.err = nil
		} else {
			said.detail += "checked with " + s.checkedWith(said.proved)
		}
	}
	said.reason, said.stats = terminal.OK, channel.Stats()
	if said.err != nil {
		said.reason, said.detail = reasonOf(said.err), said.err.Error()
	}
	return said
}

// unchecked says why nobody knows the key that signed.
var unchecked = map[trace.RowState]string{
	trace.RowNoList: "there is no list",
	trace.RowNone:   "the card is not on the list",
	trace.RowListed: "the card is registered without its card key",
}

func (s *speaker) checkedWith(p terminal.Proved) string {
	switch tapUse := p.Evidence.Method == jpki.TapUse; {
	case tapUse && !p.Row.CardKey.IsZero():
		return "the registered card key"
	case tapUse:
		return "the card key of its age record"
	case !p.Row.AuthKey.IsZero():
		return "the registered authentication key"
	}
	return "the key of its certificate"
}

// reasonOf is the gate's reason. A session here has a limit of its own in the
// place of the gate's deadline.
func reasonOf(err error) terminal.Reason {
	if errors.Is(err, context.DeadlineExceeded) {
		return terminal.ReadTimeout
	}
	return terminal.ReasonOf(err)
}

func describeInfo(info jpki.Info) string {
	text := fmt.Sprintf("%s, certificate of %d bytes", info.Token, len(info.Certificate))
	switch {
	case info.PINRequired:
		text = info.Token + ", certificate behind the PIN"
	case info.Certificate == nil:
		text = info.Token + ", no certificate"
	}
	if info.CardSurface {
		return text + ", card-surface application"
	}
	return text + ", no card-surface application"
}

// A sheet stands in the place of a list: it gives the one row of the card, with
// nothing in it but what proves the card.
type sheet struct {
	// find tells what is known of a card.
	find   func(ctx context.Context, head []byte) (whitelist.Row, trace.RowState, error)
	cardID func(head []byte) cardid.CardID
	tapUse bool
	state  trace.RowState // what find said
}

// Lookup implements whitelist.View. A card that nobody lists may show by tap-use
// what it can do: that takes nothing of this terminal. Its key would sign the
// challenge of any card in external-auth (card-facts §6, step 1), so there it
// ends.
func (s *sheet) Lookup(ctx context.Context, head []byte) (whitelist.Row, error) {
	row, state, err := s.find(ctx, head)
	s.state = state
	switch {
	case err != nil:
		return whitelist.Row{}, err
	case state == trace.RowListed:
		return whitelist.Row{AuthKey: row.AuthKey, CardKey: row.CardKey, BirthDate: row.BirthDate}, nil
	case s.tapUse:
		return whitelist.Row{}, nil
	}
	return whitelist.Row{}, whitelist.ErrNotListed
}

// CardID implements whitelist.View.
func (s *sheet) CardID(head []byte) cardid.CardID {
	if s.cardID == nil {
		return cardid.CardID{}
	}
	return s.cardID(head)
}

// Manifest and Release implement whitelist.View.
func (s *sheet) Manifest() whitelist.Manifest { return whitelist.Manifest{} }
func (s *sheet) Release()                     {}
