package keystore

import (
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
	path   []attr
	query  []attr
}

type attr struct{ name, value string }

// attributes is what a scheme takes before and after the question mark; all
// are required. A further medium adds a case here and in OpenSigner.
func attributes(scheme string) (path, query []string, ok bool) {
	switch scheme {
	case "sealed":
		return []string{"path", "key-source"}, nil, true
	}
	return nil, nil, false
}

// ParseURI parses a key URI of at most 4096 bytes. An attribute that the
// scheme does not know, has twice or lacks is an error that names it.
func ParseURI(s string) (URI, error) {
	u, err := parseURI(s)
	if err != nil {
		// The text is not repeated: somebody may have put a PIN into it.
		return URI{}, fmt.Errorf("key URI: %w (want sealed:path=FILE;key-source=FILE)", err)
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
	pathNames, queryNames, ok := attributes(scheme)
	if !ok {
		return URI{}, errors.New("unknown scheme")
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	u := URI{scheme: scheme}
	var err error
	if u.path, err = parseAttrs(path, ";", pathNames); err != nil {
		return URI{}, err
	}
	if !hasQuery && len(queryNames) == 0 {
		return u, nil
	}
	u.query, err = parseAttrs(query, "&", queryNames)
	return u, err
}

func parseAttrs(s, sep string, names []string) ([]attr, error) {
	var attrs []attr
	for part := range strings.SplitSeq(s, sep) {
		name, raw, ok := strings.Cut(part, "=")
		switch {
		case !ok:
			return nil, errors.New("attribute without =")
		case !slices.Contains(names, name):
			return nil, fmt.Errorf("unknown attribute %q", name)
		case slices.ContainsFunc(attrs, func(a attr) bool { return a.name == name }):
			return nil, fmt.Errorf("attribute %q twice", name)
		}
		value, err := unescape(raw)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", name, err)
		}
		attrs = append(attrs, attr{name, value})
	}
	for _, name := range names {
		if !slices.ContainsFunc(attrs, func(a attr) bool { return a.name == name }) {
			return nil, fmt.Errorf("attribute %q is missing", name)
		}
	}
	return attrs, nil
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
	for _, a := range slices.Concat(u.path, u.query) {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// String encodes the URI; ParseURI gives the same URI back.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(u.scheme + ":")
	writeAttrs(&b, ";", u.path)
	if len(u.query) > 0 {
		b.WriteByte('?')
		writeAttrs(&b, "&", u.query)
	}
	return b.String()
}

func writeAttrs(b *strings.Builder, sep string, attrs []attr) {
	for i, a := range attrs {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(a.name + "=")
		for _, c := range []byte(a.value) {
			if plain(c) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(b, "%%%02X", c)
			}
		}
	}
}
