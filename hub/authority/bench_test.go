package authority

import (
	"crypto/tls"
	"net"
	"testing"
)

// What a terminal that comes anew costs before it has asked anything: both sides
// of a TLS handshake with a certificate of the hub's own authority. The server's
// share is less than half: it verifies no certificate.
func BenchmarkHandshakeBothSides(b *testing.B) {
	a := create(b, "arena")
	pair, err := tls.LoadX509KeyPair(serve(b, a, []string{"127.0.0.1"}))
	if err != nil {
		b.Fatal(err)
	}
	roots := a.roots()
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
