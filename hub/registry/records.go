package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gate-agent/gate-agent/registration"
)

// RecordOptions say what a registration may do beside adding a card for somebody
// who had none.
type RecordOptions struct {
	// Renew lets a card whose key is in use under another certificate take over
	// its holder, and retires that one.
	Renew bool
	// Link lets a card join the holder whom its ticket names and who has a card
	// already: the desk says that it is one person.
	Link bool
	// Keep keeps the record, with the certificate and the birth date in it.
	Keep bool
}

// A RecordReport says what became of a registration.
type RecordReport struct {
	Credential Credential
	Ticket     string // the entitlement that it named, "" when it named none that is known
	Renewed    bool   // it took over from Credential.Replaces
	Unchanged  bool   // imported before
}

// ImportRecord verifies a registration record again, at by.At, and adds its
// credential. Its ticket names an entitlement, an order with one ticket that is
// nobody's yet, or else a holder's reference. The same record again changes
// nothing; another of the same nonce is ErrReplayed.
func (r *Registry) ImportRecord(ctx context.Context, by By, trust registration.Trust, record []byte, options RecordOptions) (report RecordReport, err error) {
	err = r.do(ctx, by, "importing a registration", func(t *tx) error {
		digest := sha256.Sum256(record)
		if known, err := t.imported(ctx, digest); err != nil || known != 0 {
			if err == nil {
				report, err = t.unchanged(ctx, known)
			}
			return err
		}
		reg, err := trust.Verify(record, by.At)
		if err != nil {
			return err
		}
		s, err := scopeOf(ctx, t, reg.Scope())
		if err != nil {
			return err
		}
		if s.Hierarchy != trust.Hierarchy {
			return fmt.Errorf("%w: the scope is of hierarchy %q", registration.ErrHierarchy, s.Hierarchy)
		}
		nonce := reg.Nonce()
		if err := t.absent(ctx, `SELECT 1 FROM records WHERE scope = ?1 AND nonce = ?2`, s.id, nonce[:]); errors.Is(err, ErrExists) {
			return ErrReplayed
		} else if err != nil {
			return err
		}
		if report, err = t.register(ctx, by, s, reg, options); err != nil {
			return err
		}
		if !options.Keep {
			record = nil
		}
		_, err = t.exec(ctx, `INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5)`, s.id, nonce[:], digest[:], report.Credential.ID, record)
		return err
	})
	if err != nil {
		return RecordReport{}, err
	}
	return report, nil
}

// imported is the number of the credential that a record brought, 0 for a record
// that was not imported.
func (t *tx) imported(ctx context.Context, digest [32]byte) (credential int64, err error) {
	err = t.queryRow(ctx, `SELECT credential FROM records WHERE digest = ?1`, digest[:]).Scan(&credential)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return credential, err
}

func (t *tx) unchanged(ctx context.Context, credential int64) (RecordReport, error) {
	all, err := credentials(ctx, t, `c.id = ?1`, credential)
	if err != nil {
		return RecordReport{}, err
	}
	report := RecordReport{Unchanged: true}
	if len(all) > 0 { // else it was deleted since, and stays so
		report.Credential = all[0]
	}
	return report, nil
}

// register adds the credential of a verified record.
func (t *tx) register(ctx context.Context, by By, s Scope, reg registration.Registration, options RecordOptions) (report RecordReport, err error) {
	c, err := NewCredential(reg.Certificate())
	if err != nil {
		return report, err
	}
	c.CardKey = reg.CardKey()
	if born := reg.BirthDate(); !born.IsZero() {
		c.BirthDate = born.YYYYMMDD()
	}

	named, err := t.named(ctx, s, reg.Ticket())
	if err != nil {
		return report, err
	}
	report.Ticket = named.ID
	old, err := credentialOf(ctx, t, s.id, c.Head)
	switch {
	case err == nil && !old.same(c):
		return report, fmt.Errorf("%w: this certificate, with another card key: retire it first", ErrExists)
	case err == nil:
		report.Credential = old
	case !errors.Is(err, ErrNotFound):
		return report, err
	default:
		if report.Credential, report.Renewed, err = t.registerNew(ctx, by, s, c, named, reg.Ticket(), options); err != nil {
			return report, err
		}
	}
	return report, t.attach(ctx, by, s, named, report.Credential.Holder)
}

// named is the ticket that a registration names by ID or order number, zero when
// none is known.
func (t *tx) named(ctx context.Context, s Scope, ticket string) (stored, error) {
	if ticket == "" {
		return stored{}, nil
	}
	found, err := t.ticket(ctx, s.id, ticket)
	if !errors.Is(err, ErrNotFound) {
		return found, err
	}
	order, err := normalOrder(ticket)
	if err != nil {
		return stored{}, nil // no order number
	}
	ordered, err := t.entitlements(ctx, `scope = ?1 AND order_number = ?2`, s.id, order)
	if err != nil || len(ordered) == 0 {
		return stored{}, err
	}
	if len(ordered) == 1 {
		return ordered[0], nil
	}
	var free []stored
	for _, o := range ordered {
		if o.holder == 0 {
			free = append(free, o)
		}
	}
	if len(free) != 1 {
		return stored{}, fmt.Errorf("%w: the order has %d tickets, of which %d are nobody's: register for one of the tickets by its id", ErrInvalid, len(ordered), len(free))
	}
	return free[0], nil
}

// registerNew adds a credential that is not known yet to the holder whom it renews,
// whose ticket it names, or a new one.
func (t *tx) registerNew(ctx context.Context, by By, s Scope, c Credential, named stored, ticket string, options RecordOptions) (added Credential, renewed bool, err error) {
	if options.Renew && !c.CardKey.IsZero() {
		before, err := credentials(ctx, t, `c.scope = ?1 AND c.card_key = ?2 AND c.retired = 0`, s.id, c.CardKey.SPKI())
		if err != nil {
			return Credential{}, false, err
		}
		if len(before) > 0 {
			added, err = t.renew(ctx, by, s, before[0], c)
			return added, true, err
		}
	}
	if err := t.cardKeyIsFree(ctx, s.id, c.CardKey.SPKI()); err != nil {
		return Credential{}, false, err
	}
	holder := named.holder
	if holder == 0 {
		if holder, err = t.holder(ctx, by, s.id, ticket); err != nil {
			return Credential{}, false, err
		}
	}
	if !options.Link {
		if err := t.absent(ctx, `SELECT 1 FROM credentials WHERE holder = ?1 AND retired = 0`, holder); errors.Is(err, ErrExists) {
			return Credential{}, false, ErrTaken
		} else if err != nil {
			return Credential{}, false, err
		}
	}
	added, err = t.addCredential(ctx, by, s, holder, c, 0)
	return added, false, err
}

// attach makes the named ticket the holder's.
func (t *tx) attach(ctx context.Context, by By, s Scope, named stored, holder int64) error {
	switch {
	case named.ID == "" || named.holder == holder:
		return nil
	case named.holder != 0:
		return ErrTaken
	}
	ticket := named.ticket()
	ticket.Holder = holder
	_, err := t.change(ctx, by, s.id, named, ticket)
	return err
}

// Record returns the record that a credential was registered with, nil when it
// was not kept.
func (r *Registry) Record(ctx context.Context, credential int64) (record []byte, err error) {
	rows, err := r.query(ctx, `SELECT record FROM records WHERE credential = ?1 AND record IS NOT NULL ORDER BY nonce`, credential)
	if err := each(rows, err, func() error { return rows.Scan(&record) }); err != nil {
		return nil, fmt.Errorf("reading record: %w", err)
	}
	return bytes.Clone(record), nil
}
