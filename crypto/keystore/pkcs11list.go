package keystore

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// list shows the private keys that may sign, and the wrapping secrets. Most
// tokens hide them before a login: without a pin-source, what shows a public half
// stands for the private key of the same id, which may be missing.
func (m pkcs11Medium) list(ctx context.Context, u URI, pins *pinSource) ([]Entry, error) {
	return with(ctx, m, u, 0, pins, func(s *p11Session) ([]Entry, error) {
		entries, err := s.entries(u, pkcs11.CKO_PRIVATE_KEY, s.public)
		if err != nil {
			return nil, err
		}
		secrets, err := s.entries(u, pkcs11.CKO_SECRET_KEY, nil)
		if err != nil {
			return nil, err
		}
		entries = append(entries, secrets...)
		if s.noLogin() == "" {
			return entries, nil
		}
		known := make(map[string]bool)
		for _, e := range entries {
			known[e.URI] = true
		}
		for _, class := range publicClasses {
			more, err := s.entries(u, class, func(o pkcs11.ObjectHandle) (crypto.PublicKey, error) { return s.shownBy(class, o) })
			if err != nil {
				return nil, err
			}
			for _, e := range more {
				if !known[e.URI] {
					known[e.URI] = true
					entries = append(entries, e)
				}
			}
		}
		return entries, nil
	})
}

// entries lists the objects of a class. public reads the public half of one; it
// is nil for secret keys.
func (s *p11Session) entries(u URI, class uint, public func(pkcs11.ObjectHandle) (crypto.PublicKey, error)) (entries []Entry, err error) {
	all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		v, err := s.attributes(o, pkcs11.CKA_ID, pkcs11.CKA_LABEL, pkcs11.CKA_SIGN, pkcs11.CKA_ENCRYPT, pkcs11.CKA_KEY_TYPE)
		if err != nil {
			return nil, err
		}
		id, label := v[0], unpad(string(v[1]))
		e := Entry{Label: label, URI: u.With("object", label).With("id", "").String()}
		if len(id) > 0 {
			e.URI = u.With("object", "").With("id", fmt.Sprintf("%x", id)).String()
		} else if label == "" {
			continue // no URI opens it
		}
		switch {
		case class == pkcs11.CKO_SECRET_KEY:
			if !isTrue(v[3]) || ulong(v[4]) != pkcs11.CKK_AES {
				continue
			}
			e.Purpose, e.Type = Wrap, string(secret32)
		case class == pkcs11.CKO_PRIVATE_KEY && !isTrue(v[2]):
			continue
		default:
			var t KeyType
			if e.Public, err = public(o); err == nil {
				t, err = TypeOf(e.Public)
			}
			if errors.Is(err, ErrAbsent) {
				return nil, err
			}
			if e.Type = string(t); err != nil {
				e.Type = err.Error()
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}
