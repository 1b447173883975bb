package hub

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

// What a terminal that comes anew costs before it has asked anything: both sides
// of a TLS handshake with a certificate of the hub's own authority. The server's
// share is less than half: it verifies no certificate.
func BenchmarkHandshakeBothSides(b *testing.B) {
	now := time.Now()
	a, err := NewAuthority("arena", now)
	if err != nil {
		b.Fatal(err)
	}
	certificate, key, err := a.Issue([]string{"127.0.0.1"}, now)
	if err != nil {
		b.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Certificate)
	for b.Loop() {
		near, far := net.Pipe()
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true})
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		client := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
		if err := client.Handshake(); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		near.Close()
		far.Close()
	}
}
