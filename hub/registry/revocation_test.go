package registry

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// listed registers certificates of p with a ticket each and returns their heads.
func (p pki) listed(t testing.TB, r *Registry, serials ...uint32) (heads [][]byte) {
	t.Helper()
	for _, serial := range serials {
		c, err := NewCredential(p.certificate(t, serial))
		must(t, err)
		c, err = r.AddCredential(t.Context(), by(""), hall, 0, c)
		must(t, err)
		must(t, r.PutTicket(t.Context(), by(""), hall, ticket(fmt.Sprintf("S-%x", serial), c.Holder)))
		heads = append(heads, c.Head)
	}
	return heads
}

func asOfHall(t testing.TB, r *Registry) time.Time {
	t.Helper()
	s, err := r.Scope(t.Context(), hall)
	must(t, err)
	return s.RevocationAsOf
}

func TestRevokedCertificatesAreListedAsRevoked(t *testing.T) {
	p := testPKI(t, "authority.json")
	trusted := []*x509.Certificate{p.SIMCACertificate(), p.CACertificate()}
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		if !asOfHall(t, r).IsZero() {
			t.Error("known before there is a credential")
		}
		heads := p.listed(t, r, 0x40000001, 0x40000002, 0x40000003)
		got := set{}
		publish(t, r, hall, false, got)
		if !asOfHall(t, r).IsZero() {
			t.Error("known before there is a CRL")
		}

		first := p.crl(t, crl{number: 1, update: at.Add(-time.Hour), revoked: []uint32{0x40000001, 0x4FFFFFFF}, held: []uint32{0x40000002}})
		report, err := r.ApplyCRL(t.Context(), by(""), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: first}), trusted)
		must(t, err)
		if report.Entries != 3 || report.Revoked != 2 || report.Released != 0 || report.Unchanged {
			t.Errorf("%+v", report)
		}
		if !asOfHall(t, r).Equal(at.Add(-time.Hour)) {
			t.Errorf("as of %v", asOfHall(t, r))
		}
		want := func(when string, statuses ...whitelist.Status) {
			t.Helper()
			publish(t, r, hall, false, got)
			for i, s := range statuses {
				if row := got[string(heads[i])]; row.Status != s {
					t.Errorf("%s: certificate %d is %v, want %v", when, i+1, row.Status, s)
				}
			}
		}
		want("revoked and held", whitelist.CertificateRevoked, whitelist.CertificateRevoked, whitelist.Active)

		report, err = r.ApplyCRL(t.Context(), by(""), first, trusted)
		must(t, err)
		if !report.Unchanged || report.Revoked != 0 {
			t.Errorf("the same again: %+v", report)
		}

		// A hold ends; what is revoked stays so, though lists leave it out once it has expired.
		report, err = r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 2, update: at}), trusted)
		must(t, err)
		if report.Released != 1 {
			t.Errorf("%+v", report)
		}
		want("an empty list", whitelist.CertificateRevoked, whitelist.Active, whitelist.Active)

		_, err = r.ApplyCRL(t.Context(), by(""), first, trusted)
		refused(t, "the older list", err, ErrOlder)
		_, err = r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 1, update: at}), trusted)
		refused(t, "a lower number", err, ErrOlder)

		// The operator's word comes first, and does not undo the issuer's.
		must(t, r.SetCredentialStatus(t.Context(), by("x"), hall, heads[0], whitelist.Revoked))
		want("revoked by both", whitelist.Revoked)
		must(t, r.SetCredentialStatus(t.Context(), by("x"), hall, heads[0], whitelist.Active))
		want("reinstated by the operator", whitelist.CertificateRevoked)

		c, err := r.Credential(t.Context(), hall, heads[1])
		must(t, err)
		events, err := r.CredentialHistory(t.Context(), c.ID)
		if got := verbsOf(t, events, err); got != "add_credential certificate_revoked certificate_released" {
			t.Errorf("history: %s", got)
		}
	})
}

func TestCardThatIsRegisteredAfterItsRevocationIsRevoked(t *testing.T) {
	p := testPKI(t, "authority.json")
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		_, err := r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 1, update: at, revoked: []uint32{0x40000001}}), []*x509.Certificate{p.CACertificate()})
		must(t, err)
		heads := p.listed(t, r, 0x40000001)
		got := set{}
		publish(t, r, hall, false, got)
		if s := got[string(heads[0])].Status; s != whitelist.CertificateRevoked {
			t.Errorf("%v", s)
		}
	})
}

func pemCRL(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }

