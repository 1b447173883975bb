package cardid

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// The vectors are made by: go test ./crypto/cardid -run TestVectors -update
var update = flag.Bool("update", false, "write the vectors anew")

var vectorFile = filepath.Join("..", "..", "testdata", "vectors", "cardid", "vectors.json")

var secret = []byte("0123456789abcdef0123456789ABCDEF")

func testKey(t testing.TB, secret []byte) ScopeKey {
	t.Helper()
	k, err := NewScopeKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestScopeKeyNeverPrintsItself(t *testing.T) {
	k := testKey(t, secret)
	held := struct {
		Exported   ScopeKey
		unexported ScopeKey
		pointer    *ScopeKey
	}{k, k, &k}
	var all strings.Builder
	for _, v := range []any{k, &k, held, &held, []ScopeKey{k}, map[string]any{"k": k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b"} {
			fmt.Fprintf(&all, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	out := strings.ToLower(all.String())
	for _, key := range [][]byte{secret, (*k.k).id[:], (*k.k).row[:]} {
		for _, form := range []string{hex.EncodeToString(key), string(key), fmt.Sprint(key), strings.Trim(fmt.Sprintf("%#v", key), "[]byte{}")} {
			if strings.Contains(out, strings.ToLower(form)) {
				t.Errorf("printed: %.20s…", form)
			}
		}
	}
}

func TestScopeKeyHas32Bytes(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := NewScopeKey(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are a key", n)
		}
	}
}

func TestZeroScopeKeySealsNothing(t *testing.T) {
	var k ScopeKey
	if _, err := k.Seal("s", 1, []byte("h"), nil); err == nil {
		t.Error("sealed")
	}
	if _, err := k.Open("s", []byte("h"), make([]byte, 128+Overhead)); err == nil {
		t.Error("opened")
	}
	defer func() {
		if recover() == nil {
			t.Error("the zero key has CardIDs")
		}
	}()
	k.ID([]byte("h"))
}

func TestCardIDDependsOnKeyAndHead(t *testing.T) {
	a, b := testKey(t, secret), testKey(t, make([]byte, 32))
	seen := make(map[CardID]bool)
	for _, k := range []ScopeKey{a, b} {
		for _, h := range []string{"", "head", "heae"} {
			seen[k.ID([]byte(h))] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d CardIDs of 6", len(seen))
	}
	if a.Check() == b.Check() || a.Check() == [16]byte{} {
		t.Error("keys are not told apart")
	}
}

func TestSealedRowOpensOnlyAsItWasSealed(t *testing.T) {
	k := testKey(t, secret)
	head, plain := []byte("certificate head"), []byte("row")
	sealed, err := k.Seal("arena", 1, head, plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open("arena", head, sealed); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q, %v", got, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"scope":     func() ([]byte, error) { return k.Open("arenb", head, sealed) },
		"head":      func() ([]byte, error) { return k.Open("arena", head[1:], sealed) },
		"scope key": func() ([]byte, error) { return testKey(t, make([]byte, 32)).Open("arena", head, sealed) },
		"size":      func() ([]byte, error) { return k.Open("arena", head, sealed[:len(sealed)-1]) },
		"nothing":   func() ([]byte, error) { return k.Open("arena", head, nil) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Open("arena", head, bad); !errors.Is(err, ErrSealed) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

func TestSealingIsDeterministicAndNoNonceComesTwice(t *testing.T) {
	k := testKey(t, secret)
	nonces := make(map[string]string)
	for _, scope := range []string{"a", "b"} {
		for epoch := range uint64(3) {
			for _, head := range []string{"h", "hh"} {
				for _, plain := range []string{"", "\x00", "\x80", "p", "pp"} {
					what := fmt.Sprintf("%s %d %s %q", scope, epoch, head, plain)
					one, err := k.Seal(scope, epoch, []byte(head), []byte(plain))
					if err != nil {
						t.Fatal(err)
					}
					two, err := k.Seal(scope, epoch, []byte(head), []byte(plain))
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(one, two) {
						t.Errorf("%s: sealed twice, two results", what)
					}
					n := string(one[:chacha20poly1305.NonceSizeX])
					if other, ok := nonces[n]; ok {
						t.Errorf("one nonce for %s and %s", what, other)
					}
					nonces[n] = what
				}
			}
		}
	}
}

func TestLengthTellsOnlyTheClass(t *testing.T) {
	k := testKey(t, secret)
	lengths := make(map[int]bool)
	for n := 0; n <= MaxPlaintext; n++ {
		plain := make([]byte, n) // zeros, which padding must not swallow
		sealed, err := k.Seal("s", 1, []byte("h"), plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Open("s", []byte("h"), sealed)
		if err != nil || len(got) != n {
			t.Fatalf("%d bytes came back as %d, %v", n, len(got), err)
		}
		lengths[len(sealed)] = true
	}
	if len(lengths) != len(sizes) {
		t.Errorf("%d lengths, %d classes", len(lengths), len(sizes))
	}
	if _, err := k.Seal("s", 1, []byte("h"), make([]byte, MaxPlaintext+1)); err == nil {
		t.Error("more than the largest class was sealed")
	}
}

// Wrongly padded plaintexts, correctly sealed: only a hub gone wrong makes them.
func TestWrongPaddingDoesNotOpen(t *testing.T) {
	k := testKey(t, secret)
	head := []byte("h")
	r, err := k.rowKey("s", head)
	if err != nil {
		t.Fatal(err)
	}
	for name, padded := range map[string][]byte{
		"only zeros": make([]byte, 128),
		"no 80":      bytes.Repeat([]byte{1}, 128),
		"81":         append([]byte{0x81}, make([]byte, 127)...),
	} {
		nonce := make([]byte, chacha20poly1305.NonceSizeX)
		sealed := r.aead.Seal(nonce, nonce, padded, k.associated("s", head))
		if _, err := k.Open("s", head, sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// CardID by hand, from RFC 5869 and RFC 2104: extract with a salt of zeros,
// expand by one block, HMAC.
func TestCardIDIsWhatTheDocumentSays(t *testing.T) {
	mac := func(key []byte, data ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, d := range data {
			h.Write(d)
		}
		return h.Sum(nil)
	}
	prk := mac(make([]byte, 32), secret)
	idKey := mac(prk, []byte("gate-agent/cardid/v1/id"), []byte{1})
	if want := CardID(mac(idKey, []byte("head"))); testKey(t, secret).ID([]byte("head")) != want {
		t.Error("not HKDF and HMAC as documented")
	}
}

type vector struct {
	Secret    string `json:"scope_secret"`
	Check     string `json:"check"`
	Scope     string `json:"scope"`
	Epoch     uint64 `json:"epoch"`
	Head      string `json:"head"`
	CardID    string `json:"card_id"`
	Plaintext string `json:"plaintext"`
	Sealed    string `json:"sealed"`
}

func makeVector(t *testing.T, scope string, epoch uint64, head, plain []byte) vector {
	k := testKey(t, secret)
	sealed, err := k.Seal(scope, epoch, head, plain)
	if err != nil {
		t.Fatal(err)
	}
	check := k.Check()
	return vector{
		hex.EncodeToString(secret), hex.EncodeToString(check[:]), scope, epoch,
		hex.EncodeToString(head), k.ID(head).String(), hex.EncodeToString(plain), hex.EncodeToString(sealed),
	}
}

// What this package seals is fixed: lists outlive programs.
func TestVectors(t *testing.T) {
	made := []vector{
		makeVector(t, "arena", 1, []byte("certificate head"), []byte("row")),
		makeVector(t, "arena", 2, []byte("certificate head"), []byte("row")),
		makeVector(t, "競技場", 1<<63, bytes.Repeat([]byte{0x30}, 249), bytes.Repeat([]byte{0xa5}, 700)),
		makeVector(t, "arena", 1, nil, nil),
	}
	if *update {
		text, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(text, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var stored []vector
	if err := json.Unmarshal(text, &stored); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(made, stored) {
		t.Errorf("sealing has changed: made\n%+v, stored\n%+v", made, stored)
	}
}

// Nothing opens that was not sealed; what opens was sealed from what came out.
func FuzzOpen(f *testing.F) {
	k := testKey(f, secret)
	sealed, err := k.Seal("s", 1, []byte("h"), []byte("p"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("h"), sealed)
	f.Fuzz(func(t *testing.T, head, b []byte) {
		got, err := k.Open("s", head, b)
		if err != nil {
			if got != nil || !errors.Is(err, ErrSealed) {
				t.Fatal(err)
			}
			return
		}
		if again, err := k.Seal("s", 1, head, got); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x opens as %x", b, got)
		}
	})
}

func BenchmarkID(b *testing.B) {
	k, head := testKey(b, secret), make([]byte, 249)
	for b.Loop() {
		k.ID(head)
	}
}

func BenchmarkOpen(b *testing.B) {
	k, head := testKey(b, secret), make([]byte, 249)
	sealed, err := k.Seal("s", 1, head, make([]byte, 700))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := k.Open("s", head, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
