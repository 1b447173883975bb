package journal

import (
	"context"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// KindClock says that staff accepted a clock as it is: what was recorded before
// counts as earlier, whatever instant it carries.
const KindClock Kind = "clock"

// AcceptClock writes that a clock which shows at is right, on the word of staff.
// Latest is that instant then, also where it was greater before.
func (j *Journal) AcceptClock(ctx context.Context, at time.Time, by terminal.Staff, note string) error {
	err := j.append(ctx, "accepting a clock", &Event{Kind: KindClock, At: instant(at), Staff: by.Name, Role: by.Role, Note: note}, nil)
	if err == nil {
		j.latest.Store(at.UnixMilli())
	}
	return err
}

// later is the greatest instant once an event has followed.
func later(latest int64, e *Event) int64 {
	at := e.At.UnixMilli()
	if e.Kind == KindClock {
		return at
	}
	return max(latest, at)
}
