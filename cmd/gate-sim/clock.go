package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// clockFlags are the modelled times of a virtual card (card-facts §8).
type clockFlags struct {
	bitrate int
	rsa     time.Duration
}

func (c *clockFlags) add(f *pflag.FlagSet) {
	f.IntVar(&c.bitrate, "bitrate", 106, "modelled radio, in kbit/s: 106, 212 or 424")
	f.DurationVar(&c.rsa, "rsa", 300*time.Millisecond, "modelled time of the card's private key operation")
}

// clock makes a clock that really takes the time it models.
func (c *clockFlags) clock() (*vcard.Clock, error) {
	switch c.bitrate {
	case 106, 212, 424:
	default:
		return nil, cli.UsageError(fmt.Sprintf("--bitrate %d: want 106, 212 or 424", c.bitrate))
	}
	if c.rsa <= 0 || c.rsa > 10*time.Second {
		return nil, cli.UsageError(fmt.Sprintf("--rsa %v: want more than 0 and at most 10s", c.rsa))
	}
	return &vcard.Clock{BitRate: c.bitrate * 1000, KeyOperation: c.rsa, Sleep: true}, nil
}
