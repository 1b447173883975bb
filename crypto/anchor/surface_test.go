package anchor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/anchor"
)

// surfaceFile is a key file with one key.
func surfaceFile(hierarchy, id, printable, modulus string) string {
	return fmt.Sprintf(`{"about":"","keys":[{"hierarchy":%q,"key_id_hex":%q,"printable":%q,"modulus_hex":%q}]}`, hierarchy, id, printable, modulus)
}

const (
	productionID = "35303030303233080530303100000000"
	testID       = "36303030303233080530303100000000"
)

// figure is a modulus that belongs to nobody.
var figure = "C1" + strings.Repeat("5A", 254) + "01"

func TestBuiltinSurfaceAuthorities(t *testing.T) {
	for h, id := range map[anchor.Hierarchy]string{anchor.Production: "5000023\x08\x05001\x00\x00\x00\x00", anchor.Test: "6000023\x08\x05001\x00\x00\x00\x00"} {
		got := anchor.BuiltinSurface(h)
		if len(got) != 1 || string(got[0].ID[:]) != id || got[0].Key.IsZero() {
			t.Errorf("%v: %v", h, got)
		}
	}
	if anchor.BuiltinSurface(7) != nil {
		t.Error("an unknown hierarchy has authorities")
	}
	if anchor.BuiltinSurface(anchor.Production)[0].Key.Equal(anchor.BuiltinSurface(anchor.Test)[0].Key) {
		t.Error("both hierarchies have one key")
	}
}

// The figures that are built in are those of the published file.
func TestPublishedSurfaceKeysAreTheBuiltinOnes(t *testing.T) {
	dir := os.Getenv("GATE_SHARED_DATA")
	if dir == "" {
		t.Skip("GATE_SHARED_DATA is not set: the file of published keys is not at hand")
	}
	file, err := os.ReadFile(filepath.Join(dir, "cv-ca", "surface-ca-keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []anchor.Hierarchy{anchor.Production, anchor.Test} {
		got, err := anchor.LoadSurface(h, file)
		if err != nil {
			t.Fatal(err)
		}
		want := anchor.BuiltinSurface(h)
		if len(got) != 1 || got[0].ID != want[0].ID || !got[0].Key.Equal(want[0].Key) {
			t.Errorf("%v: the file has another key", h)
		}
	}
}

// A test hierarchy may use a key id of production's again, with its own key.
func TestKeyFileTakesThePlaceOfTheBuiltinKeys(t *testing.T) {
	got, err := anchor.LoadSurface(anchor.Test, []byte(surfaceFile("test", testID, "6000023/001", figure)))
	if err != nil {
		t.Fatal(err)
	}
	builtin := anchor.BuiltinSurface(anchor.Test)
	if len(got) != 1 || got[0].ID != builtin[0].ID || got[0].Key.Equal(builtin[0].Key) {
		t.Errorf("%d keys, the built-in one among them: %v", len(got), slices.Equal(got, builtin))
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	key := func(h, id, printable, modulus string) string { return surfaceFile(h, id, printable, modulus) }
	good := key("production", productionID, "5000023/001", figure)
	testFigure := fmt.Sprintf("%x", modulusOf(t, anchor.Test))
	productionFigure := fmt.Sprintf("%x", modulusOf(t, anchor.Production))
	one, _, _ := strings.Cut(good[strings.Index(good, "[")+1:], "]")
	for name, c := range map[string]struct {
		hierarchy anchor.Hierarchy
		file      string
		want      string
	}{
		"test keys alone, in production":           {anchor.Production, key("test", testID, "6000023/001", figure), "no key of the production hierarchy"},
		"production keys alone, in a test":         {anchor.Test, good, "no key of the test hierarchy"},
		"a test id said to be production":          {anchor.Production, key("production", testID, "6000023/001", figure), "keys[0]: key id"},
		"a production id said to be test":          {anchor.Test, key("test", productionID, "5000023/001", figure), "keys[0]: key id"},
		"the test key under a production id":       {anchor.Production, key("production", productionID, "5000023/001", testFigure), "keys[0]: modulus_hex"},
		"the production key under a test id":       {anchor.Test, key("test", testID, "6000023/001", productionFigure), "keys[0]: modulus_hex"},
		"another hierarchy":                        {anchor.Production, key("staging", productionID, "5000023/001", figure), "staging"},
		"an id of 15 bytes":                        {anchor.Production, key("production", productionID[2:], "5000023/001", figure), "keys[0]: key_id_hex"},
		"an id that is no hexadecimal":             {anchor.Production, key("production", "5000023/001", "5000023/001", figure), "keys[0]: key_id_hex"},
		"an id with other padding":                 {anchor.Production, key("production", productionID[:30]+"01", "5000023/001", figure), "keys[0]: key_id_hex"},
		"an id that the printable one contradicts": {anchor.Production, key("production", productionID, "5000023/002", figure), "keys[0]: key_id_hex"},
		"an id of letters":                         {anchor.Production, key("production", "35414141414141080530303100000000", "5AAAAAA/001", figure), "keys[0]: key_id_hex"},
		"no hierarchy":                             {anchor.Production, strings.Replace(good, `"hierarchy":"production",`, "", 1), "keys[0]: hierarchy is missing"},
		"a modulus of 2040 bits":                   {anchor.Production, key("production", productionID, "5000023/001", figure[2:]), "keys[0]: modulus_hex"},
		"a modulus that is no hexadecimal":         {anchor.Production, key("production", productionID, "5000023/001", "xyz"), "keys[0]: modulus_hex"},
		"one key twice":                            {anchor.Production, strings.Replace(good, one, one+","+one, 1), "keys[1]: key id"},
		"unknown member":                           {anchor.Production, strings.Replace(good, `"about"`, `"note"`, 1), `"note"`},
		"data behind it":                           {anchor.Production, good + "{}", "behind"},
		"no keys":                                  {anchor.Production, `{"about":""}`, "no key"},
		"no JSON":                                  {anchor.Production, "5000023/001", "loading card-surface authorities"},
		"nothing":                                  {anchor.Production, "", "loading card-surface authorities"},
		"too long":                                 {anchor.Production, good + strings.Repeat(" ", 64<<10), "at most"},
	} {
		got, err := anchor.LoadSurface(c.hierarchy, []byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		}
	}
	if _, err := anchor.LoadSurface(anchor.Production, []byte(good)); err != nil {
		t.Error(err)
	}
}

// modulusOf takes the modulus out of the SubjectPublicKeyInfo of a built-in
// key, in which it stands before the exponent: 02 03 010001.
func modulusOf(t *testing.T, h anchor.Hierarchy) []byte {
	t.Helper()
	spki := anchor.BuiltinSurface(h)[0].Key.SPKI()
	return spki[len(spki)-5-256 : len(spki)-5]
}

// FuzzLoadSurface: what loads is at least one key, with different ids.
func FuzzLoadSurface(f *testing.F) {
	f.Add([]byte(surfaceFile("production", productionID, "5000023/001", figure)))
	f.Add([]byte(surfaceFile("test", testID, "6000023/001", figure)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, h := range []anchor.Hierarchy{anchor.Production, anchor.Test} {
			got, err := anchor.LoadSurface(h, b)
			if err == nil && len(got) == 0 || err != nil && got != nil {
				t.Fatalf("%d keys, %v", len(got), err)
			}
			for i, a := range got {
				if a.Key.IsZero() || a.ID[0] != "56"[h] {
					t.Fatalf("key %d: %v", i, a)
				}
			}
		}
	})
}
