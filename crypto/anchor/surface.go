package anchor

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
)

// The authorities of the card-surface application (card-facts §4). They certify
// the key that signs age records; no card carries them and J-LIS does not
// publish them. The figures here were recovered in public from pairs of
// certificates: an operator who has not compared them with J-LIS trusts whoever
// did the recovering.
var (
	surfaceProduction = surfaceFigure("5000023", "001",
		"b2f740f0ad86d17cf3f537d23b4b3c65a3cb58474d857f55d0b9bc0411b1cb08"+
			"49068de332a50d63b3e6921c9ccbe6156496efb04be8ffcc74fde9a228a36ad7"+
			"edce9793204e35973dc911108365002c40169e0b60018dfb99e1e2310d9a110f"+
			"f0fc269f1f220c63b8a1510de5a6898220c78908fc280d8aa95d5d113b7cf007"+
			"00f3ff5ad8b3d6ad2eb53c7d563498b4a938deffc9bda32bf4146c1b07ef870d"+
			"99eb35de5d70ac18715874277a13151d217d04d42e97923923a40fbc7d06faa8"+
			"338ccbe876620f9b8ef4471cd4b9e29d4ea621e0fb8f1dc04b487210097dbaaf"+
			"3d8e0550c76a5b97cf202fa47c7a2622f1c084e65c13d13b8e7ab226f5f51f87")
	surfaceTest = surfaceFigure("6000023", "001",
		"e08ca1caa0e58c5df24bfd67e45b7ce4b50eff828c10568055f7e012b7212e7d"+
			"2879b9e0b951e7ac5a6dc0d7d3c31c223951a1e2774f398cf46602a8aec04898"+
			"714981f813cb9dbd2ef9068528e9450361c00154738ca4dd79d138098b91fae2"+
			"9a4fd750556367bb854158953af58c0e8bbf289c3a30e595fef044519e967ef0"+
			"686cbcf6ef6b9ed6fc2a19f800ce07e929ac11556f1073077372279ba130216f"+
			"c680b7c39788c8e7534f71eeb4c00c9053fbf6e92a07784f26308af78f9c1800"+
			"3ecbf12965bd303045b8a76391c431787ffc745cc274206616d91e81b39bb9a2"+
			"db4b64c4ad47831ab06cc401f2162f30d9316c38557d4d96ed5e76db49b9092d")
)

func surfaceFigure(name, number, modulus string) cardauth.CVAuthority {
	n, _ := new(big.Int).SetString(modulus, 16)
	key, err := cardkey.New(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		panic("anchor: built-in card-surface authority: " + err.Error()) // a test holds it
	}
	return cardauth.CVAuthority{ID: surfaceKeyID(name, number), Key: key}
}

// surfaceKeyID is 7 digits, 08 05, 3 digits, and 4 bytes of zero.
func surfaceKeyID(name, number string) (id cardauth.CVKeyID) {
	copy(id[:], name+"\x08\x05"+number)
	return id
}

// BuiltinSurface is the card-surface authorities of a hierarchy as they are
// known in public: 5000023/001 for production, 6000023/001 for tests.
func BuiltinSurface(h Hierarchy) []cardauth.CVAuthority {
	switch h {
	case Production:
		return []cardauth.CVAuthority{surfaceProduction}
	case Test:
		return []cardauth.CVAuthority{surfaceTest}
	}
	return nil
}

// surfaceFile is the JSON form of a key file. docs/configuration.md describes
// it.
type surfaceFile struct {
	About string       `json:"about"`
	Keys  []surfaceKey `json:"keys"`
}

type surfaceKey struct {
	Hierarchy *Hierarchy `json:"hierarchy"`
	KeyID     string     `json:"key_id_hex"`
	Printable string     `json:"printable"` // such as 5000023/001
	Modulus   string     `json:"modulus_hex"`
}

// LoadSurface reads the card-surface authorities of one hierarchy from a key
// file of at most 64 KiB, which takes the place of those that are built in and
// is never mixed with them: a test hierarchy may use a key id again. Keys of
// the other hierarchy in the file are checked and left out. A key whose id or
// figure is of the other hierarchy than it says is refused.
func LoadSurface(h Hierarchy, file []byte) ([]cardauth.CVAuthority, error) {
	authorities, err := loadSurface(h, file)
	if err != nil {
		return nil, fmt.Errorf("loading card-surface authorities: %w", err)
	}
	return authorities, nil
}

func loadSurface(h Hierarchy, file []byte) ([]cardauth.CVAuthority, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(file), maxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	var f surfaceFile
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data behind the JSON value")
	}
	var found []cardauth.CVAuthority
	seen := map[string]bool{}
	for i, k := range f.Keys {
		a, err := k.authority()
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		name := k.Hierarchy.String() + string(a.ID[:])
		if seen[name] {
			return nil, fmt.Errorf("keys[%d]: key id %s comes twice", i, k.KeyID)
		}
		seen[name] = true
		if *k.Hierarchy == h {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no key of the %v hierarchy among %d", h, len(f.Keys))
	}
	return found, nil
}

// authority checks one key of a file.
func (k surfaceKey) authority() (cardauth.CVAuthority, error) {
	var a cardauth.CVAuthority
	if k.Hierarchy == nil {
		return a, errors.New("hierarchy is missing")
	}
	id, err := hex.DecodeString(k.KeyID)
	if err != nil || len(id) != len(a.ID) {
		return a, fmt.Errorf("key_id_hex %q: want 16 bytes in hexadecimal", k.KeyID)
	}
	a.ID = cardauth.CVKeyID(id)
	name, number := string(id[:7]), string(id[9:12])
	if a.ID != surfaceKeyID(name, number) || k.Printable != name+"/"+number || strings.Trim(name+number, "0123456789") != "" {
		return a, fmt.Errorf("key_id_hex %s is not the id of %q: 7 digits, 08 05, 3 digits, 4 zeros", k.KeyID, k.Printable)
	}
	// Production ids begin with 5, test ids with 6 (card-facts §4).
	first := map[Hierarchy]byte{Production: '5', Test: '6'}[*k.Hierarchy]
	if id[0] != first {
		return a, fmt.Errorf("key id %q does not begin with %c, as those of the %v hierarchy do", k.Printable, first, *k.Hierarchy)
	}
	modulus, err := hex.DecodeString(k.Modulus)
	if err != nil {
		return a, fmt.Errorf("modulus_hex: %w", err)
	}
	if a.Key, err = cardkey.New(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}); err != nil {
		return a, fmt.Errorf("modulus_hex: %w", err)
	}
	for _, other := range []Hierarchy{Production, Test} {
		for _, known := range BuiltinSurface(other) {
			if other != *k.Hierarchy && known.Key.Equal(a.Key) {
				return a, fmt.Errorf("modulus_hex: that is the %v key known in public, said to be of the %v hierarchy", other, *k.Hierarchy)
			}
		}
	}
	return a, nil
}
