package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/terminal"
)

// What staff asks at a shelter.

// Expects is how long the next card is waited for.
const Expects = time.Minute

// A BirthDate is YYYYMMDD, and printed as XX.
type BirthDate string

// Format implements fmt.Formatter.
func (BirthDate) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "XX") }

type (
	// A NewToken counts somebody without a card. Its reason may be empty.
	NewToken struct {
		Where
		Why
	}
	// An Expectation says something of whoever comes next; "" and 0 say nothing.
	Expectation struct {
		BirthDate BirthDate `json:"birth_date"`
		Token     uint32    `json:"token"`
		Where
		Who
	}

	// A Departure counts out somebody who has only a number.
	Departure struct {
		Token uint32 `json:"token"`
		Where
		Who
	}

	// A Token is the number of somebody without a card.
	Token struct {
		Token       uint32 `json:"token"`
		Reservation uint64 `json:"reservation"`
	}
	// Expected says until when a card can come.
	Expected struct {
		Until time.Time `json:"until"`
	}
)

func (n NewToken) check() error {
	if n.Reason == "" {
		return nil
	}
	return n.Why.check()
}

func (e Expectation) check() error {
	if e.BirthDate == "" && e.Token == 0 {
		return malformed("neither birth_date nor token says anything")
	}
	if e.BirthDate == "" {
		return nil
	}
	if _, err := cardauth.ParseBirthDate(string(e.BirthDate)); err != nil {
		return malformed("birth_date: %v", err)
	}
	return nil
}

func (s *server) token(ctx context.Context, by terminal.Staff, r NewToken) (any, error) {
	desk, err := s.desk(r.Lane)
	if err != nil {
		return nil, err
	}
	d, token, err := desk.GiveToken(ctx, by, r.Reason)
	return Token{token, uint64(d.Reservation)}, err
}

func (s *server) depart(ctx context.Context, by terminal.Staff, r Departure) (any, error) {
	desk, err := s.desk(r.Lane)
	if err != nil {
		return nil, err
	}
	d, err := desk.TokenLeaves(ctx, by, r.Token)
	if errors.Is(err, terminal.ErrToken) {
		return nil, &Problem{kind: noToken, Detail: "nobody inside has it: gate-agent muster report has those who are"}
	}
	return Token{r.Token, uint64(d.Reservation)}, err
}

func (s *server) expect(ctx context.Context, by terminal.Staff, r Expectation) (any, error) {
	desk, err := s.desk(r.Lane)
	if err != nil {
		return nil, err
	}
	if r.Token > 0 {
		h, err := s.Journal.History(ctx, terminal.TokenEntitlement(r.Token))
		if err != nil {
			return nil, err
		}
		if len(h.Passages) == 0 {
			return nil, &Problem{kind: noToken, Detail: "it was not given here, or is merged already: gate-agent muster report has those that are not"}
		}
	}
	e := terminal.Expectation{Token: r.Token, By: by, Until: time.Now().Add(Expects)}
	e.BirthDate, _ = cardauth.ParseBirthDate(string(r.BirthDate)) // it was checked
	return Expected{e.Until.UTC()}, desk.Expect(e)
}
