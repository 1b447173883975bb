package whitelist

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
)

// A Head is what stands before the rows of a list, verified: a delegation, where a
// root is trusted, and the signed manifest.
type Head struct {
	Manifest Manifest
	// Bytes are those that were received: with the rows behind them they are the list.
	Bytes []byte

	payload sign1.Payload
	warrant roles.Warrant
}

// Payload returns the verified content the manifest was read from.
func (h Head) Payload() sign1.Payload { return h.payload }

// Delegation is the version of the delegation, 0 where keys are pinned.
func (h Head) Delegation() uint64 { return h.warrant.Delegation.Version }

// Valid says whether the key that signed the manifest may sign lists at an
// instant. A list that came while it might stays in force afterwards.
func (h Head) Valid(at time.Time) error { return h.warrant.Valid(h.payload, at) }

// Ends is the last second in which it may, zero where keys are pinned.
func (h Head) Ends() time.Time { return h.warrant.Ends(h.payload) }

// ReadHead reads and verifies a head, with nothing behind it.
func ReadHead(b []byte, trust roles.Trust) (Head, error) {
	h, n, err := readHead(b, trust, true)
	if err == nil && n != len(b) {
		return Head{}, fmt.Errorf("%w: bytes behind the manifest", ErrMalformed)
	}
	return h, err
}

// readHead reads the head with which b begins, and tells its length. whole says
// that nothing comes behind b.
func readHead(b []byte, trust roles.Trust, whole bool) (h Head, n int, err error) {
	if len(b) == 0 {
		return h, 0, fmt.Errorf("%w: the file is empty", ErrTruncated)
	}
	delegation, rest, err := roles.Cut(b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return h, 0, fmt.Errorf("%w: it ends within the delegation", ErrTruncated)
	}
	if err != nil {
		return h, 0, fmt.Errorf("reading list: %w", err)
	}
	signed, err := codec.First(rest)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && whole, len(rest) == 0:
		return h, 0, fmt.Errorf("%w: it ends within the signed manifest", ErrTruncated)
	case errors.Is(err, io.ErrUnexpectedEOF) || err == nil && len(signed) > MaxHeader:
		return h, 0, fmt.Errorf("%w: the signed manifest has more than %d bytes", ErrTooLarge, MaxHeader)
	case err != nil:
		return h, 0, fmt.Errorf("%w: the file does not begin with a signed manifest: %v", ErrMalformed, err)
	}
	if h.warrant, err = trust.Warrant(delegation); err != nil {
		return h, 0, fmt.Errorf("verifying manifest: %w", err)
	}
	if h.payload, err = h.warrant.Keys.Verify(sign1.RoleList, signed); err != nil {
		return h, 0, fmt.Errorf("verifying manifest: %w", err)
	}
	if h.Manifest, err = ParseManifest(h.payload); err != nil {
		return h, 0, err
	}
	if d := h.warrant.Delegation; d.Version > 0 && d.Hierarchy != h.Manifest.Hierarchy {
		return h, 0, fmt.Errorf("verifying manifest: %w: a %s list under a delegation for %s", ErrScope, h.Manifest.Hierarchy, d.Hierarchy)
	}
	if h.Manifest.Rows > uint64(MaxFile)/minRow {
		return h, 0, fmt.Errorf("%w: %d rows cannot fit into %d bytes", ErrTooLarge, h.Manifest.Rows, MaxFile)
	}
	n = len(delegation) + len(signed)
	h.Bytes = append([]byte(nil), b[:n]...)
	return h, n, nil
}

// Encode returns the payload that is signed.
func (m Manifest) Encode() ([]byte, error) {
	payload, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("writing manifest: %w", err)
	}
	if len(payload) > maxManifest {
		return nil, fmt.Errorf("writing manifest: %w: %d bytes, at most %d can be signed: its venue needs fewer or shorter names and rules",
			ErrTooLarge, len(payload), maxManifest)
	}
	return payload, nil
}

// Sign returns the signed manifest, with the delegation that justifies its key in
// front of it, where there is one.
func (m Manifest) Sign(signer crypto.Signer, delegation []byte) ([]byte, error) {
	payload, err := m.Encode()
	if err != nil {
		return nil, err
	}
	signed, err := sign1.Sign(nil, sign1.RoleList, signer, payload)
	if err != nil {
		return nil, fmt.Errorf("writing manifest: %w", err)
	}
	return append(append([]byte(nil), delegation...), signed...), nil
}

// PeekManifest reads a payload whose signature does not exist yet: to show it to
// whoever signs it.
func PeekManifest(payload []byte) (Manifest, error) { return decodeManifest(payload) }
