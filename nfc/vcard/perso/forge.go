package perso

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"slices"
)

// What follows signs anything at all with the keys of the hierarchy: what a
// mistake of the authority, or a theft of its keys, would bring into the world.
// Adversaries show that such a thing is refused for its own sake.

// MisissueCertificate has the user-authentication CA sign a TBSCertificate
// (RFC 5280 §4.1.1.3) as it is given. The hash is SHA-256 or SHA-1.
func (a *Authority) MisissueCertificate(tbs []byte, hash crypto.Hash) (signature []byte, err error) {
	var digest []byte
	switch hash {
	case crypto.SHA256:
		sum := sha256.Sum256(tbs)
		digest = sum[:]
	case crypto.SHA1:
		sum := sha1.Sum(tbs)
		digest = sum[:]
	default:
		return nil, fmt.Errorf("misissuing a certificate: no hash %v here", hash)
	}
	return a.userCA.key.Sign(rand.Reader, digest, hash)
}

// MisissueRecord has the record key sign what should be the signed objects of an
// age record.
func (a *Authority) MisissueRecord(objects []byte) (signature []byte, err error) {
	return signSHA256(a.recordKey, objects)
}

// MisissueSigner has the card-surface CA sign what should be the body of the
// certificate in EF 0004.
func (a *Authority) MisissueSigner(body []byte) (signature []byte, err error) {
	return signSHA256(a.surfaceCA, body)
}

// Object is a BER-TLV data object with the shortest length field, as the
// records of a card have it.
func Object(tag uint16, parts ...[]byte) []byte { return object(tag, slices.Concat(parts...)) }
