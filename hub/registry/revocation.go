package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Errors of ApplyCRL.
var (
	// ErrCRL: not a list that says the whole of what its issuer revoked at a
	// distribution point, such as a delta, or malformed.
	ErrCRL = errors.New("not a complete CRL")
	// ErrUntrustedCRL: no trusted authority signed it.
	ErrUntrustedCRL = errors.New("CRL is not signed by a trusted authority")
	// ErrCRLTime: not yet or no longer in force.
	ErrCRLTime = errors.New("CRL is not in force at this time")
)

// MaxCRL is the largest CRL that is read, in bytes: two million entries.
const MaxCRL = 96 << 20

// A RevocationReport says what became of an import of revocations.
type RevocationReport struct {
	AsOf      time.Time // up to when revocations are known now
	Entries   int       // certificates that are named, known here or not
	Revoked   int       // credentials that are newly revoked or on hold
	Released  int       // credentials whose hold has ended
	Unchanged bool      // applied before
}

// ApplyCRL applies a certificate revocation list (RFC 5280 §5), DER or PEM, to
// the credentials of every scope, and to those that will be added. It is
// verified against the authorities and must be in force at by.At. One of an
// earlier thisUpdate or number than that applied before is ErrOlder.
func (r *Registry) ApplyCRL(ctx context.Context, by By, crl []byte, authorities []*x509.Certificate) (report RevocationReport, err error) {
	err = r.do(ctx, by, "applying a CRL", func(t *tx) error {
		list, authority, err := verifyCRL(crl, authorities, by.At)
		if err != nil {
			return err
		}
		points, err := issuingPoints(list)
		if err != nil {
			return err
		}
		from := source{
			authority: authorityID(authority.RawSubject, authority.SubjectKeyId), points: points,
			asOf: list.ThisUpdate, number: list.Number, digest: sha256.Sum256(list.Raw),
		}
		report, err = t.apply(ctx, by, from, func(yield func(revoked) error) error {
			for _, e := range list.RevokedCertificateEntries {
				if err := yield(revoked{e.SerialNumber, e.ReasonCode == certificateHold, e.RevocationTime}); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	return report, err
}

// Reason codes of RFC 5280 §5.3.1.
const (
	certificateHold = 6
	removeFromCRL   = 8
)

// verifyCRL returns a list that one of authorities signed, and that authority.
func verifyCRL(crl []byte, authorities []*x509.Certificate, at time.Time) (*x509.RevocationList, *x509.Certificate, error) {
	if len(crl) > MaxCRL {
		return nil, nil, fmt.Errorf("%w: more than %d bytes", ErrCRL, MaxCRL)
	}
	if block, rest := pem.Decode(crl); block != nil {
		if block.Type != "X509 CRL" {
			return nil, nil, fmt.Errorf("%w: PEM of another type", ErrCRL)
		}
		if len(bytes.TrimSpace(rest)) > 0 { // a second list would be passed over in silence
			return nil, nil, fmt.Errorf("%w: something is behind it: give a file for each list", ErrCRL)
		}
		crl = block.Bytes
	}
	list, err := x509.ParseRevocationList(crl)
	if err == nil && len(list.Raw) != len(crl) {
		err = errors.New("bytes behind it")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCRL, err)
	}
	for _, a := range authorities {
		// CheckSignatureFrom asks for the authority's right to sign CRLs.
		if !bytes.Equal(a.RawSubject, list.RawIssuer) || list.CheckSignatureFrom(a) != nil {
			continue
		}
		switch {
		case at.Before(list.ThisUpdate):
			return nil, nil, fmt.Errorf("%w: it begins at %s", ErrCRLTime, list.ThisUpdate.UTC().Format(time.RFC3339))
		case list.NextUpdate.IsZero():
			return nil, nil, fmt.Errorf("%w: it does not say when the next one comes", ErrCRL)
		case at.After(list.NextUpdate):
			return nil, nil, fmt.Errorf("%w: it ended at %s: get a newer one", ErrCRLTime, list.NextUpdate.UTC().Format(time.RFC3339))
		}
		return list, a, nil
	}
	return nil, nil, ErrUntrustedCRL
}

// issuingPoints are the distribution points that a list is for, or the zero point
// when it is for all certificates of its authority. A list that says less than
// the whole is refused: taken for the whole, it would release what it leaves out.
func issuingPoints(list *x509.RevocationList) ([][32]byte, error) {
	points := [][32]byte{{}}
	for _, ext := range list.Extensions {
		switch {
		case ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}): // issuingDistributionPoint, §5.2.5
			named, err := distributionPointOf(ext.Value)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrCRL, err)
			}
			if len(named) > 0 {
				points = named
			}
		case ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}):
			return nil, fmt.Errorf("%w: a delta: get the whole", ErrCRL)
		case ext.Critical:
			return nil, fmt.Errorf("%w: a critical extension %v that this program does not know", ErrCRL, ext.Id)
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.ReasonCode == removeFromCRL || unknownCritical(e.Extensions) {
			return nil, fmt.Errorf("%w: an entry of a delta, or of another issuer", ErrCRL)
		}
	}
	return points, nil
}

