package sign1

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// The vectors are made by: go test ./crypto/sign1 -run TestVectors -update
var update = flag.Bool("update", false, "write the vectors anew")

var vectorFile = filepath.Join("..", "..", "testdata", "vectors", "sign1", "vectors.json")

// A vector is a message and what Verify(Role, Message) answers when PublicKey is
// trusted for KeyRole in Scope: Payload, or the error named by Error.
type vector struct {
	Name      string   `json:"name"`
	PublicKey string   `json:"public_key"`
	KeyRole   Role     `json:"key_role"`
	Scope     string   `json:"scope"`
	Role      Role     `json:"role"`
	Message   hexBytes `json:"message"`
	Payload   hexBytes `json:"payload,omitempty"`
	Error     string   `json:"error,omitempty"`
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

var vectorErrors = map[string]error{
	"malformed":   ErrMalformed,
	"unknown key": ErrUnknownKey,
	"role":        ErrRole,
	"signature":   ErrSignature,
}

func TestVectors(t *testing.T) {
	if *update {
		text, err := json.MarshalIndent(makeVectors(t), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(text, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]bool)
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			pub, err := ParsePublicKey([]byte(v.PublicKey))
			if err != nil {
				t.Fatal(err)
			}
			p, err := mustKeys(t, Key{Public: pub, Role: v.KeyRole, Scope: v.Scope}).Verify(v.Role, v.Message)
			seen[v.Error] = true
			if v.Error != "" {
				want, ok := vectorErrors[v.Error]
				if !ok {
					t.Fatalf("no error is called %q", v.Error)
				}
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.Bytes(), v.Payload) || p.Role() != v.Role || p.Scope() != v.Scope {
				t.Errorf("got %x, role %q, scope %q", p.Bytes(), p.Role(), p.Scope())
			}
		})
	}
	if want := len(vectorErrors) + 1; len(seen) != want {
		t.Errorf("the vectors show %d of %d outcomes", len(seen), want)
	}
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(text, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) == 0 {
		t.Fatal("no vectors")
	}
	return vs
}

func makeVectors(t *testing.T) []vector {
	payload := []byte("gate-agent test payload")
	keys := testKeys(t)
	pem := func(name string) string {
		text, err := MarshalPublicKey(keys[name].Public())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	base := func(name, alg string) vector {
		return vector{Name: name, PublicKey: pem(alg), KeyRole: RoleList, Scope: "arena", Role: RoleList}
	}
	var vs []vector
	for _, alg := range []string{"EdDSA", "ES256", "ES384"} {
		v := base(alg+" good", alg)
		msg, err := Sign(nil, RoleList, keys[alg], payload)
		if err != nil {
			t.Fatal(err)
		}
		v.Message, v.Payload = msg, payload
		vs = append(vs, v)
	}
	good := bytes.Clone(vs[0].Message)
	bad := func(name, error string, message []byte) {
		v := base(name, "EdDSA")
		v.Message, v.Error = message, error
		vs = append(vs, v)
	}
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	at := bytes.Index(good, payload)
	bad("payload changed", "signature", flip(at))
	bad("signature changed", "signature", flip(len(good)-1))
	bad("kid changed", "unknown key", flip(12))
	bad("empty", "malformed", nil)
	bad("truncated", "malformed", good[:len(good)-1])
	bad("a byte behind the message", "malformed", append(bytes.Clone(good), 0))
	bad("tag 98 instead of 18", "malformed", append([]byte{0xd8, 98}, good[1:]...))
	bad("without a tag", "malformed", good[1:])
	bad("array of indefinite length", "malformed", append(append([]byte{0xd2, 0x9f}, good[2:]...), 0xff))
	bad("payload length in two bytes", "malformed",
		bytes.Replace(good, append([]byte{0x57}, payload...), append([]byte{0x58, 0x17}, payload...), 1))
	bad("detached payload", "malformed", bytes.Replace(good, append([]byte{0x57}, payload...), []byte{0xf6}, 1))

	v := base("signed for another role", "EdDSA")
	msg, err := Sign(nil, "command", keys["EdDSA"], payload)
	if err != nil {
		t.Fatal(err)
	}
	v.Message, v.Error = msg, "signature"
	vs = append(vs, v)
	v = base("key of another role", "EdDSA")
	v.KeyRole, v.Message, v.Error = "command", good, "role"
	vs = append(vs, v)

	// Correctly signed, with headers this package does not accept.
	id, err := KeyID(keys["EdDSA"].Public())
	if err != nil {
		t.Fatal(err)
	}
	signed := func(protected []byte, unprotected map[int]any) []byte {
		tbs, err := cbor.Marshal([]any{"Signature1", protected, RoleList.externalAAD(), payload})
		if err != nil {
			t.Fatal(err)
		}
		sig, err := keys["EdDSA"].Sign(nil, tbs, crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		msg, err := cbor.Marshal(cbor.Tag{Number: 18, Content: []any{protected, unprotected, payload, sig}})
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	none := map[int]any{}
	hdr := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	alg, kid := []byte{0x01, 0x27}, hdr([]byte{0x04, 0x58, 0x20}, id[:])
	if !bytes.Equal(signed(hdr([]byte{0xa2}, alg, kid), none), good) {
		t.Fatal("the hand-made message differs from Sign's")
	}
	for _, c := range []struct {
		name      string
		protected []byte
	}{
		{"no algorithm", hdr([]byte{0xa1}, kid)},
		{"no kid", hdr([]byte{0xa1}, alg)},
		{"empty protected header", nil},
		{"kid of 16 bytes", hdr([]byte{0xa2}, alg, []byte{0x04, 0x50}, id[:16])},
		{"algorithm PS256", hdr([]byte{0xa2, 0x01, 0x38, 0x24}, kid)},
		{"algorithm ES256 with an Ed25519 key", hdr([]byte{0xa2, 0x01, 0x26}, kid)},
		{"algorithm as text", hdr([]byte{0xa2, 0x01, 0x65}, []byte("EdDSA"), kid)},
		{"algorithm twice", hdr([]byte{0xa3}, alg, alg, kid)},
		{"headers in another order", hdr([]byte{0xa2}, kid, alg)},
		{"label in a longer form", hdr([]byte{0xa2, 0x18}, alg, kid)},
		{"a further header", hdr([]byte{0xa3}, alg, []byte{0x03, 0x18, 0x3c}, kid)},
		{"critical header", hdr([]byte{0xa3}, alg, []byte{0x02, 0x81, 0x04}, kid)},
		{"header of indefinite length", hdr([]byte{0xbf}, alg, kid, []byte{0xff})},
		{"tagged kid", hdr([]byte{0xa2}, alg, []byte{0x04, 0xd8, 0x25, 0x58, 0x20}, id[:])},
	} {
		bad(c.name, "malformed", signed(c.protected, none))
	}
	bad("unprotected header not empty", "malformed",
		signed(hdr([]byte{0xa2}, alg, kid), map[int]any{5: []byte("iv")}))
	return vs
}
