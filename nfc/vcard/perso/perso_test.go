package perso

import (
	"bytes"
	"testing"
	"time"
)

// The head that a terminal reads ends where the public key begins (card-facts
// §5), and the whole certificate is as long as the one §8 measures with.
func TestLeafHasTheLayoutOfCardFacts(t *testing.T) {
	a, err := NewAuthority(nil, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	img, err := a.Card(CardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	der := img.AuthenticationCertificate()
	if got := bytes.Index(der, []byte{0x30, 0x82, 0x01, 0x22}); got != 248 {
		t.Errorf("public key begins at byte %d, want 248", got)
	}
	if len(der) != 1583 {
		t.Errorf("certificate is %d bytes, want 1583", len(der))
	}
}
