package whitelist

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// orderPrefix begins the head of an order. A certificate head begins with 30.
const orderPrefix = "gate-agent/order/v1\x00"

// MaxOrder is the longest order number, in bytes.
const MaxOrder = 32

// OrderHead returns what stands for a certificate head where somebody has an
// order number and no card: a list has a row for it like any other.
//
// A number is 1 to MaxOrder ASCII letters, digits and '-'. Small letters and
// spaces around it make no difference.
//
// Unlike a certificate head it can be guessed: whoever holds the scope key and
// a list can try every short number and open these rows. They hold no keys and
// no birth date.
func OrderHead(number string) ([]byte, error) {
	head := []byte(orderPrefix)
	for _, r := range strings.TrimSpace(number) {
		switch {
		case 'a' <= r && r <= 'z':
			r += 'A' - 'a'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-':
		default:
			return nil, errors.New("an order number has letters, digits and '-' only")
		}
		head = append(head, byte(r))
	}
	if n := len(head) - len(orderPrefix); n < 1 || n > MaxOrder {
		return nil, fmt.Errorf("an order number of %d characters, allowed are 1 to %d", n, MaxOrder)
	}
	return head, nil
}

// checkUnder holds r against the head it is listed under.
func (r Row) checkUnder(head []byte) error {
	if bytes.HasPrefix(head, []byte(orderPrefix)) && (!r.AuthKey.IsZero() || !r.CardKey.IsZero() || r.BirthDate != "") {
		return fmt.Errorf("%w: a key or a birth date under an order number", ErrMalformed)
	}
	return nil
}
