package terminal

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// On a busy machine nobody may get to run in time to revoke a permit.
func TestPermitEndsWithItsDeadlineThoughNobodyRevokesIt(t *testing.T) {
	for late, want := range map[time.Duration]error{0: nil, 1: ErrNoPermit, time.Minute: ErrNoPermit} {
		synctest.Test(t, func(t *testing.T) {
			p := newPermit(time.Now().Add(time.Second))
			time.Sleep(time.Second + late)
			if err := p.Spend(); !errors.Is(err, want) {
				t.Errorf("%v late: %v, want %v", late, err, want)
			}
			if certain := p.Revoke(); certain != (want != nil) {
				t.Errorf("%v late: certain that the relay did not move: %v", late, certain)
			}
		})
	}
}
