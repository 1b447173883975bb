package enrol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	connectTime = 10 * time.Second
	answerTime  = 30 * time.Second
	maxHeader   = 16 << 10 // bytes

	leastPause = time.Second // between two questions of a terminal that waits
	mostPause  = time.Minute
)

// ErrPin says that the server is not the hub of the token. Nothing was sent to it.
var ErrPin = errors.New("the server does not show the authority that the token names: somebody may be in between, or the token is from another hub")

// Keys are those of a terminal that enrols.
type Keys struct {
	Identity crypto.Signer
	Delivery []byte // public key, SubjectPublicKeyInfo in DER; nil where no scope key is leased
}

// Enrol makes the terminal known to its hub. waiting is told the fingerprint each time
// that the hub wants somebody to approve first; Enrol asks on until ctx ends. The error
// is ErrPin, a *Refusal, or about network and answer.
func Enrol(ctx context.Context, t Token, k Keys, waiting func(fingerprint string, trouble error)) (e Enrolment, err error) {
	defer wrap(&err, "enrolling")
	csr, err := request(k.Identity)
	if err != nil {
		return e, err
	}
	client := newClient(&tls.Config{
		MinVersion: tls.VersionTLS13,
		// The server is verified against the pin: there is no other root.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return pinned(s, t.CA) },
	})
	defer client.CloseIdleConnections()
	q := Request{Version: Version, Secret: t.Secret[:], Scope: t.Scope, Terminal: t.Terminal, CSR: csr, Delivery: k.Delivery}
	fingerprint := ""
	for {
		a, pause, err := ask(ctx, client, t.Address+Path, q)
		refusal, refused := errors.AsType[*Refusal](err)
		final := refused && refusal.Code != Busy && refusal.Code != Failed
		switch {
		case err == nil && !a.Waiting:
			return a.enrolment(k.Identity.Public(), t)
		case err != nil && (final || fingerprint == "" || ctx.Err() != nil || errors.Is(err, ErrPin)):
			return e, err
		case err == nil:
			fingerprint = a.Fingerprint
		}
		waiting(fingerprint, err)
		if err := sleep(ctx, pause); err != nil {
			return e, fmt.Errorf("waiting for the approval of %s: %w", fingerprint, err)
		}
	}
}

// Renew asks for a new certificate of the same key, with the one that the credential
// shows. What the terminal trusts does not change by it, beside who vouches for the
// hub's servers.
func Renew(ctx context.Context, e Enrolment, c Credential) (renewed Enrolment, err error) {
	defer wrap(&err, "renewing the certificate")
	csr, err := request(c.Signer)
	if err != nil {
		return renewed, err
	}
	c.Ended = true
	client := newClient(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: e.Roots(), GetClientCertificate: c.ForTLS})
	defer client.CloseIdleConnections()
	a, _, err := ask(ctx, client, e.Hub.HTTPS+RenewPath, Request{Version: Version, CSR: csr})
	if err != nil {
		return renewed, err
	}
	if renewed, err = a.enrolment(c.Signer.Public(), Token{Scope: e.Hub.Scope, Terminal: e.Hub.Terminal}); err != nil {
		return renewed, err
	}
	renewed.Hub.Trust = e.Hub.Trust
	return renewed, nil
}

// request is a certificate request of a key. Its subject is empty: the hub knows the
// name.
func request(signer crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), signer)
	if err != nil {
		return nil, fmt.Errorf("signing the request: %w", err)
	}
	return csr, nil
}

// pinned verifies a server by the one certificate that the token names, which it has to
// show with its own.
func pinned(s tls.ConnectionState, pin [sha256.Size]byte) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range s.PeerCertificates {
		if sha256.Sum256(c.Raw) == pin {
			roots.AddCert(c)
			found = true
		} else {
			others.AddCert(c)
		}
	}
	if !found {
		return ErrPin
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, DNSName: s.ServerName})
	return err
}

func newClient(c *tls.Config) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Timeout: answerTime,
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: connectTime}).DialContext, TLSClientConfig: c, TLSHandshakeTimeout: connectTime,
			Protocols: protocols, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		},
		// The token names one hub; whoever else it names is told no secret.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func ask(ctx context.Context, client *http.Client, url string, q Request) (a Answer, pause time.Duration, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, 0, err
	}
	defer clear(body)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return a, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	pause = leastPause
	resp, err := client.Do(r)
	if err != nil {
		return a, pause, err
	}
	defer resp.Body.Close() // only read
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		pause = min(max(leastPause, time.Duration(s)*time.Second), mostPause)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		if err := readAnswer(resp.Body, &a); err != nil {
			return a, pause, err
		}
		if a.Version != Version || a.Waiting != (resp.StatusCode == http.StatusAccepted) {
			return a, pause, fmt.Errorf("%w answer", ErrMalformed)
		}
		return a, pause, nil
	}
	refusal := new(Refusal)
	if err := readAnswer(io.LimitReader(resp.Body, 4<<10), refusal); err != nil || refusal.Code == "" {
		return a, pause, fmt.Errorf("the server answers %d %s: is it a gate-hub?", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return a, pause, refusal
}

// enrolment is what the answer gives a terminal that has asked with this token. Of a
// pin that is zero, nobody asked.
func (a Answer) enrolment(public crypto.PublicKey, t Token) (e Enrolment, err error) {
	if a.Hub == nil {
		return e, fmt.Errorf("%w answer: no hub", ErrMalformed)
	}
	e.Hub, e.CA = *a.Hub, []byte(a.CA)
	if e.Certificate, err = parseCertificate([]byte(a.Certificate)); err != nil {
		return Enrolment{}, fmt.Errorf("%w answer: certificate: %w", ErrMalformed, err)
	}
	err = e.Hub.check()
	if err == nil && (e.Hub.Scope != t.Scope || e.Hub.Terminal != t.Terminal) {
		err = errors.New("for another terminal")
	}
	if err == nil {
		err = verify(e.Certificate, public, e.Roots(), time.Now())
	}
	if err != nil {
		return Enrolment{}, fmt.Errorf("%w answer: %w", ErrMalformed, err)
	}
	return e, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func wrap(err *error, doing string) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", doing, *err)
	}
}
