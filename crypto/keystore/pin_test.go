package keystore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A token would take a line ending of another system for a part of the PIN, and
// count a wrong one.
func TestPINWithAnotherSystemsLineEndingIsNotSent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin")
	for content, good := range map[string]bool{
		"1234": true, "1234\n": true, "pass word": true, "鍵": true,
		"1234\r\n": false, "1234\r": false, "1234\n\n": false, "\xEF\xBB\xBF1234": false, "12\t34\n": false,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		pin, err := (&pinSource{path: file}).read("token")
		switch {
		case good && (err != nil || string(pin) != strings.TrimSuffix(content, "\n")):
			t.Errorf("%q: %q, %v", content, pin, err)
		case !good && (!errors.Is(err, ErrKeySource) || pin != nil || strings.Contains(err.Error(), "1234")):
			t.Errorf("%q: %q, %v", content, pin, err)
		}
	}
}

// A token that has no flag for it would be sent the first wrong PIN again, when
// somebody has tried another one meanwhile.
func TestNoWrongPINOfATokenIsForgotten(t *testing.T) {
	m := &p11Module{wrong: make(map[tokenPIN]bool)}
	m.called("a", []byte("1"), false)
	m.called("a", []byte("2"), false)
	m.called("b", []byte("3"), false)
	for _, pin := range []string{"1", "2"} {
		if !m.calledWrong("a", []byte(pin)) {
			t.Errorf("%s would be sent again", pin)
		}
	}
	m.called("a", []byte("4"), true)
	if m.calledWrong("a", []byte("1")) || !m.calledWrong("b", []byte("3")) {
		t.Error("a right PIN says nothing of the other token, and gives its own all tries again")
	}
}

// Two programs that open a key at the same time do so one after the other: else both
// find that no try is missing, and send a wrong PIN each.
func TestPINIsSentByOneProgramAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := &pinSource{path: file}, &pinSource{path: file} // of a process each
	err := a.alone(t.Context(), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := b.alone(ctx, func() error { t.Error("both are at it"); return nil }); !errors.Is(err, ErrAbsent) {
			t.Errorf("the other: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	ran := false
	if err := b.alone(t.Context(), func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("afterwards: %v, %v", err, ran)
	}
}
