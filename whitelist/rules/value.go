package rules

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode"
)

// A kind is what can be compared with each other.
type kind uint8

// The zero kind is of the value that a condition does not have.
const (
	number kind = iota + 1
	status
	moment
	product
	variation
	gate
)

var kinds = [...]string{"nothing", "a number", "a status", "a time", "a product", "a variation", "a gate"}

func (k kind) String() string { return kinds[k] }

// A value is one side of a comparison. All but times are numbers.
type value struct {
	kind kind
	at   string // its place
	op   string // var, lookup, buildTime, entries_… or "" for what is written there
	name string // of var, lookup; kind of buildTime

	n  int64         // written, or ID of lookup
	t  time.Time     // of custom
	h  time.Duration // of customtime, after midnight
	by *value        // time of entries_…
}

// What is written for a status.
const (
	absent = iota
	present
)

var variables = map[string]kind{
	"product": product, "variation": variation, "gate": gate,
	"now": moment, "now_isoweekday": number,
	"entry_status":   status,
	"entries_number": number, "entries_today": number, "entries_days": number,
	"minutes_since_last_entry": number, "minutes_since_first_entry": number,
}

const known = "product, variation, gate, now, now_isoweekday, entry_status, entries_number, entries_today, entries_days, " +
	"minutes_since_last_entry and minutes_since_first_entry"

func newValue(p part) (v value, err error) {
	v.at = p.at
	var op *operation
	switch x := p.value.(type) {
	case json.Number:
		v.kind = number
		v.n, err = wholeNumber(p)
		return v, err
	case string:
		v.kind, v.n = status, present
		switch x {
		case "present":
			return v, nil
		case "absent":
			v.n = absent
			return v, nil
		}
		return v, p.errorf(`%s: texts are "present" and "absent", and a number stands without quotes`, p.what())
	case *operation:
		op = x
	default:
		return v, p.errorf("%s is no value", p.what())
	}
	v.op = op.name
	switch v.op {
	case "var":
		err = v.variable(p, op.args)
	case "lookup":
		err = v.lookup(p, op.args)
	case "buildTime":
		err = v.buildTime(p, op.args)
	case "entries_since", "entries_before", "entries_days_since", "entries_days_before":
		if len(op.args) != 1 {
			return v, p.errorf("%s has one time, not %d values", v.op, len(op.args))
		}
		var by value
		by, err = newMoment(op.args[0])
		v.kind, v.by = number, &by
	default:
		err = p.errorf("%q gives no value to compare", op.name)
	}
	return v, err
}

func newMoment(p part) (value, error) {
	v, err := newValue(p)
	if err == nil && v.kind != moment {
		err = p.errorf("%s is not a time: use now or buildTime", v.text())
	}
	return v, err
}

func wholeNumber(p part) (int64, error) {
	digits, ok := p.value.(json.Number)
	n, err := strconv.ParseInt(string(digits), 10, 32)
	if !ok || err != nil {
		return 0, p.errorf("%s is not a whole number of 32 bits", p.what())
	}
	return n, nil
}

func (v *value) variable(p part, args []part) error {
	if len(args) != 1 {
		return p.errorf("var has one name, not %d values", len(args))
	}
	v.name, _ = args[0].value.(string)
	if v.kind = variables[v.name]; v.kind != 0 {
		return nil
	}
	switch v.name {
	case "entries_since", "entries_before", "entries_days_since", "entries_days_before":
		return args[0].errorf(`%s needs a time: {"%s":[{"buildTime":[…]}]}`, v.name, v.name)
	}
	return args[0].errorf("unknown variable, %s; there are %s", args[0].what(), known)
}

func (v *value) lookup(p part, args []part) error {
	if len(args) != 3 {
		return p.errorf("lookup has 3 values, a kind, an ID and a name, not %d", len(args))
	}
	switch args[0].value {
	case "product":
		v.kind = product
	case "variation":
		v.kind = variation
	case "gate":
		v.kind = gate
	default:
		return args[0].errorf("lookup finds a product, a variation or a gate, not %s", args[0].what())
	}
	// pretix's editor writes the ID as a string.
	digits, ok := args[1].value.(string)
	if n, isNumber := args[1].value.(json.Number); isNumber {
		digits, ok = string(n), true
	}
	id, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || id == 0 {
		return args[1].errorf("an ID is a whole number from 1 to 4294967295, not %s", args[1].what())
	}
	v.n = int64(id)
	if v.name, ok = args[2].value.(string); !ok {
		return args[2].errorf("a name is a text, not %s", args[2].what())
	}
	for _, r := range v.name {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			return args[2].errorf("a name is one line without control characters, not %s", args[2].what())
		}
	}
	return nil
}