// distributionPointOf reads an issuingDistributionPoint.
func distributionPointOf(der []byte) ([][32]byte, error) {
	var idp struct {
		Name       asn1.RawValue `asn1:"optional,tag:0"`
		User       bool          `asn1:"optional,tag:1"`
		CA         bool          `asn1:"optional,tag:2"`
		Reasons    asn1.RawValue `asn1:"optional,tag:3"`
		Indirect   bool          `asn1:"optional,tag:4"`
		Attributes bool          `asn1:"optional,tag:5"`
	}
	if rest, err := asn1.Unmarshal(der, &idp); err != nil || len(rest) > 0 {
		return nil, errors.New("malformed distribution point")
	}
	if idp.CA || idp.Attributes || idp.Indirect || len(idp.Reasons.FullBytes) > 0 {
		return nil, errors.New("it is for certificates of authorities, for some reasons, or of several issuers")
	}
	names, err := fullName(idp.Name)
	if err == nil && len(idp.Name.Bytes) > 0 && len(names) == 0 {
		err = errors.New("its distribution point has a name relative to the issuer's")
	}
	return names, err
}

// unknownCritical reports whether an entry has a critical extension, such as
// certificateIssuer: it then means something else than it seems to.
func unknownCritical(extensions []pkix.Extension) bool {
	for _, e := range extensions {
		if e.Critical {
			return true
		}
	}
	return false
}

// source is where revocations come from.
type source struct {
	authority [32]byte
	points    [][32]byte // one zero point: all of the authority
	asOf      time.Time
	number    *big.Int // nil: none
	digest    [32]byte
}

type revoked struct {
	serial *big.Int
	hold   bool
	at     time.Time
}

