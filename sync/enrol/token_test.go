package enrol

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func aToken() Token {
	t := Token{Address: "https://hub.example.jp:8443", Scope: "arena-2026", Terminal: "1番ゲート", Expires: time.Unix(1800000000, 0).UTC()}
	for i := range t.CA {
		t.CA[i] = byte(i)
	}
	for i := range t.Secret {
		t.Secret[i] = byte(0xF0 + i)
	}
	return t
}

// The form is a promise: a token of one program is read by the other.
const theToken = "gate1.hngbaHR0cHM6Ly9odWIuZXhhbXBsZS5qcDo4NDQzWCAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH2phcmVuYS0yMDI2bTHnlarjgrLjg7zjg4hQ8PHy8_T19vf4-fr7_P3-_xprSdIACx5vHA"

func TestTokenIsReadAsItWasWritten(t *testing.T) {
	text, err := aToken().Text()
	if err != nil {
		t.Fatal(err)
	}
	if text != theToken {
		t.Errorf("written as %s", text)
	}
	got, err := ParseToken(" " + theToken + "\n")
	if err != nil || got != aToken() {
		t.Errorf("read as %+v, %v", got, err)
	}
}

// What a person copies is found out when it is not whole, and what is wrong never says
// what was copied.
func TestMistakesOfCopyingAreFound(t *testing.T) {
	for i := range len(theToken) {
		for _, text := range []string{theToken[:i], theToken[:i] + "x" + theToken[i:], theToken[:i] + theToken[i+1:]} {
			got, err := ParseToken(text)
			if !errors.Is(err, ErrToken) || got != (Token{}) {
				t.Fatalf("%q: %v", text, err)
			}
			if len(text) > len(tokenPrefix) && strings.Contains(err.Error(), text) {
				t.Fatal("the error tells the token")
			}
		}
	}
}

func TestTokenThatNoTerminalWouldTakeIsNotWritten(t *testing.T) {
	for name, change := range map[string]func(*Token){
		"plain http":    func(t *Token) { t.Address = "http://hub.example.jp" },
		"a path":        func(t *Token) { t.Address += "/x" },
		"a user":        func(t *Token) { t.Address = "https://a@hub.example.jp" },
		"no host":       func(t *Token) { t.Address = "https://:8443" },
		"no scope":      func(t *Token) { t.Scope = "" },
		"a long name":   func(t *Token) { t.Terminal = strings.Repeat("x", 65) },
		"a line break":  func(t *Token) { t.Terminal = "a\nb" },
		"before Unix":   func(t *Token) { t.Expires = time.Unix(-1, 0) },
		"a long adress": func(t *Token) { t.Address = "https://" + strings.Repeat("x", 300) },
	} {
		bad := aToken()
		change(&bad)
		if _, err := bad.Text(); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
}

// A text that is a token is the one text of that token.
func FuzzToken(f *testing.F) {
	f.Add(theToken)
	f.Add("gate1.")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseToken(text)
		if err != nil {
			return
		}
		if again, err := got.Text(); err != nil || again != strings.TrimSpace(text) {
			t.Errorf("%q is written as %q, %v", text, again, err)
		}
	})
}

// A body that is read is of this version, and bounded.
func FuzzRequest(f *testing.F) {
	f.Add(`{"version":1,"secret":"AAAA","scope":"s","terminal":"t","csr":"AAAA"}`)
	f.Add(`{"version":2}`)
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ReadRequest(strings.NewReader(text))
		if err == nil && (q.Version != Version || len(text) > MaxRequest) {
			t.Errorf("%d bytes of version %d were read", len(text), q.Version)
		}
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
			t.Error(err)
		}
	})
}
