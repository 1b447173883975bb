package vcard

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock models what a contactless exchange costs (card-facts §8). It serves one
// card or several; Elapsed may be read while they work. The zero value models
// the defaults and only counts. A negative duration stands for none.
type Clock struct {
	BitRate            int           // bit/s: 106000, 212000, 424000; default 106000
	KeyOperation       time.Duration // private key operation, RSA-2048 or P-384; default 300 ms
	PublicKeyOperation time.Duration // public RSA-2048 operation; default 20 ms
	Turnaround         time.Duration // reader and card, for each command; default 2 ms

	// Sleep makes each exchange really last as long as it is modelled. The
	// time this computer spends on it counts towards that.
	Sleep bool

	elapsed atomic.Int64 // ns
}

// Elapsed is the modelled time of all exchanges so far.
func (c *Clock) Elapsed() time.Duration { return time.Duration(c.elapsed.Load()) }

// Block transmission of ISO/IEC 14443-3 Type B and 14443-4.
const (
	frameSizeCard = 256 // FSC and FSD, in bytes
	frameOverhead = 3   // PCB and CRC, in bytes
	byteETU       = 10  // start bit, eight bits, stop bit
	frameETU      = 24  // SOF, EOF and guard time
)

// chainETU is the time on the wire of an APDU of n bytes: a chain of blocks,
// each but the last acknowledged by a frame without content.
func chainETU(n int) int {
	blocks := max(1, (n+frameSizeCard-frameOverhead-1)/(frameSizeCard-frameOverhead))
	frames := 2*blocks - 1
	return n*byteETU + frames*(frameOverhead*byteETU+frameETU)
}

// wire is the time of that many elementary time units. At 106 kbit/s one is
// 128/fc with fc = 13.56 MHz (ISO/IEC 14443-3); higher rates divide it.
func (c *Clock) wire(etu int) time.Duration {
	rate := c.BitRate
	if rate <= 0 {
		rate = 106000
	}
	return time.Duration(float64(etu) * 128 / 13.56e6 * 106000 / float64(rate) * float64(time.Second))
}

func (c *Clock) keyOperation() time.Duration {
	if c == nil {
		return 0
	}
	return orDefault(c.KeyOperation, 300*time.Millisecond)
}

func (c *Clock) publicKeyOperation() time.Duration {
	if c == nil {
		return 0
	}
	return orDefault(c.PublicKeyOperation, 20*time.Millisecond)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(d, 0)
}

// spend accounts for one exchange that began at start and, with Sleep, waits
// until it is over or ctx is.
func (c *Clock) spend(ctx context.Context, start time.Time, command, response int, work time.Duration) error {
	d := c.wire(chainETU(command)+chainETU(response)) + work +
		orDefault(c.Turnaround, 2*time.Millisecond)
	c.elapsed.Add(int64(d))
	if !c.Sleep {
		return nil
	}
	timer := time.NewTimer(d - time.Since(start))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
