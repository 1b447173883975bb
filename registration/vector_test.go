package registration

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// The signed vectors are made by: go test ./registration -run TestRecordVectors -update
// What is signed in them is made by testdata/gen/registration_vectors.py, from
// the documents and apart from this program.
var update = flag.Bool("update", false, "write the signed vectors anew")

// The format is fixed: dialogue, challenges and encoding give the bytes that
// another program computed, and a record of yesterday verifies today.
func TestRecordVectors(t *testing.T) {
	for _, c := range []struct {
		name, image, ticket string
		cardKey             bool
	}{
		{"card", "good.json", "T-000123", true},
		{"phone", "android.json", "", false},
	} {
		img := image(t, c.image)
		r := read(t, card(t, img), c.ticket)
		payload, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(payload, readFile(t, "vectors", "registration", c.name+".cbor")) {
			t.Errorf("%s: the record differs from the computed one", c.name)
		}
		made := sign(t, r)
		name := filepath.Join("..", "testdata", "vectors", "registration", c.name+".cose")
		if *update {
			if err := os.WriteFile(name, made, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		stored := readFile(t, "vectors", "registration", c.name+".cose")
		if !bytes.Equal(made, stored) {
			t.Errorf("%s: the record is signed differently from the stored one", c.name)
		}

		reg, err := hub(t).Verify(stored, at)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		authKey, err := cardkey.New(img.AuthenticationKey())
		if err != nil {
			t.Fatal(err)
		}
		if reg.IsZero() || !reg.AuthKey().Equal(authKey) || !bytes.Equal(reg.Certificate(), img.AuthenticationCertificate()) ||
			!bytes.HasPrefix(reg.Certificate(), reg.Head().Bytes()) ||
			reg.Scope() != scope || reg.Terminal() != terminal || reg.Ticket() != c.ticket || !reg.At().Equal(at) || reg.Token() != r.Token {
			t.Errorf("%s: %+v", c.name, reg)
		}
		if !c.cardKey {
			if !reg.CardKey().IsZero() || !reg.BirthDate().IsZero() {
				t.Errorf("%s: a card key", c.name)
			}
			continue
		}
		cardKey, err := cardkey.New(img.CardKey())
		if err != nil {
			t.Fatal(err)
		}
		if !reg.CardKey().Equal(cardKey) || reg.BirthDate().YYYYMMDD() != "19900401" {
			t.Errorf("%s: another card key or birth date", c.name)
		}
	}
}

// FuzzRecord: what parses encodes to the same bytes.
func FuzzRecord(f *testing.F) {
	for _, name := range []string{"card.cbor", "phone.cbor"} {
		f.Add(readFile(f, "vectors", "registration", name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x parses and encodes to %x, %v", b, again, err)
		}
	})
}

// FuzzVerify: nothing is a registration that the terminal did not sign, and of
// what it signs only what the card has signed: the fuzzer's bytes are tried as a
// message, and as what a trusted terminal signs.
func FuzzVerify(f *testing.F) {
	trust := hub(f)
	messages, bound := make(map[string]bool), make(map[string]bool)
	for _, name := range []string{"card", "phone"} {
		msg, payload := readFile(f, "vectors", "registration", name+".cose"), readFile(f, "vectors", "registration", name+".cbor")
		r, err := decode(payload)
		if err != nil {
			f.Fatal(err)
		}
		messages[string(msg)], bound[r.bound()] = true, true
		f.Add(msg)
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if reg, err := trust.Verify(b, at); err == nil && !messages[string(b)] || reg.IsZero() != (err != nil) {
			t.Fatalf("message %x: %v", b, err)
		}
		msg, err := sign1.Sign(nil, sign1.RoleRegistration, identity, b)
		if err != nil {
			return // too long
		}
		if reg, err := trust.Verify(msg, at); err == nil && !bound[reg.record.bound()] {
			t.Fatalf("signed %x", b)
		}
	})
}

// bound is what the authentication key's signature ties together.
func (r Record) bound() string {
	return fmt.Sprintf("%q %q %q %x %x %x", r.Scope, r.Terminal, r.Ticket, r.Nonce, r.Certificate, r.Authentication)
}
