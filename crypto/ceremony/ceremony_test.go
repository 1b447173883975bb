package ceremony

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// The signed vector is made by: go test ./crypto/ceremony -run TestTranscriptVector -update
// What is signed in it is made by testdata/gen/ceremony_vectors.py, from the
// documents and apart from this program.
var update = flag.Bool("update", false, "write the signed vector anew")

// The format is fixed: proof, check value and encoding give the bytes that another
// program computed, and a transcript of yesterday verifies today.
func TestTranscriptVector(t *testing.T) {
	want := good(t)
	msg := sign(t, want)
	name := filepath.Join("..", "..", "testdata", "vectors", "ceremony", "external-auth.cose")
	if *update {
		if err := os.WriteFile(name, msg, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(msg, readFile(t, "vectors", "ceremony", "external-auth.cose")) {
		t.Error("the transcript is signed differently from the stored one")
	}
	payload := readFile(t, "vectors", "ceremony", "external-auth.cbor")
	if !bytes.Contains(msg, payload) {
		t.Error("what is signed differs from what was computed")
	}
	got, err := Verify(identity.Public(), msg)
	if err != nil {
		t.Fatal(err)
	}
	if want.proof = got.proof; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got.KCV() != "C51D-1C23-AC02-3278" {
		t.Errorf("check value %s", got.KCV())
	}
}

func TestTranscriptOfEveryTypeOfKey(t *testing.T) {
	for _, kt := range []keystore.KeyType{keystore.RSA2048, keystore.Ed25519, keystore.P256, keystore.P384} {
		dir := t.TempDir()
		source := filepath.Join(dir, "source")
		if err := keystore.GenerateKeySource(source); err != nil {
			t.Fatal(err)
		}
		var store keystore.Store
		uri := "sealed:path=" + dir + "/key;key-source=" + source
		if _, err := store.Generate(t.Context(), uri, keystore.Identity, kt); err != nil {
			t.Fatal(err)
		}
		key, err := store.OpenSigner(t.Context(), uri, keystore.Identity)
		if err != nil {
			t.Fatal(err)
		}
		r := good(t)
		r.Public = key.Public()
		msg, err := Sign(identity, key, r)
		if err != nil {
			t.Fatalf("%s: %v", kt, err)
		}
		if got, err := Verify(identity.Public(), msg); err != nil || got.KeyType() != kt {
			t.Errorf("%s: %s, %v", kt, got.KeyType(), err)
		}
	}
}

func TestTranscriptOfAnotherTerminalIsRefused(t *testing.T) {
	if _, err := Verify(another.Public(), sign(t, good(t))); !errors.Is(err, sign1.ErrUnknownKey) {
		t.Error(err)
	}
}

func TestSignatureForAnotherRoleIsNoTranscript(t *testing.T) {
	msg, err := sign1.Sign(nil, sign1.RoleRegistration, identity, readFile(t, "vectors", "ceremony", "external-auth.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(identity.Public(), msg); !errors.Is(err, sign1.ErrSignature) {
		t.Error(err)
	}
}

// A terminal cannot say of somebody else's key that it was made there, nor change
// afterwards what the key has signed.
func TestTranscriptWithoutTheKeyIsRefused(t *testing.T) {
	for name, change := range map[string]func(map[uint64]any){
		"another terminal":   func(m map[uint64]any) { m[1] = "gate-2" },
		"another nonce":      func(m map[uint64]any) { m[15] = make([]byte, 32) },
		"not exportable":     func(m map[uint64]any) { m[14] = false },
		"another person":     func(m map[uint64]any) { m[7].([]any)[1].(map[any]any)[uint64(1)] = "John Doe" },
		"signature of zeros": func(m map[uint64]any) { m[17] = make([]byte, 256) },
		"shorter signature":  func(m map[uint64]any) { m[17] = m[17].([]byte)[1:] },
	} {
		m := members(t)
		change(m)
		if _, err := Verify(identity.Public(), signed(t, m)); !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The key that was made does not vouch for itself.
func TestKeyIsNotItsOwnTerminal(t *testing.T) {
	r := good(t)
	r.Public = identity.Public()
	if msg, err := Sign(identity, identity, r); !errors.Is(err, ErrMalformed) {
		t.Errorf("%x, %v", msg, err)
	}
}

func TestTranscriptOfAnotherKeyIsNotSigned(t *testing.T) {
	r := good(t)
	r.Public = another.Public()
	if _, err := Sign(identity, made(t), r); err == nil {
		t.Error("signed")
	}
}

// members decodes the vector into its members, so that a test may write others.
func members(t *testing.T) map[uint64]any {
	t.Helper()
	var m map[uint64]any
	if err := cbor.Unmarshal(readFile(t, "vectors", "ceremony", "external-auth.cbor"), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	b, err := codec.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func signed(t *testing.T, v any) []byte {
	t.Helper()
	msg, err := sign1.Sign(nil, sign1.RoleCeremony, identity, encoded(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// There is one form of transcript, also for a terminal that is trusted.
func TestMalformedTranscriptsAreRefused(t *testing.T) {
	if !bytes.Equal(encoded(t, members(t)), readFile(t, "vectors", "ceremony", "external-auth.cbor")) {
		t.Fatal("the members do not encode to the transcript")
	}
	person := func(m map[uint64]any, i int) map[any]any { return m[7].([]any)[i].(map[any]any) }
	step := func(m map[uint64]any, i int) map[any]any { return m[16].([]any)[i].(map[any]any) }
	for name, change := range map[string]func(map[uint64]any){
		"version 0":            func(m map[uint64]any) { m[0] = 0 },
		"version 2":            func(m map[uint64]any) { m[0] = 2 },
		"an unknown member":    func(m map[uint64]any) { m[18] = 1 },
		"no terminal":          func(m map[uint64]any) { delete(m, 1) },
		"long scope":           func(m map[uint64]any) { m[2] = strings.Repeat("x", 65) },
		"scope of two lines":   func(m map[uint64]any) { m[2] = "demo\nhall" },
		"unknown hierarchy":    func(m map[uint64]any) { m[3] = "tests" },
		"time 0":               func(m map[uint64]any) { m[5] = 0 },
		"end before the start": func(m map[uint64]any) { m[6] = m[5].(uint64) - 1 },
		"end beyond 9999":      func(m map[uint64]any) { m[6] = uint64(lastMilli + 1) },
		"end that overflows":   func(m map[uint64]any) { m[6] = ^uint64(0) },
		"one person":           func(m map[uint64]any) { m[7] = m[7].([]any)[:1] },
		"three people":         func(m map[uint64]any) { m[7] = append(m[7].([]any), m[7].([]any)[0]) },
		"one name twice":       func(m map[uint64]any) { person(m, 0)[uint64(1)] = "JANE DOE" },
		"name with two spaces": func(m map[uint64]any) { person(m, 0)[uint64(1)] = "Jan  Doe" },
		"empty name":           func(m map[uint64]any) { person(m, 0)[uint64(1)] = "" },
		"name of 65":           func(m map[uint64]any) { person(m, 0)[uint64(1)] = strings.Repeat("山", 65) },
		"two witnesses":        func(m map[uint64]any) { person(m, 0)[uint64(2)] = "witness" },
		"purpose wrap":         func(m map[uint64]any) { m[8] = "wrap" },
		"no medium":            func(m map[uint64]any) { m[9] = "" },
		"no custody":           func(m map[uint64]any) { m[10] = "" },
		"another type":         func(m map[uint64]any) { m[11] = "ed25519" },
		"no key":               func(m map[uint64]any) { delete(m, 12) },
		"key cut short":        func(m map[uint64]any) { m[12] = m[12].([]byte)[:100] },
		"another check value":  func(m map[uint64]any) { m[13] = "0000-0000-0000-0000" },
		"exportable as number": func(m map[uint64]any) { m[14] = 1 },
		"null exportable":      func(m map[uint64]any) { m[14] = nil },
		"short nonce":          func(m map[uint64]any) { m[15] = make([]byte, 31) },
		"no steps":             func(m map[uint64]any) { m[16] = []any{} },
		"a step less":          func(m map[uint64]any) { m[16] = m[16].([]any)[:5] },
		"one confirms twice":   func(m map[uint64]any) { step(m, 3)[uint64(3)] = 1 },
		"steps exchanged":      func(m map[uint64]any) { s := m[16].([]any); s[4], s[5] = s[5], s[4] },
		"step back in time":    func(m map[uint64]any) { step(m, 5)[uint64(2)] = m[5] },
		"no tries":             func(m map[uint64]any) { delete(step(m, 2), uint64(4)) },
		"four tries":           func(m map[uint64]any) { step(m, 2)[uint64(4)] = 4 },
		"tries that overflow":  func(m map[uint64]any) { step(m, 2)[uint64(4)] = ^uint64(0) },
		"tries of no typing":   func(m map[uint64]any) { step(m, 1)[uint64(4)] = 1 },
		"null tries":           func(m map[uint64]any) { step(m, 1)[uint64(4)] = nil },
		"no proof":             func(m map[uint64]any) { delete(m, 17) },
		"empty proof":          func(m map[uint64]any) { m[17] = []byte{} },
		"long proof":           func(m map[uint64]any) { m[17] = make([]byte, 513) },
	} {
		m := members(t)
		change(m)
		if got, err := Verify(identity.Public(), signed(t, m)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	whole := encoded(t, members(t))
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"a byte behind it":     append(bytes.Clone(whole), 0),
		"of indefinite length": append(append([]byte{0xBF}, whole[1:]...), 0xFF),
		"tagged":               append([]byte{0xD8, 0x64}, whole...),
	} {
		if got, err := decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// A key of a size that this program does not use is none that a ceremony makes.
func TestTranscriptOfAForeignKeyIsNotSigned(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	r := good(t)
	r.Public = key.Public()
	if _, err := Sign(identity, key, r); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestZeroTranscriptIsNotSigned(t *testing.T) {
	if _, err := Sign(identity, made(t), Transcript{}); err == nil {
		t.Error("signed")
	}
	if _, err := Sign(identity, made(t), Transcript{Public: made(t).Public()}); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// FuzzTranscript: what parses encodes to the same bytes.
func FuzzTranscript(f *testing.F) {
	f.Add(readFile(f, "vectors", "ceremony", "external-auth.cbor"))
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

// FuzzVerify: nothing is a transcript that the terminal did not sign, and of what it
// signs only what the key that was made has signed: the fuzzer's bytes are tried as
// a message, and as what a trusted terminal signs.
func FuzzVerify(f *testing.F) {
	msg, payload := readFile(f, "vectors", "ceremony", "external-auth.cose"), readFile(f, "vectors", "ceremony", "external-auth.cbor")
	f.Add(msg)
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Verify(identity.Public(), b); err == nil && !bytes.Equal(b, msg) {
			t.Fatalf("message %x", b)
		}
		signed, err := sign1.Sign(nil, sign1.RoleCeremony, identity, b)
		if err != nil {
			return // too long
		}
		if _, err := Verify(identity.Public(), signed); err == nil && !bytes.Equal(b, payload) {
			t.Fatalf("signed %x", b)
		}
	})
}

func TestNamesAreComparedAsPeopleReadThem(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"Jane Doe", "jane  doe ", true}, {"山田　花子", "山田 花子", true}, {"山田 花子", "山田 太郎", false}, {"A", "B", false},
	} {
		if SameName(c.a, c.b) != c.same {
			t.Errorf("%q and %q", c.a, c.b)
		}
	}
	if !time.UnixMilli(lastMilli).UTC().Equal(time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)) {
		t.Error("lastMilli")
	}
}
