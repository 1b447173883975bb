package cardauth_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// A certificate ends on a birthday, and errors reach logs.
func TestExpiryTellsNoDate(t *testing.T) {
	b, err := os.ReadFile("../../testdata/cards/expired.json")
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	head, err := cardauth.ParseHead(img.AuthenticationCertificate())
	if err != nil {
		t.Fatal(err)
	}
	from, to := head.Validity()
	for _, at := range []time.Time{from.Add(-time.Second), to.Add(time.Second)} {
		err := cardauth.CheckValidity(head, at)
		if !errors.Is(err, cardauth.ErrExpired) || strings.ContainsAny(err.Error(), "0123456789") {
			t.Errorf("at %v: %v", at, err)
		}
	}
	for _, at := range []time.Time{from, to} {
		if err := cardauth.CheckValidity(head, at); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
	}
}
