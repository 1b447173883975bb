package trace

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// format is the first line of what a Recorder writes, behind "# ".
const format = "gate-agent trace v1"

// A Header says what was recorded, and what it takes to run the same dialogue
// again.
type Header struct {
	Agent    string    // version of the program
	Recorded time.Time // the one instant of the session, in whole seconds, UTC
	Reader   string    // PC/SC name of the slot
	Dialogue string    // "read", "tap-use", "external-auth"
	Profile  string    // name of the card profile

	// Of the challenge, where the card is asked to sign one.
	Scope, Terminal string
	Nonce           []byte // 32 bytes

	// TerminalCertificates are what method A presents, intermediate first.
	TerminalCertificates [][]byte
}

// Known is what the terminal knew of the card, from its list and its
// configuration, once the card had given the head of its certificate. Keys are
// SubjectPublicKeyInfo, certificates X.509, both DER.
type Known struct {
	Row               RowState
	CardKey           []byte
	AuthenticationKey []byte
	Anchors           [][]byte // what the certificate was to chain to, if it was

	// Of first use, where the card was to go that way.
	FirstUse           bool
	SurfaceAuthorities [][]byte // key id, 16 bytes, and key: who may have signed its age record
}

// A RowState says what the list had for the card.
type RowState string

// What a list has for a card.
const (
	RowListed     RowState = "listed"
	RowNone       RowState = "none"
	RowUnreadable RowState = "unreadable"
	RowNoList     RowState = "no-list" // nobody was asked
)

// A BirthDateState says what there was to say about the row's birth date, which
// is not written down, at first use.
type BirthDateState string

// What can be wrong with a birth date, beside that the card refuses it.
const (
	BirthDateOther   BirthDateState = "other"          // than that of the age record
	BirthDateRefused BirthDateState = "refused-before" // by this card, so it was not presented again
)

// An Outcome is how a session ended. Its text is
//
//	auth_failed, 4 commands, 612 bytes: having the card sign: …
type Outcome struct {
	Reason          string // a name of docs/reasons.md
	Detail          string
	Commands, Bytes int // as nfc.Stats counts them
}

func (o Outcome) String() string {
	s := fmt.Sprintf("%s, %d commands, %d bytes", o.Reason, o.Commands, o.Bytes)
	if o.Detail != "" {
		s += ": " + o.Detail
	}
	return s
}

var outcomeForm = regexp.MustCompile(`^([a-z_]+), (\d{1,9}) commands, (\d{1,9}) bytes(?:: (.+))?$`)

func parseOutcome(text string) (o Outcome, err error) {
	m := outcomeForm.FindStringSubmatch(text)
	if m == nil {
		return o, fmt.Errorf("outcome %q: want REASON, N commands, N bytes: DETAIL", text)
	}
	o = Outcome{Reason: m[1], Detail: m[4]}
	o.Commands, _ = strconv.Atoi(m[2]) // digits, and few
	o.Bytes, _ = strconv.Atoi(m[3])
	return o, nil
}

// A File is what a Recorder has written.
type File struct {
	Header
	Known       *Known // nil where the session did not come so far
	BirthDate   BirthDateState
	Unconnected error // there was no session
	Pairs       []Pair
	Outcome     *Outcome // nil when the program ended before
}

// ParseFile reads what a Recorder has written, strictly: a directive that is
// unknown, in a wrong form or at a wrong place is an error that names its line,
// and so is an end that does not fit what stands before it. The directives of
// the header stand from the first line to the first blank one; behind it a
// comment that is none of the others' directives may say anything.
func ParseFile(r io.Reader) (File, error) {
	var p fileParser
	s := scanner(r)
	for line := 1; s.Scan(); line++ {
		if err := p.line(line, strings.TrimSpace(s.Text())); err != nil {
			return File{}, fmt.Errorf("trace line %d: %w", line, err)
		}
	}
	if err := s.Err(); err != nil {
		return File{}, fmt.Errorf("trace: %w", err)
	}
	if err := p.headerDone(); err != nil {
		return File{}, fmt.Errorf("trace: %w", err)
	}
	p.file.Pairs = p.pairs.all
	if p.pairs.open {
		p.last().Err = ErrBrokenOff
	}
	return p.file, nil
}

