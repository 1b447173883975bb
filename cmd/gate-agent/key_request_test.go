package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/keystore"
)

// What a terminal would not send is not certified.
func TestRequestsThatProveNothingAreRefused(t *testing.T) {
	key := newSealed(t, keystore.ExternalAuth)
	made := func(change func(*x509.CertificateRequest)) []byte {
		t.Helper()
		template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "gate-1"}}
		change(template)
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	good := made(func(*x509.CertificateRequest) {})
	if r, err := readRequest(good); err != nil || r.Subject != "gate-1" {
		t.Fatalf("%+v, %v", r, err)
	}
	changed := func() []byte { // the name, behind the key's back
		block, _ := pem.Decode(good)
		block.Bytes = bytes.Replace(block.Bytes, []byte("gate-1"), []byte("gate-2"), 1)
		return pem.EncodeToMemory(block)
	}
	for name, text := range map[string][]byte{
		"nothing":             nil,
		"changed name":        changed(),
		"two requests":        append(bytes.Clone(good), good...),
		"no subject":          made(func(r *x509.CertificateRequest) { r.Subject = pkix.Name{} }),
		"more than a name":    made(func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"J-LIS"} }),
		"asks for a host":     made(func(r *x509.CertificateRequest) { r.DNSNames = []string{"example.jp"} }),
		"name of two lines":   made(func(r *x509.CertificateRequest) { r.Subject.CommonName = "gate-1\nCN=J-LIS" }),
		"something cut short": good[:len(good)/2],
	} {
		if r, err := readRequest(text); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
