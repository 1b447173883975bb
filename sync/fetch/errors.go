package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// An Error is a failure that a person can do something about.
type Error struct {
	Err  error
	Hint string // the next step
}

func (e *Error) Error() string { return e.Err.Error() + ": " + e.Hint }
func (e *Error) Unwrap() error { return e.Err }

// A StatusError is a web server's answer other than the file. 404 and 410 are
// fs.ErrNotExist.
type StatusError struct {
	Code int // RFC 9110, clause 15
	// RetryAfter is how long the server asks to be left alone (429 and 503),
	// at most an hour; zero when it does not say.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.Code, http.StatusText(e.Code))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", again in %v", e.RetryAfter)
	}
	return text
}

func (e *StatusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.Code == http.StatusNotFound || e.Code == http.StatusGone)
}

// RetryAfter is how long the server whose answer led to an error asks to be left alone.
func RetryAfter(err error) time.Duration {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.RetryAfter
	}
	return 0
}

// A brokenError ended an attempt; the next one may fare better.
type brokenError struct{ error }

func (e brokenError) Unwrap() error { return e.error }

func errPage() error {
	return &Error{errors.New("a web page in the place of the file"),
		"does this network have a login page? Log in there, or ask for a network without one"}
}

// looksLikePage reports whether a file begins as HTML does. None of ours does:
// '<' is no first byte of a CBOR array, byte string or tag.
func looksLikePage(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("<"))
}

// plain drops from a network's error what differs each time, such as a port of
// ours: who logs errors that are new would log each of them.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsTimeout {
		err = &net.DNSError{Name: dns.Name, Err: "no answer from a name server", IsTimeout: true, IsTemporary: true}
	}
	return err
}

// explain adds the next step where there is one.
func explain(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	hint := ""
	status, isStatus := errors.AsType[*StatusError](err)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case is[x509.UnknownAuthorityError](err):
		hint = "give this terminal the certificate of the authority that issued the server's, if the server is yours"
	case is[x509.HostnameError](err):
		hint = "is the host of the source right? A login page of this network can also answer in its name"
	case isInvalid && invalid.Reason == x509.Expired:
		hint = "is the clock of this terminal right? If it is, renew the server's certificate"
	case errors.Is(err, http.ErrSchemeMismatch) || is[tls.RecordHeaderError](err):
		hint = "does the server speak https on this port?"
	case isDNS && dns.IsNotFound:
		hint = "is the host of the source right, and does this network know it?"
	case isStatus && status.Code == http.StatusForbidden:
		hint = "is this terminal enrolled with that hub, for this scope, and not retired or replaced?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "is the server running, and on this port?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		hint = "is this terminal connected to the network?"
	case isFull(err):
		hint = "make room on the disk of this terminal"
	default:
		return err
	}
	return &Error{err, hint}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// over returns why a context ended, in the place of what that led to.
func over(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
