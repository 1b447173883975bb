package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/strictcbor"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A Credential is a card, a phone or a SIM of a holder: one certificate.
type Credential struct {
	// Of the certificate; NewCredential fills these in.
	Head     []byte // what the list finds it by, at most 1024 bytes
	AuthKey  cardkey.Key
	Issuer   Issuer
	Serial   []byte    // big-endian, without leading zeros, at most 20 bytes
	NotAfter time.Time // whole seconds

	CardKey   cardkey.Key // of the card itself; may be none
	BirthDate string      // YYYYMMDD or none; dropped unless the scope's first use is on

	// What the registry makes of it.
	ID       int64            // never given to another
	Holder   int64            //
	Status   whitelist.Status // Active, Blocked or Revoked, by the operator
	Issued   Revocation       // by the issuer
	Retired  bool             // renewed, lost or given up: listed as revoked for good
	Replaces int64            // the credential that this one renewed
}

// An Issuer is who revokes a certificate, and the place where.
type Issuer struct {
	Authority [32]byte // of the issuer's name and key, see authorityID
	Point     [32]byte // SHA-256 of the name of the CRL distribution point; zero: none
}

// A Revocation is what the issuer says of a certificate.
type Revocation uint8

// Certificates are on hold while a lost card is looked for.
const (
	NotRevoked Revocation = iota
	OnHold
	IssuerRevoked
)

var revocations = [...]string{NotRevoked: "not revoked", OnHold: "on hold", IssuerRevoked: "revoked"}

// String returns "not revoked", "on hold" or "revoked".
func (r Revocation) String() string {
	if int(r) < len(revocations) {
		return revocations[r]
	}
	return fmt.Sprintf("Revocation(%d)", uint8(r))
}

// NewCredential reads a certificate in DER, which the caller has verified.
func NewCredential(certificate []byte) (Credential, error) {
	head, err := cardauth.ParseHead(certificate)
	if err != nil {
		return Credential{}, fmt.Errorf("reading certificate: %w", err)
	}
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return Credential{}, fmt.Errorf("reading certificate: %w", err)
	}
	key, err := cardkey.New(c.PublicKey)
	if err != nil {
		return Credential{}, fmt.Errorf("reading certificate: %w", err)
	}
	point, err := distributionPoint(c)
	if err != nil {
		return Credential{}, fmt.Errorf("reading certificate: %w", err)
	}
	return Credential{
		Head: bytes.Clone(head.Bytes()), AuthKey: key, NotAfter: c.NotAfter.UTC(), Serial: c.SerialNumber.Bytes(),
		Issuer: Issuer{authorityID(c.RawIssuer, c.AuthorityKeyId), point},
	}, nil
}

// authorityID tells authorities apart that have one name and different keys, as
// those of 2015 and 2023 do: SHA-256 of name and key identifier, each behind its
// length in 32 bits.
func authorityID(name, keyID []byte) [32]byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(keyID)))
	return sha256.Sum256(append(b, keyID...))
}

// distributionPoint is where c's issuer says whether it is revoked: the first
// name of its first distribution point (RFC 5280 §4.2.1.13).
func distributionPoint(c *x509.Certificate) (id [32]byte, err error) {
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 31}) {
			continue
		}
		var points []struct {
			Name asn1.RawValue `asn1:"optional,tag:0"`
			Rest asn1.RawValue `asn1:"optional"`
		}
		if rest, err := asn1.Unmarshal(ext.Value, &points); err != nil || len(rest) > 0 {
			return id, errors.New("malformed CRL distribution points")
		}
		if len(points) == 0 {
			continue
		}
		names, err := fullName(points[0].Name)
		if err != nil {
			return id, err
		}
		if len(names) > 0 {
			return names[0], nil
		}
	}
	return id, nil
}

// fullName is the SHA-256 of each of the general names in a
// DistributionPointName; none of one that is relative to the issuer.
func fullName(v asn1.RawValue) (ids [][32]byte, err error) {
	if len(v.Bytes) == 0 {
		return nil, nil
	}
	var name asn1.RawValue
	if rest, err := asn1.Unmarshal(v.Bytes, &name); err != nil || len(rest) > 0 {
		return nil, errors.New("malformed name of a CRL distribution point")
	}
	if name.Tag != 0 {
		return nil, nil
	}
	for rest := name.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, errors.New("malformed name of a CRL distribution point")
		}
		ids = append(ids, sha256.Sum256(one.FullBytes))
	}
	return ids, nil
}

// check holds the rules written at the type.
func (c Credential) check() error {
	if n := len(c.Head); n < 1 || n > 1024 || c.Head[0] != 0x30 {
		return fmt.Errorf("%w: a certificate head of %d bytes", ErrInvalid, n)
	}
	if n := len(c.Serial); n < 1 || n > 20 || c.Serial[0] == 0 {
		return fmt.Errorf("%w: a serial number of %d bytes", ErrInvalid, n)
	}
	if err := strictcbor.CheckTime(c.NotAfter); err != nil {
		return fmt.Errorf("%w: the end of the certificate %w", ErrInvalid, err)
	}
	if c.BirthDate != "" {
		if _, err := time.Parse("20060102", c.BirthDate); err != nil || len(c.BirthDate) != 8 {
			return fmt.Errorf("%w: the birth date is not a date YYYYMMDD", ErrInvalid)
		}
	}
	return nil
}

