package staff

import (
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// Wrong tries in a row, after which a name waits before each further one.
const (
	FreeTries = 5
	Wait      = 30 * time.Second
)

// maxStrangers bounds the names without a member whose tries are counted. Those
// that come after share one count.
const maxStrangers = 4096

// ErrPasscode says that the roster has no such name, or that its passcode is
// another: whoever guesses does not learn which.
var ErrPasscode = errors.New("name or passcode is wrong")

// A WaitError says that a name has to wait after wrong tries. The passcode was
// not looked at.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("too many wrong tries in a row: wait %d s", (e.For+time.Second-1)/time.Second)
}

// tries are those of one name since its passcode was right.
type tries struct {
	wrong int
	last  time.Time // of the wrong ones
}

// Identify returns the member of that name and passcode. A name that nobody has
// takes as long, gets the same answers and waits in the same way. The error is
// ErrPasscode or a *WaitError.
func (r *Roster) Identify(name, passcode string) (terminal.Staff, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.members[name]
	count := name
	if _, counted := r.tries[name]; !known && !counted && len(r.tries) >= maxStrangers {
		count = ""
	}
	t := r.tries[count]
	// A clock that was set back lets nobody wait longer than Wait.
	if passed := r.now().Sub(t.last); t.wrong >= FreeTries && passed >= 0 && passed < Wait {
		return terminal.Staff{}, &WaitError{Wait - passed}
	}
	if !known {
		m.passcode = cost
		m.passcode.salt, m.passcode.sum = make([]byte, saltSize), make([]byte, sumSize)
	}
	if right := m.passcode.is([]byte(passcode)); !right || !known {
		r.tries[count] = tries{t.wrong + 1, r.now()}
		return terminal.Staff{}, ErrPasscode
	}
	delete(r.tries, name)
	return m.Staff, nil
}
