package keystore

import (
	"reflect"
	"slices"
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

		"pkcs11:module-path=/m.so;object=k":                               "give token or serial",
		"pkcs11:module-path=/m.so;token=t":                                "give id or object",
		"pkcs11:module-path=/m.so;token=t;object=k;pin-source=/p":         "behind a question mark",
		"pkcs11:module-path=/m.so;token=t;object=k?pin-value=1234":        `unknown attribute "pin-value"`,
		"pkcs11:module-path=/m.so;token=t;id=1":                           "in hexadecimal",
		"pkcs11:module-path=/m.so;token=t;object=k?pin-source=/p&token=u": `"token" twice`,
		"pkcs11:module-path=/m.so;token=t?id=01":                          "before the question mark",
		"scard:reader=r;aid=D392F000260100000001;key=17":                  `"pin-source" is missing`,
		"scard:reader=r;aid=D392F0;key=17?pin-source=/p":                  "5 to 16 bytes",
		"scard:reader=r;aid=D392F000260100000001;key=0017?pin-source=/p":  "want 2 hexadecimal digits",
		"tpm:device=/dev/tpmrm0;handle=80000001":                          "persistent object",
		"tpm:device=/dev/tpmrm0;handle=0x81000001":                        "persistent object",
		"tpm:device=/dev/tpmrm0":                                          `"handle" is missing`,
		"sealed:1234=a;key-source=b":                                      `unknown attribute "…"`,
		"sealed:path=a;key-source=" + strings.Repeat("b", maxURI):         "longer than",
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

func TestIDIsHexadecimalOrPercentEncoded(t *testing.T) {
	for raw, want := range map[string]string{"01": "01", "%01": "01", "AbCd": "abcd", "%30%31": "3031"} {
		u, err := ParseURI("pkcs11:module-path=/m.so;token=t;id=" + raw)
		if err != nil || u.Get("id") != want {
			t.Errorf("id=%s: %q, %v, want %q", raw, u.Get("id"), err, want)
		}
	}
}

// Who compares URIs compares keys.
func TestHexadecimalIsOneValueInEitherCase(t *testing.T) {
	for a, b := range map[string]string{
		"tpm:device=/d;handle=8100001a":                                "tpm:device=/d;handle=8100001A",
		"scard:reader=r;aid=d392f000260100000001;key=1a?pin-source=/p": "scard:reader=r;aid=D392F000260100000001;key=1A?pin-source=/p",
		"pkcs11:module-path=/m.so;token=t;id=AB":                       "pkcs11:module-path=/m.so;token=t;id=%AB",
	} {
		x, errX := ParseURI(a)
		y, errY := ParseURI(b)
		if errX != nil || errY != nil || x.String() != y.String() {
			t.Errorf("%s and %s: %v, %v", x, y, errX, errY)
		}
	}
}

func TestErrorsOfAURIDoNotRepeatAPIN(t *testing.T) {
	const pin = "canary-7351"
	for _, uri := range []string{
		pin, "pkcs11:" + pin, "pkcs11:module-path=/m.so;token=t;object=k?" + pin + "=x",
		"pkcs11:module-path=/m.so;token=t;id=" + pin, "scard:reader=r;aid=" + pin + ";key=17?pin-source=/p", "pkcs11:module-path=/m.so;pin-value=" + pin,
	} {
		if _, err := ParseURI(uri); err == nil || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "7351") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// Property: what parses encodes to a URI that parses to the same.
func FuzzParseURI(f *testing.F) {
	f.Add("sealed:path=/a;key-source=/b")
	f.Add("sealed:key-source=%e9%8d%b5;path=k%20%2F.pem")
	f.Add("sealed:path=a;key-source=b?x=y&z=%00")
	f.Add("pkcs11:module-path=/m.so;token=gate%201;id=%01;object=k?pin-source=/run/pin")
	f.Add("scard:reader=SAM%2000%2000;aid=D392F000260100000001;key=17?pin-source=/run/pin")
	f.Add("tpm:device=/dev/tpmrm0;handle=81000010")
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

func TestURINamesItsFiles(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/gate-agent.service")
	for uri, want := range map[string][]File{
		"sealed:path=/k.pem;key-source=file:/seal":                         {{"/k.pem", 0o077}, {"/seal", 0o077}},
		"pkcs11:module-path=/m.so;token=t;id=01?pin-source=credential:pin": {{"/run/credentials/gate-agent.service/pin", 0o027}},
		"tpm:device=/dev/tpmrm0;handle=81000010":                           nil,
	} {
		u, err := ParseURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		if files, err := u.Files(); err != nil || !slices.Equal(files, want) {
			t.Errorf("%s: %v, %v, want %v", uri, files, err, want)
		}
	}
}
