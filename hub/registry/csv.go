package registry

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line of a CSV file, in bytes.
const MaxLine = 64 << 10

// MaxProblems is how many problems an import reports one by one.
const MaxProblems = 100

// A Problem is what is wrong with one cell or line of a file.
type Problem struct {
	Line   int    `json:"line"`             // from 1, the header's; 0: the whole file
	Column string `json:"column,omitempty"` // name in the header
	Text   string `json:"text"`             // what is wrong, and what to write instead
}

func (p Problem) String() string {
	switch {
	case p.Line == 0:
		return p.Text
	case p.Column == "":
		return fmt.Sprintf("line %d: %s", p.Line, p.Text)
	}
	return fmt.Sprintf("line %d, %s: %s", p.Line, p.Column, p.Text)
}

// A FileError says that a file was not imported, not even in part.
type FileError struct {
	Problems []Problem // the first MaxProblems
	Total    int
}

func (e *FileError) Error() string {
	if len(e.Problems) == 0 {
		return "nothing was imported"
	}
	more := ""
	if e.Total > 1 {
		more = fmt.Sprintf(" (and %d more)", e.Total-1)
	}
	return "nothing was imported: " + e.Problems[0].String() + more
}

func (e *FileError) add(p Problem) {
	if e.Total++; len(e.Problems) < MaxProblems {
		e.Problems = append(e.Problems, p)
	}
}

// formulas begin with one of these; spreadsheets in Japanese take the wide forms too.
const formulas = "=+-@＝＋－＠"

// A table reads CSV (RFC 4180) in UTF-8, with a header, a record on each line,
// and cells that a spreadsheet takes for nothing but text. It remembers every
// problem and reads on.
type table struct {
	br     *bufio.Reader
	line   int
	buf    []byte
	fields *bufio.Reader
	names  []string        // of the header
	counts map[string]bool // columns of numbers, where "-1" is no formula
	errs   FileError
}