// AddCredential adds a credential of a holder, 0 for a new one without
// reference, and returns it. The same again changes nothing. A card key that is
// in use under another certificate is ErrCardKeyInUse.
func (r *Registry) AddCredential(ctx context.Context, by By, scope string, holder int64, c Credential) (added Credential, err error) {
	err = r.do(ctx, by, "adding credential", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		old, err := credentialOf(ctx, t, s.id, c.Head)
		if err == nil {
			if !old.same(c) || holder != 0 && holder != old.Holder {
				return fmt.Errorf("%w: this certificate, with other keys or of another holder", ErrExists)
			}
			added = old
			return nil
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if holder == 0 {
			if holder, err = t.holder(ctx, by, s.id, ""); err != nil {
				return err
			}
		} else if err := t.checkHolder(ctx, s.id, holder); err != nil {
			return err
		}
		added, err = t.addCredential(ctx, by, s, holder, c, 0)
		return err
	})
	return added, err
}

// same reports whether c ties the certificate to the same keys as other.
func (c Credential) same(other Credential) bool {
	return bytes.Equal(c.AuthKey.SPKI(), other.AuthKey.SPKI()) && bytes.Equal(c.CardKey.SPKI(), other.CardKey.SPKI())
}

// RenewCredential replaces the credential of head by one of a new certificate:
// it takes over the holder, and the old one is retired.
func (r *Registry) RenewCredential(ctx context.Context, by By, scope string, head []byte, c Credential) (added Credential, err error) {
	err = r.do(ctx, by, "renewing credential", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		old, err := credentialOf(ctx, t, s.id, head)
		if err != nil {
			return err
		}
		added, err = t.renew(ctx, by, s, old, c)
		return err
	})
	return added, err
}

func (t *tx) renew(ctx context.Context, by By, s Scope, old, c Credential) (Credential, error) {
	switch {
	case old.Status != whitelist.Active:
		return Credential{}, fmt.Errorf("%w: the old credential is %v by the operator: reinstate it first", ErrInvalid, old.Status)
	case old.Retired && !old.CardKey.IsZero() && !old.CardKey.Equal(c.CardKey):
		return Credential{}, fmt.Errorf("%w: the old credential is retired, and of another card", ErrInvalid)
	}
	if err := t.absent(ctx, `SELECT 1 FROM credentials WHERE scope = ?1 AND head = ?2`, s.id, c.Head); err != nil {
		return Credential{}, err
	}
	if err := t.retire(ctx, by, s, old); err != nil {
		return Credential{}, err
	}
	return t.addCredential(ctx, by, s, old.Holder, c, old.ID)
}

func (t *tx) addCredential(ctx context.Context, by By, s Scope, holder int64, c Credential, replaces int64) (Credential, error) {
	if err := c.check(); err != nil {
		return Credential{}, err
	}
	if err := t.cardKeyIsFree(ctx, s.id, c.CardKey.SPKI()); err != nil {
		return Credential{}, err
	}
	if !s.FirstUse {
		c.BirthDate = ""
	}
	issuer, err := t.issuer(ctx, c.Issuer)
	if err != nil {
		return Credential{}, err
	}
	if c.ID, err = t.next(ctx, "thing"); err != nil {
		return Credential{}, err
	}
	if _, err := t.exec(ctx, `INSERT INTO credentials VALUES (`+parameters(0, credentialColumns)+`)`, c.row(s.id, holder, issuer, replaces)...); err != nil {
		return Credential{}, err
	}
	if err := t.fits(ctx, s.id, []int64{holder}, nil); err != nil {
		return Credential{}, err
	}
	if err := t.touched.add(ctx, t, s.id, c.Head); err != nil {
		return Credential{}, err
	}
	if err := t.record(ctx, by, event{verb: "add_credential", scope: s.id, holder: holder, card: c.ID}); err != nil {
		return Credential{}, err
	}
	return credentialOf(ctx, t, s.id, c.Head)
}

const credentialColumns = 13

// row is the credential as table credentials has it.
func (c Credential) row(scope, holder, issuer, replaces int64) []any {
	return []any{c.ID, scope, holder, c.Head, c.AuthKey.SPKI(), c.CardKey.SPKI(), null(c.BirthDate), issuer, c.Serial, c.NotAfter.Unix(), int(whitelist.Active), 0, null(replaces)}
}

func (t *tx) cardKeyIsFree(ctx context.Context, scope int64, spki []byte) error {
	if spki == nil {
		return nil
	}
	if err := t.absent(ctx, `SELECT 1 FROM credentials WHERE scope = ?1 AND card_key = ?2 AND retired = 0`, scope, spki); errors.Is(err, ErrExists) {
		return ErrCardKeyInUse
	} else {
		return err
	}
}