func (v *value) buildTime(p part, args []part) (err error) {
	v.kind = moment
	if len(args) == 2 && args[1].value == nil {
		args = args[:1] // pretix's editor starts with it
	}
	if len(args) == 0 {
		return p.errorf("buildTime has no kind")
	}
	v.name, _ = args[0].value.(string)
	switch v.name {
	case "date_from", "date_to", "date_admission":
		if len(args) != 1 {
			return p.errorf("behind %s there is nothing to say", v.name)
		}
		return nil
	case "custom", "customtime":
		if len(args) != 2 {
			return p.errorf("%s has 1 value, the time, not %d", v.name, len(args)-1)
		}
	default:
		return args[0].errorf("buildTime has the kinds custom, customtime, date_from, date_to and date_admission, not %s", args[0].what())
	}
	written, _ := args[1].value.(string)
	if v.name == "custom" {
		if v.t, err = time.Parse(time.RFC3339, written); err != nil {
			return args[1].errorf("%s is not a time with its offset, as 2026-10-03T18:00:00+09:00 is", args[1].what())
		}
		return nil
	}
	if v.h, err = timeOfDay(written); err != nil {
		return args[1].errorf("%s is not a time of day, as 18:00 and 18:00:30 are", args[1].what())
	}
	return nil
}

func timeOfDay(s string) (time.Duration, error) {
	layout := "15:04:05"
	if len(s) == len("15:04") {
		layout = "15:04"
	} else if len(s) != len(layout) {
		return 0, strconv.ErrSyntax
	}
	t, err := time.Parse(layout, s)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second, err
}

func (v *value) clock() string {
	layout := "15:04"
	if v.h%time.Minute != 0 {
		layout = "15:04:05"
	}
	return time.Time{}.Add(v.h).Format(layout)
}

// number returns the value of what is not a time.
func (v *value) number(f *Facts) (int64, error) {
	if v.by != nil {
		t, err := v.by.moment(f)
		if err != nil {
			return 0, err
		}
		i := firstFrom(f.Entries, t)
		switch v.op {
		case "entries_since":
			return int64(len(f.Entries) - i), nil
		case "entries_before":
			return int64(i), nil
		case "entries_days_since":
			return f.days(f.Entries[i:]), nil
		default: // entries_days_before
			return f.days(f.Entries[:i]), nil
		}
	}
	if v.op != "var" {
		return v.n, nil
	}
	switch v.name {
	case "product":
		return int64(f.Product), nil
	case "variation":
		return int64(f.Variation), nil
	case "gate":
		return int64(f.Gate), nil
	case "now_isoweekday":
		return int64(f.Day(f.Now).Weekday()+6)%7 + 1, nil
	case "entry_status":
		if f.Inside {
			return present, nil
		}
		return absent, nil
	case "entries_number":
		return int64(len(f.Entries)), nil
	case "entries_today":
		return int64(len(f.Entries) - firstFrom(f.Entries, f.starts(f.Day(f.Now)))), nil
	case "entries_days":
		return f.days(f.Entries), nil
	}
	if len(f.Entries) == 0 {
		return -1, nil
	}
	entry := f.Entries[0]
	if v.name == "minutes_since_last_entry" {
		entry = f.Entries[len(f.Entries)-1]
	}
	// -1 means that there was none: a clock that was set back must not say so.
	return max(0, int64(f.Now.Sub(entry)/time.Minute)), nil
}

// moment returns the value of a time.
func (v *value) moment(f *Facts) (time.Time, error) {
	var t time.Time
	switch v.name {
	case "now":
		return f.Now, nil
	case "custom":
		return v.t, nil
	case "customtime":
		return f.today(v.h), nil
	case "date_to":
		t = f.To
	case "date_admission":
		t = f.Admission
	}
	if t.IsZero() {
		t = f.From // as pretix does
	}
	if t.IsZero() {
		return t, errorAt(v.at, "the event has no %s: give it its dates, or take this part out of the rule", v.name)
	}
	return t, nil
}

// text returns the value for people.
func (v *value) text() string {
	switch v.op {
	case "var":
		return v.name
	case "lookup":
		return strconv.FormatInt(v.n, 10) + " " + strconv.QuoteToGraphic(v.name)
	case "buildTime":
		switch v.name {
		case "custom":
			return v.t.Format(time.RFC3339Nano)
		case "customtime":
			return v.clock()
		}
		return v.name
	case "":
		return v.written(v.n)
	}
	return fmt.Sprintf("%s(%s)", v.op, v.by.text())
}

// found returns the value for people where it is not in the text.
func (v *value) found(f *Facts) string {
	if v.op == "" || v.op == "lookup" || v.name == "custom" {
		return ""
	}
	if v.kind == moment {
		t, err := v.moment(f)
		if err != nil {
			return ""
		}
		return t.In(f.location()).Format(time.RFC3339Nano)
	}
	n, err := v.number(f)
	if err != nil {
		return ""
	}
	return v.written(n)
}

func (v *value) written(n int64) string {
	switch {
	case v.kind != status:
		return strconv.FormatInt(n, 10)
	case n == present:
		return "present"
	}
	return "absent"
}

func (v *value) json() string {
	switch v.op {
	case "var":
		return writeOperation(v.op, writeString(v.name))
	case "lookup":
		return writeOperation(v.op, writeString(v.kind.String()[len("a "):]), strconv.FormatInt(v.n, 10), writeString(v.name))
	case "buildTime":
		switch v.name {
		case "custom":
			return writeOperation(v.op, `"custom"`, writeString(v.text()))
		case "customtime":
			return writeOperation(v.op, `"customtime"`, writeString(v.text()))
		}
		return writeOperation(v.op, writeString(v.name))
	case "":
		if v.kind == status {
			return writeString(v.text())
		}
		return v.text()
	}
	return writeOperation(v.op, v.by.json())
}
