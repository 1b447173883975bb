package journal

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Format is one of Export.
type Format string

// Formats.
const (
	CSV       Format = "csv"   // RFC 4180, with a header
	JSONLines Format = "jsonl" // the bytes of each event, as the chain covers them, on a line
)

// Export writes the events that a filter chooses, in sequence, up to the last
// one that there is when it begins. docs/journal.md has the columns of CSV.
func (r *Reader) Export(ctx context.Context, w io.Writer, f Filter, format Format) (err error) {
	defer func() {
		if err != nil {
			err = fail(r.path, "exporting", err)
		}
	}()
	b := bufio.NewWriter(w)
	var put func(Entry) error
	switch format {
	case JSONLines:
		put = func(e Entry) error {
			_, err := b.Write(append(e.Bytes, '\n'))
			return err
		}
	case CSV:
		c := csv.NewWriter(b)
		c.UseCRLF = true
		put = func(e Entry) error {
			c.Write(record(e)) // Flush and Error tell
			c.Flush()
			return c.Error()
		}
		c.Write(columns)
		c.Flush()
	default:
		return fmt.Errorf("format %q: want %s or %s", format, CSV, JSONLines)
	}
	s, err := loadState(ctx, r.db)
	if err != nil {
		return err
	}
	if f.Through == 0 || f.Through > s.seq {
		f.Through = s.seq
	}
	if f.Through == 0 { // no event, and 0 would be all
		return b.Flush()
	}
	for e, err := range r.List(ctx, f) {
		if err == nil {
			err = put(e)
		}
		if err != nil {
			return errors.Join(err, b.Flush())
		}
	}
	return b.Flush()
}

// columns of CSV: the members of an event in their order, and its hash.
var columns = []string{
	"seq", "kind", "at", "reservation", "terminal", "gate", "verdict", "reason", "method", "card_id", "entitlement",
	"holder_check", "scope", "list_epoch", "list_seq", "rows_sha256", "elapsed_ms", "terminal_signatures",
	"birth_date_refused", "warnings", "version", "direction", "zone", "people", "reentry", "state", "staff", "role", "note",
	"until", "claim", "claim_id", "command", "action", "checkpoint", "through", "through_hash", "deleted", "cutoff", "carried", "carried_sha256", "hash",
}

// record is an event in the order of columns.
func record(e Entry) []string {
	warnings := make([]string, len(e.Warnings))
	for i, w := range e.Warnings {
		warnings[i] = string(w)
	}
	refused := ""
	if e.BirthDateRefused {
		refused = "true"
	}
	fields := []string{
		number(e.Seq), string(e.Kind), e.At.text(), number(e.Reservation), e.Terminal, e.Gate, e.Verdict, string(e.Reason), e.Method, e.CardID, e.Entitlement,
		string(e.HolderCheck), e.Scope, number(e.ListEpoch), number(e.ListSeq), e.RowsSHA256, number(e.ElapsedMS), number(e.TerminalSignatures),
		refused, strings.Join(warnings, " "), e.Version, e.Direction, e.Zone, number(e.People), number(e.Reentry), string(e.State), e.Staff, string(e.Role), e.Note,
		e.Until.text(), string(e.Claim), e.ClaimID, number(e.Command), e.Action, base64.StdEncoding.EncodeToString(e.Checkpoint), number(e.Through), e.ThroughHash, number(e.Deleted), e.Cutoff.text(), number(e.Carried), e.CarriedSHA256,
		hex.EncodeToString(e.Hash[:]),
	}
	for i, f := range fields {
		fields[i] = Plain(f)
	}
	return fields
}

// Plain keeps a spreadsheet from taking text for a formula: an apostrophe goes
// before what could begin one, and before an apostrophe, so that it can be taken
// off again.
func Plain(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r'", rune(s[0])) {
		return "'" + s
	}
	return s
}

// number is empty for 0, as the member is left out.
func number[T uint64 | uint32 | int64 | int](n T) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

// text is empty for the zero instant.
func (i Instant) text() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(instantFormat)
}
