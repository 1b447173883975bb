package authority

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

// nodeLasts is how long a node's certificate lasts: people renew it.
const nodeLasts = 397 * 24 * time.Hour

// Node issues a certificate, and its key, both PEM, for what is neither a terminal nor the
// hub's own server: a NATS server of its own machine or of a venue, reached by these names
// or addresses, which is a client of others as well; and the hub as a client, by none.
func (a Authority) Node(name string, hosts []string, at time.Time) (certificate, key []byte, err error) {
	certificate, key, err = a.node(name, hosts, at)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing a node's certificate: %w", err)
	}
	return certificate, key, nil
}

func (a Authority) node(name string, hosts []string, at time.Time) (certificate, key []byte, err error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: at.Add(-backdated), NotAfter: at.Add(nodeLasts), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return a.issueTo(template, hosts)
}