type fileParser struct {
	file   File
	pairs  pairs
	inBody bool
	seen   map[string]bool
}

func (p *fileParser) last() *Pair { return &p.pairs.all[len(p.pairs.all)-1] }

func (p *fileParser) line(n int, text string) error {
	switch {
	case n == 1:
		if text != "# "+format {
			return fmt.Errorf("want %q: it is no trace, or one of another version", "# "+format)
		}
		p.seen = make(map[string]bool)
		return nil
	case !p.inBody && text == "":
		p.inBody = true
		return p.headerDone()
	case text == "":
		return nil
	case text[0] != '#' && !p.inBody:
		return errors.New("want directives, and a blank line behind them")
	case text[0] != '#' && p.file.Outcome != nil:
		return errors.New("a command behind the outcome")
	case text[0] != '#' && p.file.Unconnected != nil:
		return errors.New("a command to a card that was not connected")
	case text[0] != '#':
		return p.pairs.add(n, text)
	}
	name, value, ok := strings.Cut(strings.TrimPrefix(text, "# "), ": ")
	value = strings.TrimSpace(value)
	if !p.inBody {
		if !ok || !strings.HasPrefix(text, "# ") {
			return errors.New("want a directive, # NAME: VALUE")
		}
		return p.header(name, value)
	}
	if !ok || !strings.HasPrefix(text, "# ") {
		return nil
	}
	return p.body(name, value)
}

// once refuses a directive that stands there twice.
func (p *fileParser) once(name string) error {
	if p.seen[name] {
		return fmt.Errorf("%s stands here twice", name)
	}
	p.seen[name] = true
	return nil
}

func (p *fileParser) header(name, value string) (err error) {
	h := &p.file.Header
	if name == "terminal-certificate" {
		return appendHex(&h.TerminalCertificates, value)
	}
	if err := p.once(name); err != nil {
		return err
	}
	switch name {
	case "recorded":
		h.Recorded, err = time.Parse(time.RFC3339, value)
		if err == nil && (h.Recorded.Format(time.RFC3339) != value || h.Recorded.IsZero()) {
			err = fmt.Errorf("recorded %q: want an instant in whole seconds", value)
		}
		h.Recorded = h.Recorded.UTC()
		return err
	case "nonce":
		h.Nonce, err = hex.DecodeString(value)
		if err == nil && len(h.Nonce) != 32 {
			err = fmt.Errorf("nonce of %d bytes, want 32", len(h.Nonce))
		}
		return err
	}
	texts := h.texts()
	i := slices.IndexFunc(texts, func(t headerText) bool { return t.name == name })
	if i < 0 {
		return fmt.Errorf("unknown directive %q", name)
	}
	*texts[i].value, err = unquote(value)
	if err == nil && *texts[i].value == "" {
		err = fmt.Errorf("%s is empty", name)
	}
	return err
}

// headerDone checks that nothing is missing.
func (p *fileParser) headerDone() error {
	if p.seen == nil {
		return errors.New("it is empty")
	}
	for _, name := range []string{"agent", "recorded", "reader", "dialogue", "profile"} {
		if !p.seen[name] {
			return fmt.Errorf("%s is missing in the header", name)
		}
	}
	if p.seen["nonce"] != p.seen["scope"] || p.seen["nonce"] != p.seen["terminal"] {
		return errors.New("a challenge has scope, terminal and nonce, all three")
	}
	return nil
}

