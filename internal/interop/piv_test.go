package interop

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// OpenSC has a driver of its own for PIV cards, and asks them for more than we do.
func TestOpenSCUsesOurPIVCard(t *testing.T) {
	for name, conf := range map[string]string{
		"PIV driver":      "app default { card_drivers = PIV-II; }\n",
		"default probing": "app default { }\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "piv.json", conf) // PIN 123456
			if out := b.name(); !strings.Contains(out, "Personal Identity Verification") {
				t.Fatalf("card is taken for %q", out)
			}
			t.Run("certificates", func(t *testing.T) { b.t = t; pivCertificates(b) })
			t.Run("signatures", func(t *testing.T) { b.t = t; pivSignatures(b) })
			t.Run("wrong PIN", func(t *testing.T) { b.t = t; pivWrongPIN(b) })
		})
	}
}

// pivNames are how OpenSC numbers and names the four keys.
var pivNames = []struct{ id, name string }{
	{"01", "PIV Authentication"}, {"02", "Digital Signature"}, {"03", "Key Management"}, {"04", "Card Authentication"},
}

// pivCertificates reads all of them, one of which is compressed on the card.
func pivCertificates(b *bench) {
	list := b.run("pkcs15-tool", "--list-certificates")
	app := b.img.Applications[0]
	for i, n := range pivNames {
		if !strings.Contains(list, n.name) {
			b.t.Errorf("no certificate for %s in\n%s", n.name, list)
		}
		b.run("pkcs15-tool", "--read-certificate", n.id, "--output", "cert.pem")
		public := b.run("openssl", "x509", "-in", "cert.pem", "-noout", "-pubkey")
		b.write(n.id+".pem", []byte(public))
		der := b.run("openssl", "x509", "-in", "cert.pem", "-outform", "DER")
		if i != 2 && !bytes.Contains(app.Files[i].Content, []byte(der)) {
			b.t.Errorf("%s: not the certificate that the card was given", n.name)
		}
	}
}

func pivSignatures(b *bench) {
	b.write("message", []byte("what is signed"))
	for _, s := range []struct {
		id   string
		args []string
		hash string
	}{
		{"01", []string{"--login", "--pin", "123456", "-m", "SHA256-RSA-PKCS"}, "-sha256"},
		{"02", []string{"--login", "--pin", "123456", "-m", "SHA512-RSA-PKCS"}, "-sha512"},
		{"03", []string{"--login", "--pin", "123456", "-m", "ECDSA-SHA384", "--signature-format", "openssl"}, "-sha384"},
		{"04", []string{"--login", "--pin", "123456", "-m", "ECDSA-SHA256", "--signature-format", "openssl"}, "-sha256"},
	} {
		b.run("pkcs11-tool", append(s.args, "--sign", "--id", s.id, "--input-file", "message", "--output-file", "signature")...)
		if out := b.run("openssl", "dgst", s.hash, "-verify", s.id+".pem", "-signature", "signature", "message"); !strings.Contains(out, "Verified OK") {
			b.t.Errorf("key %s: %s", s.id, out)
		}
	}
}

func pivWrongPIN(b *bench) {
	tries := func() string {
		b.run("opensc-tool", "--reset") // OpenSC leaves a PIN verified
		out := b.run("opensc-tool", "--send-apdu", "00:A4:04:00:05:A0:00:00:03:08:00", "--send-apdu", "00:20:00:80")
		found := regexp.MustCompile(`SW1=0x63, SW2=0xC([0-9A-F])`).FindStringSubmatch(out)
		if found == nil {
			b.t.Fatalf("no number of tries in\n%s", out)
		}
		return found[1]
	}
	before := tries()
	if out, err := b.try("pkcs11-tool", "--login", "--pin", "654321", "--list-objects"); err == nil || !strings.Contains(out, "CKR_PIN_INCORRECT") {
		b.t.Errorf("wrong PIN: %v\n%s", err, out)
	}
	if after := tries(); before != "3" || after != "2" {
		b.t.Errorf("%s tries before and %s after a wrong PIN, want 3 and 2", before, after)
	}
	b.run("pkcs11-tool", "--login", "--pin", "123456", "--list-objects")
}
