package claims

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// The words of docs/claims.md.
func TestTheFormatIsTheOneOfItsPage(t *testing.T) {
	const line = `{"version":1,"kind":"entry","entitlement":"ticket-1","terminal":"north","incarnation":"000102030405060708090a0b0c0d0e0f","id":"r4","gate":"north","zone":"hall","at":"2026-04-01T12:00:00Z","people":1,"late":true,"reservation":4}`
	if got := Token("demo-hall", "ticket-1"); got != "bf27f998f483a08395f0ca5c3e2c81ad" {
		t.Errorf("token %s", got)
	}
	r := entry(north, "r4", 1)
	r.Entitlement, r.Late, r.Reservation = "ticket-1", true, 4
	got, err := r.Encode()
	if err != nil || string(got) != line {
		t.Errorf("%s (%v)\nwant %s", got, err, line)
	}
	again, err := Parse("demo-hall", Token("demo-hall", "ticket-1"), []byte(line))
	if err != nil || again != r {
		t.Errorf("%+v (%v)", again, err)
	}
}

func TestARecordThatCannotBeReadIsNone(t *testing.T) {
	good, err := entry(north, "a", 2).Encode()
	if err != nil {
		t.Fatal(err)
	}
	token := Token("s", "t")
	bent := func(change func(map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	set := func(name string, v any) []byte { return bent(func(m map[string]any) { m[name] = v }) }
	for name, b := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("x"), "half": good[:len(good)/2], "a list": []byte("[]"), "null": []byte("null"),
		"two": append(bytes.Clone(good), good...), "no UTF-8": bytes.Replace(good, []byte("hall"), []byte("\xff"), 1),
		"a later version": set("version", 2), "no version": set("version", nil), "unknown kind": set("kind", "transfer"),
		"no terminal": set("terminal", ""), "no id": set("id", nil), "no instant": set("at", nil), "an instant of another sort": set("at", "noon"),
		"incarnation": set("incarnation", "0"), "incarnation in capitals": set("incarnation", "000102030405060708090A0B0C0D0E0F"),
		"nobody": set("people", 0), "fewer than nobody": set("people", -1), "too many": set("people", int64(1)<<32), "more come back than come": set("reentry", 3),
		"an entry that settles": set("of", 1), "settles nothing": set("kind", "settle"), "another's": set("entitlement", "u"),
		"too long": set("gate", strings.Repeat("g", MaxRecord)),
	} {
		if r, err := Parse("s", token, b); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := Parse("s", token, set("new", "member")); err != nil {
		t.Errorf("a member that came later: %v", err)
	}
	for _, bad := range []Record{{}, entry(north, "", 1), entry(north, "\xff", 1), entry(north, strings.Repeat("i", MaxRecord), 1)} {
		if b, err := bad.Encode(); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s was written: %v", b, err)
		}
	}
}

func TestAKeyHasOneForm(t *testing.T) {
	token := Token("s", "t")
	for _, n := range []uint64{1, 9, MaxNumber} {
		if got, m, err := ParseKey(Key(token, n)); err != nil || got != token || m != n {
			t.Errorf("%d: %s %d %v", n, got, m, err)
		}
	}
	for _, key := range []string{"", ".", token, token + ".", token + ".0", token + ".01", token + ".-1", token + ".+1", token + ".1.2", token + ".1073741825",
		strings.ToUpper(token) + ".1", token[1:] + ".1", token + "0.1"} {
		if _, _, err := ParseKey(key); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%q is a key", key)
		}
	}
}

// Whatever is read can be written, and is the same then.
func FuzzParse(f *testing.F) {
	for _, r := range []Record{entry(north, "a", 2), exit(south, "r9", 1), settle(north, "a", 1, 0)} {
		b, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if errors.Is(err, ErrUnreadable) && len(b) > MaxRecord/6 {
			return // what is escaped grows
		}
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		s, err := parse(again)
		if third, _ := s.Encode(); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%q became %q: %v", again, third, err)
		}
	})
}
