package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	connectTime  = 10 * time.Second
	maxHeader    = 16 << 10 // of a response
	maxValidator = 256      // bytes of an ETag that is sent back
	maxRedirects = 3
)

// A web is a folder on a web server.
type web struct {
	base      *url.URL
	userAgent string
	client    *http.Client
	transport *http.Transport
}

func newWeb(source string, opt Options) (*web, error) {
	base, err := url.Parse(source)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return nil, errors.New("source: want https://HOST/FOLDER or file:PATH") // unquoted: it may hold a password
	case base.User != nil || base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		return nil, errors.New("source: want a URL with neither user, query nor fragment: files are signed, not secret")
	case !secure(base):
		return nil, errors.New("source: plain http is for a server on this machine alone: use https")
	}
	w := &web{base: base, userAgent: opt.UserAgent}
	if w.userAgent == "" {
		w.userAgent = "gate-agent"
	}
	dial := opt.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTime}).DialContext
	}
	// HTTP/1.1 alone: it does all that a file every minute needs, with less
	// that a hostile server can play with.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	w.transport = &http.Transport{
		DialContext: dial,
		Protocols:   protocols,
		TLSClientConfig: &tls.Config{
			RootCAs: opt.Roots, MinVersion: tls.VersionTLS12, GetClientCertificate: opt.Certificate,
			ClientSessionCache: tls.NewLRUClientSessionCache(4),
		},
		TLSHandshakeTimeout:    connectTime,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         32 << 10,
		DisableCompression:     true,
		IdleConnTimeout:        90 * time.Second, // longer than between two polls
		MaxIdleConnsPerHost:    1,
	}
	w.client = &http.Client{Transport: w.transport, CheckRedirect: checkRedirect}
	return w, nil
}

func (w *web) String() string { return w.base.Host }

func (w *web) close() { w.transport.CloseIdleConnections() }

// secure reports whether files may come over u: https, or this machine.
func secure(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (err == nil && ip.IsLoopback() || u.Hostname() == "localhost")
}

// checkRedirect names no path: a login page likes to put there who is asking.
func checkRedirect(next *http.Request, via []*http.Request) error {
	switch from := via[len(via)-1].URL; {
	case len(via) > maxRedirects:
		return &Error{fmt.Errorf("more than %d redirects", maxRedirects), "is the source right?"}
	case !secure(next.URL) || from.Scheme == "https" && next.URL.Scheme != "https":
		return &Error{fmt.Errorf("redirected from %s to %s://%s", from.Scheme, next.URL.Scheme, next.URL.Host),
			"does this network have a login page, or is the source right?"}
	}
	return nil
}

func (w *web) get(ctx context.Context, name string, have version, max int64) (io.ReadCloser, version, error) {
	header := http.Header{}
	if have.etag != "" {
		header.Set("If-None-Match", have.etag)
	} else if have.modified != "" {
		header.Set("If-Modified-Since", have.modified)
	}
	asked := len(header) > 0
	resp, err := w.do(ctx, name, header)
	if err != nil {
		return nil, version{}, err
	}
	switch {
	case resp.StatusCode == http.StatusNotModified && asked:
		err = ErrUnchanged
	case resp.StatusCode != http.StatusOK:
		err = statusError(resp)
	case resp.ContentLength > max:
		err = fmt.Errorf("%d bytes, at most %d", resp.ContentLength, max)
	}
	if err != nil {
		return nil, version{}, errors.Join(err, resp.Body.Close())
	}
	v := version{etag: resp.Header.Get("ETag"), modified: modified(resp.Header)}
	if len(v.etag) > maxValidator || len(v.modified) > maxValidator {
		v = version{}
	}
	return resp.Body, v, nil
}

// modified is Last-Modified where it tells one content of a file from another. Of
// two within one second it does not: so it has to be a second old (RFC 9110,
// 8.8.2.2).
func modified(h http.Header) string {
	last := h.Get("Last-Modified")
	then, err := http.ParseTime(last)
	now, dateErr := http.ParseTime(h.Get("Date"))
	if err != nil || dateErr != nil || now.Sub(then) < time.Second {
		return ""
	}
	return last
}

func (w *web) from(ctx context.Context, name string, offset, size int64) (io.ReadCloser, int64, error) {
	header := http.Header{}
	if offset > 0 { // without If-Range: who wants a file by its digest finds out
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, size-1))
	}
	resp, err := w.do(ctx, name, header)
	if err != nil {
		return nil, 0, err
	}
	// A server may ignore Range and answer with all of it (RFC 9110, 14.2).
	skip, length := offset, size
	switch {
	case resp.StatusCode == http.StatusPartialContent && offset > 0:
		want := contentRange{first: offset, last: size - 1, total: size}
		got, parsed := parseContentRange(resp.Header.Get("Content-Range"))
		if parsed && got.total < 0 {
			got.total = size // it does not say
		}
		if !parsed || got != want {
			err = fmt.Errorf("the server answers with another range than %v", want)
		}
		skip, length = 0, size-offset
	case resp.StatusCode != http.StatusOK:
		err = statusError(resp)
	}
	if err == nil && resp.ContentLength >= 0 && resp.ContentLength != length {
		err = sizeError(resp.ContentLength, length)
	}
	if err != nil {
		return nil, 0, errors.Join(err, resp.Body.Close())
	}
	return resp.Body, skip, nil
}

// do asks for a file, and refuses what is none whatever its status.
func (w *web) do(ctx context.Context, name string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.JoinPath(name).String(), nil)
	if err != nil {
		return nil, err
	}
	header.Set("User-Agent", w.userAgent)
	header.Set("Accept-Encoding", "identity")
	req.Header = header
	resp, err := w.client.Do(req)
	if err != nil {
		if ctx.Err() == nil && !is[*Error](err) && !is[*tls.CertificateVerificationError](err) {
			return nil, brokenError{plain(err)}
		}
		return nil, over(ctx, plain(err))
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // "" on an error
	switch coding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode == http.StatusNetworkAuthenticationRequired, // RFC 6585, 6
		resp.StatusCode/100 == 2 && (media == "text/html" || media == "application/xhtml+xml"):
		err = errPage()
	case coding != "" && coding != "identity":
		err = &Error{fmt.Errorf("the server encodes the file (%.20q)", coding), "turn compression off in the server for this folder"}
	default:
		return resp, nil
	}
	return nil, errors.Join(err, resp.Body.Close())
}

func statusError(resp *http.Response) error {
	e := &StatusError{Code: resp.StatusCode}
	if e.Code == http.StatusTooManyRequests || e.Code == http.StatusServiceUnavailable {
		e.RetryAfter = retryAfter(resp.Header, time.Now())
	}
	return e
}