// newTable reads the header: a column of known each at most once, needed ones
// at least.
func newTable(r io.Reader, known, needed []string, numeric ...string) (*table, error) {
	t := &table{counts: map[string]bool{}, br: bufio.NewReaderSize(r, MaxLine), fields: bufio.NewReader(nil)}
	if bom, err := t.br.Peek(3); err == nil && string(bom) == "\uFEFF" {
		if _, err := t.br.Discard(3); err != nil {
			return nil, err
		}
	} else if len(bom) >= 2 && (bom[0] == 0xFF && bom[1] == 0xFE || bom[0] == 0xFE && bom[1] == 0xFF) {
		return nil, t.refuse(Problem{1, "", "the file is UTF-16: save it as CSV in UTF-8"})
	}
	header, err := t.next()
	if err == io.EOF {
		return nil, t.refuse(Problem{0, "", "the file is empty: its first line names the columns: " + strings.Join(known, ",")})
	}
	if err != nil {
		return nil, err
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	for i, name := range header {
		switch {
		case name == "":
			t.errs.add(Problem{1, "", fmt.Sprintf("column %d has no name", i+1)})
		case !slices.Contains(known, name):
			t.errs.add(Problem{1, "", fmt.Sprintf("unknown column %q: columns are %s", clip(name), strings.Join(known, ", "))})
		case slices.Contains(header[:i], name):
			t.errs.add(Problem{1, name, "this column comes twice"})
		}
	}
	for _, name := range needed {
		if !slices.Contains(header, name) {
			t.errs.add(Problem{1, name, "this column is missing"})
		}
	}
	if t.errs.Total > 0 {
		return nil, &t.errs // every line would be wrong
	}
	t.names = header
	for _, name := range numeric {
		t.counts[name] = true
	}
	return t, nil
}

func (t *table) refuse(p Problem) error {
	t.errs.add(p)
	return &t.errs
}

// problem remembers what is wrong with a cell of the current line.
func (t *table) problem(column, format string, args ...any) {
	t.errs.add(Problem{t.line, column, fmt.Sprintf(format, args...)})
}

// err is what was wrong with the file so far.
func (t *table) err() error {
	if t.errs.Total == 0 {
		return nil
	}
	return &t.errs
}

// row returns the next line whose form is right, by column, or io.EOF.
func (t *table) row() (map[string]string, error) {
	for {
		fields, err := t.next()
		if err != nil {
			return nil, err
		}
		if fields == nil {
			continue
		}
		if len(fields) != len(t.names) {
			t.problem("", "%d cells, the header has %d: a comma inside a cell wants quotation marks around the cell", len(fields), len(t.names))
			continue
		}
		row := make(map[string]string, len(fields))
		good := true
		for i, cell := range fields {
			cell = strings.TrimSpace(cell) // nobody sees it, and "T-1 " would be another ticket than "T-1"
			if first, _ := utf8.DecodeRuneInString(cell); cell != "" && !t.counts[t.names[i]] && strings.ContainsRune(formulas, first) {
				t.problem(t.names[i], "a cell that begins with %q is a formula to a spreadsheet: write it without", first)
				good = false
			}
			row[t.names[i]] = cell
		}
		if good {
			return row, nil
		}
	}
}

// next reads a line. It returns no cells when its form is wrong; an error ends
// the file: io.EOF, one of reading, or a FileError where a long line makes it
// unlikely that this is CSV at all.
func (t *table) next() ([]string, error) {
	raw, err := t.br.ReadSlice('\n')
	if err == io.EOF && len(raw) == 0 {
		return nil, io.EOF
	}
	t.line++
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, t.refuse(Problem{t.line, "", fmt.Sprintf("the line has more than %d bytes: is this CSV, with a line for each ticket?", MaxLine)})
	case err != nil && err != io.EOF:
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	switch {
	case bytes.IndexByte(raw, 0) >= 0:
		t.problem("", "a zero byte: save the file as CSV in UTF-8")
		return t.malformed()
	case !utf8.Valid(raw) && shiftJIS(raw):
		t.problem("", "this looks like Shift_JIS: save the file as CSV in UTF-8 (Excel: CSV UTF-8)")
		return t.malformed()
	case !utf8.Valid(raw):
		t.problem("", "not UTF-8: save the file as CSV in UTF-8")
		return t.malformed()
	case len(bytes.TrimSpace(raw)) == 0:
		return t.blank()
	}
	t.buf = append(t.buf[:0], raw...)
	t.fields.Reset(bytes.NewReader(t.buf))
	c := csv.NewReader(t.fields) // takes the bufio.Reader as it is
	c.FieldsPerRecord = -1
	fields, err := c.Read()
	if err == nil {
		if _, again := c.Read(); again == io.EOF {
			return fields, nil
		}
		err = csv.ErrQuote
	}
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		err = bad.Err
	}
	t.problem("", "quotation marks that do not match: a cell in quotation marks ends on its line, and a mark inside is written twice (%v)", err)
	return t.malformed()
}

// malformed ends the file when its header cannot be read.
func (t *table) malformed() ([]string, error) {
	if t.line == 1 {
		return nil, &t.errs
	}
	return nil, nil
}

// blank lets empty lines pass, as the last ones of an export are.
func (t *table) blank() ([]string, error) {
	if t.line == 1 {
		t.problem("", "the first line is empty: it names the columns")
		return nil, &t.errs
	}
	return nil, nil
}

// shiftJIS reports whether bytes that are no UTF-8 are Shift_JIS as Excel in
// Japanese writes it (JIS X 0208 annex 1).
func shiftJIS(b []byte) bool {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c < 0x80, 0xA1 <= c && c <= 0xDF:
		case 0x81 <= c && c <= 0x9F, 0xE0 <= c && c <= 0xFC:
			if i++; i == len(b) || b[i] < 0x40 || b[i] == 0x7F || b[i] > 0xFC {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// clip shortens what a file says for a message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
