package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gate-agent/gate-agent/nfc/pcsc"
)

// A readersReport says what a lane has to work with.
type readersReport struct {
	text  string
	ready bool // it has a reader
}

// describeReaders asks pcscd for the lane's readers, which patterns name.
func describeReaders(ctx context.Context, lane *pcsc.Lane, patterns []string) readersReport {
	status, err := lane.Status(ctx)
	switch {
	case errors.Is(err, pcsc.ErrNoService), errors.Is(err, context.DeadlineExceeded):
		return readersReport{text: "none: pcscd does not answer; is it running (systemctl status pcscd.socket)?"}
	case err != nil:
		return readersReport{text: "none: " + err.Error()}
	case len(status.Slots) == 0 && len(patterns) > 0:
		return readersReport{text: fmt.Sprintf("none: pcscd has no reader of the name %q", patterns)}
	case len(status.Slots) == 0:
		return readersReport{text: "none: pcscd has no reader; is one plugged in?"}
	}
	names := make([]string, len(status.Slots))
	for i, s := range status.Slots {
		names[i] = s.Name
	}
	return readersReport{strings.Join(names, ", "), true}
}
