package whitelist

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestOrderHead(t *testing.T) {
	for number, want := range map[string]string{
		"ABC12":                 "ABC12",
		" abc12\t":              "ABC12",
		"\u3000a-1\u3000":       "A-1",
		"-":                     "-",
		"Z9":                    "Z9",
		strings.Repeat("a", 32): strings.Repeat("A", 32),
		strings.Repeat("a", 33): "",
		"":                      "",
		"  ":                    "",
		"AB C12":                "",
		"ABC_12":                "",
		"ABC12\x00":             "",
		"ſ":                     "", // in capitals an S
		"ＡＢＣ":                   "",
		"A\xff":                 "",
	} {
		head, err := OrderHead(number)
		if want == "" {
			if err == nil || head != nil {
				t.Errorf("%q is a number: %q", number, head)
			}
			continue
		}
		if err != nil || string(head) != "gate-agent/order/v1\x00"+want {
			t.Errorf("%q: %q, %v", number, head, err)
		}
	}
}

// Order numbers can be guessed, so that what lies under one lies open to whoever
// holds the scope key.
func TestOrderHasNoKeysAndNoBirthDate(t *testing.T) {
	scopeKey := scopeKey(t)
	for name, set := range map[string]func(*Row){
		"auth key":   func(r *Row) { r.AuthKey = key(p384Key(1)) },
		"card key":   func(r *Row) { r.CardKey = key(p384Key(1)) },
		"birth date": func(r *Row) { r.BirthDate = "19840229" },
	} {
		r := Row{Status: Active, Entitlements: []Entitlement{{ID: "a"}}}
		set(&r)
		if err := Write(io.Discard, listKey, scopeKey, venueManifest(), []Listed{{order("A"), r}}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is written: %v", name, err)
		}
		plain, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := scopeKey.Seal(scope, 1, order("A"), plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRow(scopeKey, scope, order("A"), sealed); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}
