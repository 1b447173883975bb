package registry

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// feedColumns of docs/hub-registry.md.
var feedColumns = []string{"issuer", "serial", "revoked_at", "status"}

// MaxFeed is the largest feed that is read, in bytes.
const MaxFeed = MaxCRL

// ImportRevocations applies an operator's feed: a CSV file of all certificates
// that authorities have revoked up to asOf, for who has no CRL but an answer of
// the validation service. It speaks for every one of authorities, also for one
// that it names no certificate of. The error is a *FileError when the file is
// wrong, and ErrOlder when asOf is before what is known.
func (r *Registry) ImportRevocations(ctx context.Context, by By, feed io.Reader, authorities []*x509.Certificate, asOf time.Time) (report RevocationReport, err error) {
	err = r.do(ctx, by, "importing revocations", func(t *tx) error {
		switch {
		case len(authorities) == 0:
			return fmt.Errorf("%w: a feed speaks for one authority at least", ErrInvalid)
		case asOf.After(by.At):
			return fmt.Errorf("%w: the feed is as of a time to come", ErrInvalid)
		case asOf.Unix() <= 0:
			return fmt.Errorf("%w: the feed says not as of when it is", ErrInvalid)
		}
		sum := sha256.New()
		byIssuer, err := readFeed(io.TeeReader(feed, sum), authorities)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "\x00%d", asOf.Unix())
		report = RevocationReport{AsOf: asOf.Truncate(time.Second).UTC(), Unchanged: true}
		for _, a := range authorities {
			of := source{
				authority: authorityID(a.RawSubject, a.SubjectKeyId), points: [][32]byte{{}},
				asOf: asOf, digest: [32]byte(sum.Sum(nil)),
			}
			one, err := t.apply(ctx, by, of, func(yield func(revoked) error) error {
				for _, e := range byIssuer[hex.EncodeToString(a.SubjectKeyId)] {
					if err := yield(e); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			report.Entries += one.Entries
			report.Revoked += one.Revoked
			report.Released += one.Released
			report.Unchanged = report.Unchanged && one.Unchanged
		}
		return nil
	})
	if err != nil {
		return RevocationReport{}, err
	}
	return report, nil
}

// readFeed reads a feed, by the key identifier of the issuer.
func readFeed(r io.Reader, authorities []*x509.Certificate) (map[string][]revoked, error) {
	known := map[string]bool{}
	for _, a := range authorities {
		if len(a.SubjectKeyId) == 0 {
			return nil, fmt.Errorf("%w: an authority without a subject key identifier", ErrInvalid)
		}
		known[hex.EncodeToString(a.SubjectKeyId)] = true
	}
	limited := &io.LimitedReader{R: r, N: MaxFeed + 1}
	csv, err := newTable(limited, feedColumns, []string{"issuer", "serial"})
	if err != nil {
		return nil, err
	}
	all := map[string][]revoked{}
	seen := map[string]int{}
	for {
		cells, err := csv.row()
		if limited.N == 0 {
			return nil, csv.refuse(Problem{0, "", fmt.Sprintf("the file has more than %d bytes", MaxFeed)})
		}
		if err == io.EOF {
			return all, csv.err()
		}
		if err != nil {
			return nil, err
		}
		issuer := hexDigits(cells["issuer"])
		if !known[issuer] {
			csv.problem("issuer", "write the subject key identifier of one of the authorities' certificates, in hexadecimal")
		}
		serial, err := parseSerial(cells["serial"])
		if err != nil {
			csv.problem("serial", "%v", err)
			continue
		}
		key := issuer + "/" + serial.String()
		if first, twice := seen[key]; twice {
			csv.problem("serial", "the same certificate is on line %d: write it once", first)
		}
		seen[key] = csv.line
		e := revoked{serial: serial}
		if at := cells["revoked_at"]; at != "" {
			if e.at, err = time.Parse(time.RFC3339, at); err != nil || e.at.Unix() < 0 {
				csv.problem("revoked_at", "write a time as in 2027-01-02T15:04:05+09:00, or nothing")
			}
		}
		switch cells["status"] {
		case "", "revoked":
		case "hold":
			e.hold = true
		default:
			csv.problem("status", "write revoked or hold, or nothing for revoked")
		}
		if csv.err() == nil {
			all[issuer] = append(all[issuer], e)
		}
	}
}

// hexDigits is hexadecimal as people and openssl write it, in one way.
func hexDigits(s string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(s))
}

func parseSerial(s string) (*big.Int, error) {
	digits := hexDigits(s)
	n, ok := new(big.Int).SetString(digits, 16)
	if !ok || strings.ContainsAny(digits, "+-_") || n.Sign() <= 0 || n.BitLen() > 160 {
		return nil, errors.New("write the serial number in hexadecimal, at most 20 bytes")
	}
	return n, nil
}
