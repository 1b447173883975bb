package main

import (
	"strings"
	"testing"
)

// A lane that takes the terminal's key card for a person's would lock everybody out,
// and a person's card in its place must not be sent the terminal's PIN.
func TestCardWithAKeyIsInNoLane(t *testing.T) {
	const (
		direct = "scard:reader=SAM%2000%2000;aid=D392F000260100000001;key=17?pin-source=/p"
		module = "pkcs11:module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so;token=t;id=01?pin-source=/p"
		named  = "pkcs11:module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so;token=t;slot-description=SAM%2000%2000;id=01?pin-source=/p"
		hsm    = "pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=t;id=01?pin-source=/p"
	)
	for _, c := range []struct {
		uri   string
		slots []string
		want  string // "": no error
	}{
		{direct, nil, "name the readers of people's cards"},
		{direct, []string{"Gate 00 00"}, ""},
		{direct, []string{"Gate 00 00", "SAM*"}, `with "SAM*"`},
		{direct, []string{"SAM 00 00"}, `with "SAM 00 00"`},
		{module, nil, "name the readers of people's cards"},
		{module, []string{"*"}, ""}, // the URI does not say where
		{named, []string{"*"}, `with "*"`},
		{named, []string{"Gate 00 00"}, ""},
		{hsm, nil, ""},
		{"", nil, ""},
	} {
		var cfg config
		cfg.Reader.Slots = c.slots
		err := cfg.checkKeyReader("external_auth.key", c.uri)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s in %q: %v, want %q", c.uri, c.slots, err, c.want)
		}
	}
}
