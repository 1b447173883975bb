package keystore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxURI bounds a URI, in bytes: two paths of PATH_MAX would not fit a line
// of configuration anyhow.
const maxURI = 4096

// A URI names a key on a medium. Only ParseURI makes one, so that a URI has
// every attribute its scheme needs and none that it does not know.
//
// Grammar, after RFC 7512 §2.3 with "/" allowed everywhere, because most
// values are paths:
//
//	uri    = scheme ":" attr *( ";" attr ) [ "?" attr *( "&" attr ) ]
//	attr   = name "=" value
//	name   = 1*( a-z / "-" )
//	value  = 1*( unreserved / pct-encoded / ":" / "[" / "]" / "@" / "!" / "$" /
//	             "'" / "(" / ")" / "*" / "+" / "," / "=" / "/" )
type URI struct {
	scheme string
	attrs  []attr // as attributes orders them
}

type attr struct {
	name, value string
	query       bool
}

// An attribute is what a scheme takes.
type attribute struct {
	name     string
	query    bool // stands after the question mark
	required bool
	key      bool // tells one key of a medium from the others
	check    func(value string) error
	hex      bool // either case is the same value
}

// attributes are those of a scheme, in the order in which String writes them.
func attributes(scheme string) (_ []attribute, example string) {
	switch scheme {
	case "sealed":
		return []attribute{
			{name: "path", required: true, key: true},
			{name: "key-source", required: true},
		}, "sealed:path=FILE;key-source=FILE"
	case "pkcs11":
		return []attribute{
			{name: "module-path", required: true},
			{name: "token"}, {name: "serial"}, {name: "slot-description"},
			{name: "id", key: true, check: isHex(1, 64)}, {name: "object", key: true},
			{name: "pin-source", query: true},
		}, "pkcs11:module-path=FILE;token=LABEL;object=LABEL?pin-source=FILE"
	case "scard":
		return []attribute{
			{name: "reader", required: true},
			{name: "aid", required: true, check: isHex(5, 16), hex: true},
			{name: "key", required: true, key: true, check: isHex(1, 1), hex: true},
			{name: "pin-source", query: true, required: true},
		}, "scard:reader=NAME;aid=HEX;key=HEX?pin-source=FILE"
	case "tpm":
		return []attribute{
			{name: "device", required: true},
			{name: "handle", required: true, key: true, check: isPersistent, hex: true},
			{name: "pin-source", query: true},
		}, "tpm:device=/dev/tpmrm0;handle=81000010"
	}
	return nil, ""
}

// isHex wants that many bytes in hexadecimal.
func isHex(least, most int) func(string) error {
	return func(v string) error {
		if b, err := hex.DecodeString(v); err != nil || len(b) < least || len(b) > most {
			if least == most {
				return fmt.Errorf("want %d hexadecimal digits", 2*least)
			}
			return fmt.Errorf("want %d to %d bytes in hexadecimal", least, most)
		}
		return nil
	}
}

// isPersistent wants a handle of the range in which a TPM keeps objects of the
// owner over power cuts (TCG Registry of Reserved TPM 2.0 Handles and Localities,
// §2.3.1).
func isPersistent(v string) error {
	n, err := strconv.ParseUint(v, 16, 32)
	if err != nil || len(v) != 8 || n < 0x81000000 || n > 0x817FFFFF {
		return errors.New("want the handle of a persistent object of the owner, 81000000 to 817FFFFF")
	}
	return nil
}

// ParseURI parses a key URI of at most 4096 bytes. An attribute that the
// scheme does not know, has twice or lacks is an error that names it.
func ParseURI(s string) (URI, error) {
	u, err := ParseMedium(s)
	if err != nil {
		return URI{}, err
	}
	all, example := attributes(u.scheme)
	named := false
	for _, a := range all {
		if a.key && u.Get(a.name) != "" {
			named = true
		} else if a.key && a.required {
			return URI{}, fmt.Errorf("key URI: attribute %q is missing (want %s)", a.name, example)
		}
	}
	if !named { // PKCS #11 has two ways to name a key
		return URI{}, fmt.Errorf("key URI: it names no key: give id or object (want %s)", example)
	}
	return u, nil
}

// ParseMedium is ParseURI for a URI that need not name one key, as Store.List takes it.
func ParseMedium(s string) (URI, error) {
	scheme, _, _ := strings.Cut(s, ":")
	u, err := parseURI(s)
	if err != nil {
		_, example := attributes(scheme)
		if example == "" {
			example = "sealed:, pkcs11:, scard: or tpm:"
		}
		// The text is not repeated: somebody may have put a PIN into it.
		return URI{}, fmt.Errorf("key URI: %w (want %s)", err, example)
	}
	return u, nil
}