func TestHostileCRLsAreRefused(t *testing.T) {
	p, foreign := testPKI(t, "authority.json"), testPKI(t, "foreign-authority.json")
	trusted := []*x509.Certificate{p.CACertificate()}
	critical := func(id ...int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: id, Critical: true, Value: []byte{5, 0}})
		}
	}
	idp := func(flags []byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: tlv(0x30, flags)})
		}
	}
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		heads := p.listed(t, r, 0x40000001)
		good := crl{number: 1, update: at, revoked: []uint32{0x40000001}}
		with := func(change func(*x509.RevocationList)) []byte {
			c := good
			c.change = change
			return p.crl(t, c)
		}
		tampered := p.crl(t, good)
		tampered[len(tampered)-1] ^= 1
		for _, c := range []struct {
			name string
			crl  []byte
			want error
		}{
			{"nothing", nil, ErrCRL},
			{"HTML with status 200", []byte("<html>not found</html>"), ErrCRL},
			{"PEM of a certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.CACertificate().Raw}), ErrCRL},
			{"cut off", p.crl(t, good)[:100], ErrCRL},
			{"a byte behind it", append(p.crl(t, good), 0), ErrCRL},
			{"two lists in one file", append(pemCRL(p.crl(t, good)), pemCRL(p.crl(t, crl{number: 2, update: at}))...), ErrCRL},
			{"a tampered one", tampered, ErrUntrustedCRL},
			{"another hierarchy of the same name", foreign.crl(t, good), ErrUntrustedCRL},
			{"from the future", p.crl(t, crl{number: 1, update: at.Add(time.Second)}), ErrCRLTime},
			{"of last week", p.crl(t, crl{number: 1, update: at.AddDate(0, 0, -7)}), ErrCRLTime},
			{"a delta", with(critical(2, 5, 29, 27)), ErrCRL},
			{"an unknown critical extension", with(critical(1, 2, 3, 4)), ErrCRL},
			{"certificates of authorities only", with(idp([]byte{0x82, 1, 0xFF})), ErrCRL},
			{"some reasons only", with(idp([]byte{0x83, 2, 1, 0x40})), ErrCRL},
			{"of several issuers", with(idp([]byte{0x84, 1, 0xFF})), ErrCRL},
			{"a malformed distribution point", with(idp([]byte{0xA0, 5, 1})), ErrCRL},
			{"an entry of another issuer", with(func(l *x509.RevocationList) {
				l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
			}), ErrCRL},
			{"an entry of a delta", with(func(l *x509.RevocationList) { l.RevokedCertificateEntries[0].ReasonCode = removeFromCRL }), ErrCRL},
			{"a certificate twice", with(func(l *x509.RevocationList) {
				l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, l.RevokedCertificateEntries[0])
			}), ErrCRL},
		} {
			_, err := r.ApplyCRL(t.Context(), by(""), c.crl, trusted)
			refused(t, c.name, err, c.want)
		}
		_, err := r.ApplyCRL(t.Context(), by(""), p.crl(t, good), nil)
		refused(t, "nobody is trusted", err, ErrUntrustedCRL)
		_, err = r.ApplyCRL(t.Context(), by(""), p.crl(t, good), []*x509.Certificate{p.NextCACertificate()})
		refused(t, "another key of the same name is trusted", err, ErrUntrustedCRL)
		if c, err := r.Credential(t.Context(), hall, heads[0]); err != nil || c.Issued != NotRevoked || !asOfHall(t, r).IsZero() {
			t.Errorf("%v, as of %v, %v", c.Issued, asOfHall(t, r), err)
		}
	})
}

// A CRL for a distribution point says nothing of certificates of another.
func TestDistributionPointsAreToldApart(t *testing.T) {
	p := testPKI(t, "authority.json")
	trusted := []*x509.Certificate{p.CACertificate()}
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		p.listed(t, r, 0x40000001)
		own := tlv(0xA4, p.CACertificate().RawSubject) // as the certificates of p name it
		elsewhere := tlv(0x86, []byte("ldap://elsewhere"))
		_, err := r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 1, update: at, point: elsewhere}), trusted)
		must(t, err)
		if !asOfHall(t, r).IsZero() {
			t.Error("a list of another distribution point counts")
		}
		_, err = r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 1, update: at, point: own, revoked: []uint32{0x40000001}}), trusted)
		must(t, err)
		if !asOfHall(t, r).Equal(at) {
			t.Errorf("as of %v", asOfHall(t, r))
		}
		// A list of the whole authority that is older counts for less.
		_, err = r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 9, update: at.Add(-time.Hour)}), trusted)
		must(t, err)
		if !asOfHall(t, r).Equal(at) {
			t.Errorf("as of %v", asOfHall(t, r))
		}
	})
}