// body takes a comment behind the header that may be a directive.
func (p *fileParser) body(name, value string) (err error) {
	f := &p.file
	switch name {
	case "error", "unconnected", "row", "card-key", "authentication-key", "anchor", "first-use", "surface-authority", "birth-date", "outcome":
		if f.Outcome != nil {
			return fmt.Errorf("%s behind the outcome", name)
		}
		if name != "error" && p.pairs.open {
			return fmt.Errorf("%s before the response", name)
		}
		if name != "error" && name != "anchor" && name != "surface-authority" {
			if err := p.once(name); err != nil {
				return err
			}
		}
	}
	switch name {
	case "error":
		if !p.pairs.open {
			return errors.New("error without a command")
		}
		p.last().Err, err = parseError(value)
		p.pairs.open = false
	case "unconnected":
		if len(p.pairs.all) > 0 {
			return errors.New("unconnected behind a command")
		}
		f.Unconnected, err = parseError(value)
	case "row":
		all := []RowState{RowListed, RowNone, RowUnreadable, RowNoList}
		if !slices.Contains(all, RowState(value)) {
			return fmt.Errorf("row is %q, want one of %q", value, all)
		}
		f.Known = &Known{Row: RowState(value)}
	case "birth-date":
		all := []BirthDateState{BirthDateOther, BirthDateRefused}
		if f.BirthDate = BirthDateState(value); !slices.Contains(all, f.BirthDate) {
			return fmt.Errorf("birth-date is %q, want one of %q", value, all)
		}
	case "card-key", "authentication-key", "anchor", "first-use", "surface-authority":
		if f.Known == nil {
			return fmt.Errorf("%s before row", name)
		}
		return f.Known.set(name, value)
	case "outcome":
		o, err := parseOutcome(value)
		if err != nil {
			return err
		}
		f.Outcome = &o
		return p.fits(o)
	}
	return err
}

// set takes a directive.
func (k *Known) set(name, value string) (err error) {
	switch name {
	case "card-key":
		k.CardKey, err = unhex(value)
	case "authentication-key":
		k.AuthenticationKey, err = unhex(value)
	case "anchor":
		err = appendHex(&k.Anchors, value)
	case "surface-authority":
		err = appendHex(&k.SurfaceAuthorities, value)
	case "first-use":
		if k.FirstUse = value == "allowed"; !k.FirstUse {
			err = fmt.Errorf("first-use is %q, want \"allowed\"", value)
		}
	}
	return err
}

// fits holds the outcome against what stands before it.
func (p *fileParser) fits(o Outcome) error {
	bytes := 0
	for _, pair := range p.pairs.all {
		bytes += len(pair.Command) + len(pair.Response)
	}
	if n := len(p.pairs.all); n != o.Commands || bytes != o.Bytes {
		return fmt.Errorf("the outcome is of %d commands and %d bytes, above it are %d and %d: something was taken out or put in", o.Commands, o.Bytes, n, bytes)
	}
	return nil
}

type headerText struct {
	name  string
	value *string
}

func (h *Header) texts() []headerText {
	return []headerText{
		{"agent", &h.Agent}, {"reader", &h.Reader}, {"dialogue", &h.Dialogue}, {"profile", &h.Profile},
		{"scope", &h.Scope}, {"terminal", &h.Terminal},
	}
}

// text is the header as it is written.
func (h Header) text() string {
	s := "# " + format + "\n# recorded: " + h.Recorded.UTC().Format(time.RFC3339) + "\n"
	for _, t := range h.texts() {
		if *t.value != "" {
			s += "# " + t.name + ": " + quote(*t.value) + "\n"
		}
	}
	if h.Nonce != nil {
		s += fmt.Sprintf("# nonce: %x\n", h.Nonce)
	}
	for _, c := range h.TerminalCertificates {
		s += fmt.Sprintf("# terminal-certificate: %X\n", c)
	}
	return s
}

func (k Known) text() string {
	s := "# row: " + string(k.Row) + "\n"
	if k.CardKey != nil {
		s += fmt.Sprintf("# card-key: %X\n", k.CardKey)
	}
	if k.AuthenticationKey != nil {
		s += fmt.Sprintf("# authentication-key: %X\n", k.AuthenticationKey)
	}
	for _, a := range k.Anchors {
		s += fmt.Sprintf("# anchor: %X\n", a)
	}
	if k.FirstUse {
		s += "# first-use: allowed\n"
	}
	for _, a := range k.SurfaceAuthorities {
		s += fmt.Sprintf("# surface-authority: %X\n", a)
	}
	return s
}

// quote keeps a name that would not come back from a line of its own by
// writing it as Go does. A challenge has the names to the byte.
func quote(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.TrimSpace(s) != s {
		return q
	}
	return s
}

func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	v, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("%s: no quoted text", s)
	}
	return v, nil
}

func unhex(value string) ([]byte, error) {
	b, err := hex.DecodeString(value)
	if err == nil && len(b) == 0 {
		err = errors.New("no bytes")
	}
	return b, err
}

func appendHex(to *[][]byte, value string) error {
	b, err := unhex(value)
	*to = append(*to, b)
	return err
}