func parseURI(s string) (URI, error) {
	if len(s) > maxURI {
		return URI{}, fmt.Errorf("longer than %d bytes", maxURI)
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok {
		return URI{}, errors.New("has no scheme")
	}
	all, _ := attributes(scheme)
	if all == nil {
		return URI{}, errors.New("unknown scheme")
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	values := make(map[string]string)
	if err := parseAttrs(path, ";", all, false, values); err != nil {
		return URI{}, err
	}
	if hasQuery {
		if err := parseAttrs(query, "&", all, true, values); err != nil {
			return URI{}, err
		}
	}
	u := URI{scheme: scheme}
	for _, a := range all {
		value, has := values[a.name]
		if !has {
			if a.required && !a.key {
				return URI{}, fmt.Errorf("attribute %q is missing", a.name)
			}
			continue
		}
		u.attrs = append(u.attrs, attr{a.name, value, a.query})
	}
	if scheme == "pkcs11" && values["token"] == "" && values["serial"] == "" {
		return URI{}, errors.New("it names no token: give token or serial")
	}
	return u, nil
}

func parseAttrs(s, sep string, all []attribute, query bool, values map[string]string) error {
	for part := range strings.SplitSeq(s, sep) {
		name, raw, ok := strings.Cut(part, "=")
		if !ok {
			return errors.New("attribute without =")
		}
		i := slices.IndexFunc(all, func(a attribute) bool { return a.name == name })
		if i < 0 {
			return fmt.Errorf("unknown attribute %q", known(name))
		}
		switch _, twice := values[name]; {
		case twice:
			return fmt.Errorf("attribute %q twice", name)
		case all[i].query && !query:
			return fmt.Errorf("attribute %q belongs behind a question mark", name)
		case query && !all[i].query:
			return fmt.Errorf("attribute %q belongs before the question mark", name)
		}
		value, err := unescape(raw)
		if err == nil && name == "id" {
			value = hexID(raw, value)
		}
		if err == nil && all[i].check != nil {
			err = all[i].check(value)
		}
		if err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
		if all[i].hex {
			value = strings.ToUpper(value)
		}
		values[name] = value
	}
	return nil
}

// known keeps an error from repeating what is no name: somebody may have put a
// PIN where it does not belong.
func known(name string) string {
	if len(name) > 20 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && r != '-' }) {
		return "…"
	}
	return name
}

// hexID writes a CKA_ID in hexadecimal: it may stand in the URI as hexadecimal
// digits, or as RFC 7512 has it, percent-encoded.
func hexID(raw, decoded string) string {
	if strings.Contains(raw, "%") {
		return hex.EncodeToString([]byte(decoded))
	}
	return strings.ToLower(decoded)
}

// plain reports whether a byte stands for itself in a value.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("-._~:[]@!$'()*+,=/", c) >= 0
}

func unescape(raw string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case plain(c):
		case c == '%' && i+2 < len(raw):
			n, err := strconv.ParseUint(raw[i+1:i+3], 16, 8)
			if err != nil {
				return "", errors.New("bad percent-encoding")
			}
			if c = byte(n); c == 0 {
				return "", errors.New("zero byte") // no path or label can hold one
			}
			i += 2
		case c == '%':
			return "", errors.New("bad percent-encoding")
		default:
			return "", fmt.Errorf("byte 0x%02X must be percent-encoded", c)
		}
		b.WriteByte(c)
	}
	if b.Len() == 0 {
		return "", errors.New("empty value")
	}
	return b.String(), nil
}

// Scheme is the name of the medium.
func (u URI) Scheme() string { return u.scheme }

// Get is the decoded value of an attribute, "" when the URI has none of that
// name.
func (u URI) Get(name string) string {
	for _, a := range u.attrs {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// With is the same URI with another value of an attribute that its scheme has.
func (u URI) With(name, value string) URI {
	all, _ := attributes(u.scheme)
	w := URI{scheme: u.scheme}
	for _, a := range all {
		v := u.Get(a.name)
		if a.name == name {
			v = value
		}
		if v != "" {
			w.attrs = append(w.attrs, attr{a.name, v, a.query})
		}
	}
	return w
}

// String encodes the URI; ParseURI gives the same URI back.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(u.scheme)
	sep, query := ":", false
	for _, a := range u.attrs {
		if a.query && !query {
			sep, query = "?", true
		}
		b.WriteString(sep + a.name + "=")
		for _, c := range []byte(a.value) {
			if plain(c) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
		if sep = ";"; query {
			sep = "&"
		}
	}
	return b.String()
}