// apply makes entries what is known of source. Whoever is revoked stays so: an
// entry may go when its certificate has expired. A hold that is not named any
// more has ended.
func (t *tx) apply(ctx context.Context, by By, from source, entries func(yield func(revoked) error) error) (report RevocationReport, err error) {
	report.AsOf = from.asOf.Truncate(time.Second).UTC()
	same := 0
	for _, point := range from.points {
		unchanged, err := t.newer(ctx, from, point)
		if err != nil {
			return report, err
		}
		if unchanged {
			same++
		}
	}
	if same == len(from.points) {
		report.Unchanged = true
		return report, nil
	}

	some := make([]revoked, 0, batchRows)
	held := map[string]bool{}
	flush := func() error {
		n, err := t.revoke(ctx, by, from, some)
		report.Revoked += n
		some = some[:0]
		return err
	}
	if err := entries(func(e revoked) error {
		if e.serial == nil || e.serial.Sign() <= 0 || e.serial.BitLen() > 160 {
			return fmt.Errorf("%w: a serial number that is not positive or longer than 20 bytes", ErrCRL)
		}
		report.Entries++
		if e.hold {
			held[string(e.serial.Bytes())] = true
		}
		if some = append(some, e); len(some) < batchRows {
			return nil
		}
		return flush()
	}); err != nil {
		return report, err
	}
	if err := flush(); err != nil {
		return report, err
	}
	if report.Released, err = t.release(ctx, by, from, held); err != nil {
		return report, err
	}
	for _, point := range from.points {
		if _, err := t.issuer(ctx, Issuer{from.authority, point}); err != nil {
			return report, err
		}
		var number []byte
		if from.number != nil {
			number = from.number.Bytes()
		}
		if _, err := t.exec(ctx, `UPDATE issuers SET as_of = ?3, number = ?4, digest = ?5 WHERE authority = ?1 AND point = ?2`,
			from.authority[:], point[:], report.AsOf.Unix(), number, from.digest[:]); err != nil {
			return report, err
		}
	}
	return report, t.record(ctx, by, event{verb: "apply_revocations"})
}

// newer checks that source is not older than what was applied of a point.
func (t *tx) newer(ctx context.Context, from source, point [32]byte) (unchanged bool, err error) {
	var asOf int64
	var number, digest []byte
	err = t.queryRow(ctx, `SELECT as_of, number, digest FROM issuers WHERE authority = ?1 AND point = ?2`, from.authority[:], point[:]).Scan(&asOf, &number, &digest)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && asOf == 0:
		return false, nil
	case err != nil:
		return false, err
	case bytes.Equal(digest, from.digest[:]):
		return true, nil
	case from.asOf.Unix() < asOf:
		return false, fmt.Errorf("%w: of %s, and revocations are known as of %s", ErrOlder, from.asOf.UTC().Format(time.RFC3339), fromUnix(asOf).Format(time.RFC3339))
	case from.number != nil && number != nil && from.number.Cmp(new(big.Int).SetBytes(number)) < 0:
		return false, fmt.Errorf("%w: its number is below that of the list before", ErrOlder)
	}
	return false, nil
}

// revoke keeps entries and marks the credentials for which they are news.
func (t *tx) revoke(ctx context.Context, by By, from source, entries []revoked) (n int, err error) {
	if len(entries) == 0 {
		return 0, nil
	}
	args := []any{from.authority[:]}
	for _, e := range entries {
		args = append(args, e.serial.Bytes())
	}
	n, err = t.issuerChanged(ctx, by, "certificate_revoked", `i.authority = ?1 AND c.serial IN (`+parameters(1, len(entries))+`) AND v.serial IS NULL`, args...)
	if err != nil {
		return 0, err
	}
	insert := newBatch(`INSERT INTO revoked (authority, serial, hold, at, point) VALUES `, 5,
		` ON CONFLICT (authority, serial) DO UPDATE SET hold = CASE WHEN revoked.hold < excluded.hold THEN revoked.hold ELSE excluded.hold END, at = excluded.at, point = excluded.point`)
	seen := map[string]bool{}
	for _, e := range entries {
		serial := e.serial.Bytes()
		if seen[string(serial)] {
			return 0, fmt.Errorf("%w: one serial number comes twice", ErrCRL)
		}
		seen[string(serial)] = true
		if err := insert.add(ctx, t, from.authority[:], serial, number(e.hold), max(0, toUnix(e.at)), from.points[0][:]); err != nil {
			return 0, err
		}
	}
	return n, insert.flush(ctx, t)
}