// RetireCredential gives a credential up for good: it is listed as revoked, and
// its card key may be registered again.
func (r *Registry) RetireCredential(ctx context.Context, by By, scope string, head []byte) error {
	return r.do(ctx, by, "retiring credential", func(t *tx) error {
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		c, err := credentialOf(ctx, t, s.id, head)
		if err != nil {
			return err
		}
		return t.retire(ctx, by, s, c)
	})
}

func (t *tx) retire(ctx context.Context, by By, s Scope, c Credential) error {
	if c.Retired {
		return nil
	}
	if _, err := t.exec(ctx, `UPDATE credentials SET retired = 1 WHERE id = ?1`, c.ID); err != nil {
		return err
	}
	if err := t.touched.add(ctx, t, s.id, c.Head); err != nil {
		return err
	}
	return t.record(ctx, by, event{verb: "retire", scope: s.id, holder: c.Holder, card: c.ID})
}

// SetCredentialStatus blocks, revokes or reinstates a credential, for a reason.
// The status that it has already changes nothing.
func (r *Registry) SetCredentialStatus(ctx context.Context, by By, scope string, head []byte, status whitelist.Status) error {
	return r.do(ctx, by, "changing a credential's status", func(t *tx) error {
		if err := by.because(); err != nil {
			return err
		}
		s, err := scopeOf(ctx, t, scope)
		if err != nil {
			return err
		}
		c, err := credentialOf(ctx, t, s.id, head)
		if err != nil || c.Status == status {
			return err
		}
		verb, err := statusVerb(c.Status, status)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE credentials SET status = ?2 WHERE id = ?1`, c.ID, int(status)); err != nil {
			return err
		}
		if err := t.touched.add(ctx, t, s.id, c.Head); err != nil {
			return err
		}
		return t.record(ctx, by, event{verb: verb, scope: s.id, holder: c.Holder, card: c.ID})
	})
}

// statusVerb is what the history calls a change of status.
func statusVerb(from, to whitelist.Status) (string, error) {
	switch to {
	case whitelist.Blocked:
		return "block", nil
	case whitelist.Revoked:
		return "revoke", nil
	case whitelist.Active:
		if from == whitelist.Blocked {
			return "unblock", nil
		}
		return "reinstate", nil
	}
	return "", fmt.Errorf("%w: status %v is not the operator's to give", ErrInvalid, to)
}

// Credential returns the credential of a certificate head.
func (r *Registry) Credential(ctx context.Context, scope string, head []byte) (Credential, error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		var c Credential
		if c, err = credentialOf(ctx, r, s.id, head); err == nil {
			return c, nil
		}
	}
	return Credential{}, fmt.Errorf("reading credential: %w", err)
}

// Credentials returns those of a holder, in the order in which they were added.
func (r *Registry) Credentials(ctx context.Context, holder int64) ([]Credential, error) {
	all, err := credentials(ctx, r, `c.holder = ?1 ORDER BY c.id`, holder)
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	return all, nil
}

func credentialOf(ctx context.Context, q querier, scope int64, head []byte) (Credential, error) {
	all, err := credentials(ctx, q, `c.scope = ?1 AND c.head = ?2`, scope, head)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: this certificate", ErrNotFound)
	}
	if err != nil {
		return Credential{}, err
	}
	return all[0], nil
}

func credentials(ctx context.Context, q querier, where string, args ...any) (all []Credential, err error) {
	rows, err := q.query(ctx, `SELECT c.id, c.holder, c.head, c.auth_key, c.card_key, c.birth_date, i.authority, i.point, c.serial, c.not_after, c.status, c.retired = 1, c.replaces, v.hold
		FROM credentials c JOIN issuers i ON i.id = c.issuer LEFT JOIN revoked v ON v.authority = i.authority AND v.serial = c.serial WHERE `+where, args...)
	if err := each(rows, err, func() error {
		var c Credential
		var authKey, cardKey, authority, point []byte
		var born sql.NullString
		var end int64
		var replaces, hold sql.NullInt64
		if err := rows.Scan(&c.ID, &c.Holder, &c.Head, &authKey, &cardKey, &born, &authority, &point, &c.Serial, &end, &c.Status, &c.Retired, &replaces, &hold); err != nil {
			return err
		}
		if c.AuthKey, err = parseKey(authKey); err != nil {
			return err
		}
		if c.CardKey, err = parseKey(cardKey); err != nil {
			return err
		}
		copy(c.Issuer.Authority[:], authority)
		copy(c.Issuer.Point[:], point)
		c.BirthDate, c.NotAfter, c.Replaces, c.Issued = born.String, fromUnix(end), replaces.Int64, issued(hold)
		all = append(all, c)
		return nil
	}); err != nil {
		return nil, err
	}
	return all, nil
}

// issued is what the column hold of table revoked says, NULL where there is no row.
func issued(hold sql.NullInt64) Revocation {
	switch {
	case !hold.Valid:
		return NotRevoked
	case hold.Int64 == 1:
		return OnHold
	}
	return IssuerRevoked
}

func parseKey(spki []byte) (cardkey.Key, error) {
	if spki == nil {
		return cardkey.Key{}, nil
	}
	return cardkey.Parse(spki)
}
