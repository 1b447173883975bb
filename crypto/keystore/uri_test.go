package keystore

import (
	"reflect"
	"strings"
	"testing"
)

func TestURINamesWhatIsWrong(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "no scheme",
		"/etc/key.pem":                          "no scheme",
		"pkcs12:path=a":                         "unknown scheme",
		"SEALED:path=a;key-source=b":            "unknown scheme",
		"sealed:":                               "without =",
		"sealed:path=a":                         `"key-source" is missing`,
		"sealed:path=a;key-source=b;":           "without =",
		"sealed:path=a;key-source=b;colour=red": `unknown attribute "colour"`,
		"sealed:path=a;path=c;key-source=b":     `"path" twice`,
		"sealed:path=;key-source=b":             `"path": empty`,
		"sealed:path=a b;key-source=b":          "0x20 must be percent-encoded",
		"sealed:path=a%0;key-source=b":          "bad percent-encoding",
		"sealed:path=a%zz;key-source=b":         "bad percent-encoding",
		"sealed:path=a%+1;key-source=b":         "bad percent-encoding",
		"sealed:path=a%00;key-source=b":         "zero byte",
		"sealed:path=鍵;key-source=b":            "must be percent-encoded",
		"sealed:path=a;key-source=b?":           "without =",
		"sealed:path=a;key-source=b?pin=1":      `unknown attribute "pin"`,
		"sealed:path=a;key-source=" + strings.Repeat("b", maxURI): "longer than",
	} {
		if _, err := ParseURI(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want an error with %q", in, err, want)
		}
	}
}

func TestURIDecodesItsValues(t *testing.T) {
	u, err := ParseURI("sealed:key-source=/run/a=b%3b%e9%8d%b5;path=k%20%2F.pem")
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme() != "sealed" || u.Get("path") != "k /.pem" || u.Get("key-source") != "/run/a=b;鍵" || u.Get("pin") != "" {
		t.Errorf("got %q %q %q", u.Scheme(), u.Get("path"), u.Get("key-source"))
	}
}

// Property: what parses encodes to a URI that parses to the same.
func FuzzParseURI(f *testing.F) {
	f.Add("sealed:path=/a;key-source=/b")
	f.Add("sealed:key-source=%e9%8d%b5;path=k%20%2F.pem")
	f.Add("sealed:path=a;key-source=b?x=y&z=%00")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || !reflect.DeepEqual(u, again) {
			t.Fatalf("%q became %q: %v", s, u, err)
		}
	})
}