// release ends the holds of source that are not in held.
func (t *tx) release(ctx context.Context, by By, from source, held map[string]bool) (n int, err error) {
	var ended [][]byte
	rows, err := t.query(ctx, `SELECT serial FROM revoked WHERE authority = ?1 AND point = ?2 AND hold = 1 ORDER BY serial`, from.authority[:], from.points[0][:])
	if err := each(rows, err, func() error {
		var serial []byte
		err := rows.Scan(&serial)
		if !held[string(serial)] {
			ended = append(ended, serial)
		}
		return err
	}); err != nil {
		return 0, err
	}
	for _, serial := range ended {
		released, err := t.issuerChanged(ctx, by, "certificate_released", `i.authority = ?1 AND c.serial = ?2`, from.authority[:], serial)
		if err != nil {
			return 0, err
		}
		n += released
		if _, err := t.exec(ctx, `DELETE FROM revoked WHERE authority = ?1 AND serial = ?2`, from.authority[:], serial); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// issuerChanged marks credentials and says in their history what their issuer did.
func (t *tx) issuerChanged(ctx context.Context, by By, verb, where string, args ...any) (n int, err error) {
	type changed struct {
		id, scope, holder int64
		head              []byte
	}
	var all []changed
	rows, err := t.query(ctx, `SELECT c.id, c.scope, c.holder, c.head FROM credentials c JOIN issuers i ON i.id = c.issuer
		LEFT JOIN revoked v ON v.authority = i.authority AND v.serial = c.serial WHERE `+where+` ORDER BY c.id`, args...)
	if err := each(rows, err, func() error {
		var c changed
		err := rows.Scan(&c.id, &c.scope, &c.holder, &c.head)
		all = append(all, c)
		return err
	}); err != nil {
		return 0, err
	}
	for _, c := range all {
		if err := t.touched.add(ctx, t, c.scope, c.head); err != nil {
			return 0, err
		}
		if err := t.record(ctx, by, event{verb: verb, scope: c.scope, holder: c.holder, card: c.id}); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

// issuer returns the number of an issuer, who is added if there is none.
func (t *tx) issuer(ctx context.Context, i Issuer) (id int64, err error) {
	err = t.queryRow(ctx, `SELECT id FROM issuers WHERE authority = ?1 AND point = ?2`, i.Authority[:], i.Point[:]).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if id, err = t.next(ctx, "thing"); err != nil {
		return 0, err
	}
	_, err = t.exec(ctx, `INSERT INTO issuers VALUES (?1, ?2, ?3, 0, NULL, NULL)`, id, i.Authority[:], i.Point[:])
	return id, err
}

// asOf is Scope.RevocationAsOf: the oldest over the issuers of a scope, of which
// each is as new as the newer of what is known of its distribution point and of
// the whole authority.
func asOf(ctx context.Context, q querier, scope int64) (time.Time, error) {
	var whole [32]byte
	oldest := int64(-1)
	rows, err := q.query(ctx, `SELECT i.as_of, coalesce((SELECT f.as_of FROM issuers f WHERE f.authority = i.authority AND f.point = ?2), 0) FROM issuers i
		WHERE EXISTS (SELECT 1 FROM credentials c WHERE c.scope = ?1 AND c.issuer = i.id AND c.retired = 0 AND c.status <> 3)`, scope, whole[:])
	if err := each(rows, err, func() error {
		var point, all int64
		if err := rows.Scan(&point, &all); err != nil {
			return err
		}
		if known := max(point, all); oldest < 0 || known < oldest {
			oldest = known
		}
		return nil
	}); err != nil {
		return time.Time{}, err
	}
	return fromUnix(max(0, oldest)), nil
}

// Revocable is how many cards of a scope count for its RevocationAsOf: while there is
// none, no import makes that known.
func (r *Registry) Revocable(ctx context.Context, scope string) (cards int, err error) {
	s, err := scopeOf(ctx, r, scope)
	if err == nil {
		err = r.queryRow(ctx, `SELECT count(*) FROM credentials WHERE scope = ?1 AND retired = 0 AND status <> 3`, s.id).Scan(&cards)
	}
	if err != nil {
		return 0, fmt.Errorf("counting cards: %w", err)
	}
	return cards, nil
}
