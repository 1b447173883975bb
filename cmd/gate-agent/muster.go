package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/terminal/api"
)

// What staff does at a shelter (docs/shelter.md).

func musterCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "muster", Short: "Count people at a shelter (避難所), and tell who is there"},
		musterTokenCommand(), musterLeaveCommand(), musterBirthDateCommand(), musterMergeCommand(), musterReportCommand())
}

func musterTokenCommand() *cobra.Command {
	v := newVerb(&cobra.Command{
		Use:   "token [--lane LABEL] --config FILE --staff NAME [--reason TEXT] [--passcode-file FILE] [--json]",
		Short: "Count somebody without a card, and give them a number",
		Long: `Token counts somebody who has no card with them, and prints the number that they
get. It takes a steward. カードを持っていない人を数え、番号を発行します。`,
		Example: "  gate-agent muster token --config /etc/gate-agent/config.toml --staff kei",
		Args:    cli.Args(cobra.NoArgs),
	}, false).atLane()
	v.Flags().StringVar(&v.reason, "reason", "", "what there is to say, for the journal; no names")
	return v.does(func([]string) error { return nil }, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		t, err := agent.GiveToken(ctx, api.NewToken{Where: v.Where, Why: why})
		if err != nil {
			return nil, nil, err
		}
		return t, [][2]string{
			{"token", fmt.Sprintf("%d: write it down for them / 番号を書いて渡してください", t.Token)},
			{"reservation", fmt.Sprint(t.Reservation)},
		}, nil
	})
}

func musterLeaveCommand() *cobra.Command {
	var token uint32
	v := newVerb(&cobra.Command{
		Use:   "leave TOKEN [--lane LABEL] --config FILE --staff NAME [--passcode-file FILE] [--json]",
		Short: "Count out somebody who goes and has only a token",
		Long: `Leave counts out somebody who goes and has only a token; whoever has a card shows
it instead. It takes a steward. 番号札だけの方の退所を記録します。`,
		Example: "  gate-agent muster leave 17 --config /etc/gate-agent/config.toml --staff kei",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}, false).atLane()
	return v.does(func(args []string) (err error) {
		token, err = tokenOf(args[0])
		return err
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		t, err := agent.TokenLeaves(ctx, api.Departure{Token: token, Where: v.Where, Who: why.Who})
		if err != nil {
			return nil, nil, err
		}
		return t, [][2]string{{"left", fmt.Sprintf("%d / 退所しました", t.Token)}}, nil
	})
}

// tokenOf reads the number of a token. What was typed instead may be anything,
// and is not repeated.
func tokenOf(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, cli.UsageError("token: want its number")
	}
	return uint32(n), nil
}

func musterBirthDateCommand() *cobra.Command {
	v := newVerb(&cobra.Command{
		Use:   "birth-date [--lane LABEL] --config FILE --staff NAME [--passcode-file FILE] [--json]",
		Short: "Type the birth date of whoever comes next, whose card is on no list",
		Long: `Birth-date asks for a birth date, which does not show, and has the next card within
a minute prove itself by it. A card that is on no list cannot do so otherwise where
the terminal has method B alone. It costs the card one try when it is wrong. It
takes a steward. 名簿にないカードの方の生年月日を入力し、1分以内にカードをかざしてもらいます。`,
		Example: "  gate-agent muster birth-date --config /etc/gate-agent/config.toml --staff kei",
		Args:    cli.Args(cobra.NoArgs),
	}, false).atLane()
	return v.does(func([]string) error { return nil }, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		born, err := typeBirthDate(ctx)
		if err != nil {
			return nil, nil, err
		}
		return expected(agent.Expect(ctx, api.Expectation{BirthDate: born, Where: v.Where, Who: why.Who}))
	})
}

func musterMergeCommand() *cobra.Command {
	var token uint32
	var born bool
	v := newVerb(&cobra.Command{
		Use:   "merge TOKEN [--lane LABEL] --config FILE --staff NAME [--birth-date] [--passcode-file FILE] [--json]",
		Short: "Take back the token of whoever shows a card next",
		Long: `Merge is for somebody who got a token and has their card now: the next card within
a minute is counted, and the token no more. It takes a steward.
番号札の方がカードを持ってきたとき、1分以内にカードをかざしてもらい、番号札と置き換えます。`,
		Example: "  gate-agent muster merge 17 --config /etc/gate-agent/config.toml --staff kei",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}, false).atLane()
	v.Flags().BoolVar(&born, "birth-date", false, "ask for their birth date too: the card is on no list")
	return v.does(func(args []string) (err error) {
		token, err = tokenOf(args[0])
		return err
	}, func(ctx context.Context, agent *api.Client, why api.Why) (any, [][2]string, error) {
		e := api.Expectation{Token: token, Where: v.Where, Who: why.Who}
		if born {
			var err error
			if e.BirthDate, err = typeBirthDate(ctx); err != nil {
				return nil, nil, err
			}
		}
		return expected(agent.Expect(ctx, e))
	})
}

func expected(e api.Expected, err error) (any, [][2]string, error) {
	if err != nil {
		return nil, nil, err
	}
	return e, [][2]string{{"next card", fmt.Sprintf("until %s / 1分以内にカードをかざしてください", localTime(e.Until))}}, nil
}

// typeBirthDate asks for a birth date at the terminal until one is typed. It is
// taken from nowhere else.
func typeBirthDate(ctx context.Context) (born api.BirthDate, err error) {
	person, err := openTTY()
	if err != nil {
		return "", cli.UsageError("no terminal at which somebody could type a birth date: run the command through ssh with -t")
	}
	defer func() { err = errors.Join(err, person.Close()) }()
	ctx, cancel := context.WithTimeoutCause(ctx, typing, errNotTyped)
	defer cancel()
	for {
		typed, err := person.ask(ctx, birthDatePrompt)
		if err != nil {
			return "", err
		}
		born := api.BirthDate(typed)
		clear(typed)
		if _, err := cardauth.ParseBirthDate(string(born)); err == nil {
			return born, nil
		}
		person.say("生年月日は西暦の8桁です。\nThe birth date is 8 digits, YYYYMMDD.")
	}
}