func TestRevocationAsOfIsThatOfTheOldestIssuer(t *testing.T) {
	p := testPKI(t, "authority.json")
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		p.listed(t, r, 0x40000001)
		_, err := r.ApplyCRL(t.Context(), by(""), p.crl(t, crl{number: 1, update: at}), []*x509.Certificate{p.CACertificate()})
		must(t, err)
		c, err := r.AddCredential(t.Context(), by(""), hall, 0, credential(7, 7))
		must(t, err)
		if n, err := r.Revocable(t.Context(), hall); err != nil || n != 2 || !asOfHall(t, r).IsZero() {
			t.Errorf("known, though one issuer is not, of %d cards: %v", n, err)
		}
		must(t, r.RetireCredential(t.Context(), by("x"), hall, c.Head))
		if !asOfHall(t, r).Equal(at) {
			t.Error("a retired credential counts")
		}
		if n, err := r.Revocable(t.Context(), hall); err != nil || n != 1 {
			t.Errorf("%d cards count, %v", n, err)
		}
	})
}

func TestFeedOfAnOperator(t *testing.T) {
	p := testPKI(t, "authority.json")
	trusted := []*x509.Certificate{p.CACertificate(), p.SIMCACertificate()}
	ski := hex.EncodeToString(p.CACertificate().SubjectKeyId)
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		heads := p.listed(t, r, 0x40000001, 0x40000002)
		feed := "issuer,serial,revoked_at,status\n" + strings.ToUpper(ski) + ",40:00:00:01,2026-06-30T09:00:00+09:00,\n" + ski + ",40000002,,hold\n"
		apply := func(feed string, asOf time.Time) (RevocationReport, error) {
			return r.ImportRevocations(t.Context(), by(""), strings.NewReader(feed), trusted, asOf)
		}
		report, err := apply(feed, at.Add(-time.Minute))
		must(t, err)
		if report.Entries != 2 || report.Revoked != 2 || !asOfHall(t, r).Equal(at.Add(-time.Minute)) {
			t.Errorf("%+v, as of %v", report, asOfHall(t, r))
		}
		if report, err = apply(feed, at.Add(-time.Minute)); err != nil || !report.Unchanged {
			t.Errorf("the same again: %+v, %v", report, err)
		}
		if report, err = apply("issuer,serial\n", at); err != nil || report.Released != 1 {
			t.Errorf("%+v, %v", report, err)
		}
		for i, want := range []Revocation{IssuerRevoked, NotRevoked} {
			if c, err := r.Credential(t.Context(), hall, heads[i]); err != nil || c.Issued != want {
				t.Errorf("certificate %d is %v, %v", i+1, c.Issued, err)
			}
		}
		_, err = apply(feed, at.Add(-time.Minute))
		refused(t, "an older feed", err, ErrOlder)
		_, err = apply(feed, at.Add(time.Second))
		refused(t, "a feed from the future", err, ErrInvalid)
		for _, c := range []struct{ line, want string }{
			{"00," + "01,,", "issuer: write the subject key identifier"},
			{ski + ",xyz,,", "serial: write the serial number in hexadecimal"},
			{ski + ",0,,", "serial: write the serial number"},
			{ski + ",01,yesterday,", "revoked_at: write a time"},
			{ski + ",01,,maybe", "status: write revoked or hold"},
			{ski + ",01,,\n" + ski + ",0001,,", "line 3, serial: the same certificate is on line 2"},
		} {
			_, err := apply("issuer,serial,revoked_at,status\n"+c.line+"\n", at)
			if !errors.As(err, new(*FileError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", c.line, err, c.want)
			}
		}
	})
}

// The authorities of 2015 and 2023 have one name.
func TestRealAuthoritiesAreToldApart(t *testing.T) {
	dir := os.Getenv("GATE_SHARED_DATA")
	if dir == "" {
		const msg = "GATE_SHARED_DATA is not set: no J-LIS certificates to test with"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	var found []*x509.Certificate
	for _, name := range []string{"auth_ca_2015.pem", "auth_ca_2023.pem"} {
		b, err := os.ReadFile(filepath.Join(dir, "jpki-ca", name))
		must(t, err)
		block, _ := pem.Decode(b)
		c, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		found = append(found, c)
	}
	if !bytes.Equal(found[0].RawSubject, found[1].RawSubject) {
		t.Error("they have names of their own")
	}
	if authorityID(found[0].RawSubject, found[0].SubjectKeyId) == authorityID(found[1].RawSubject, found[1].SubjectKeyId) {
		t.Error("they are one")
	}
	// Their own distribution point is read.
	for _, c := range found {
		if id, err := distributionPoint(c); err != nil || id == ([32]byte{}) {
			t.Errorf("%x, %v", id, err)
		}
	}
}
