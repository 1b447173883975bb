package roles

import (
	"errors"
	"fmt"
)

// ErrOlder: a newer delegation of the scope was seen before. Its keys may be ones that
// the root has taken back.
var ErrOlder = errors.New("delegation older than one before")

// NotBefore says whether the delegation is at least as new as the newest version that
// was seen of its scope. With pinned keys it always is.
func (w Warrant) NotBefore(seen uint64) error {
	if v := w.Delegation.Version; v > 0 && v < seen {
		return fmt.Errorf("%w: version %d, after %d", ErrOlder, v, seen)
	}
	return nil
}
