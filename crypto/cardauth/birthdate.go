package cardauth

import (
	"errors"
	"fmt"
	"time"
)

// A BirthDate is a day of the calendar from the beginning of the Meiji era to the
// end of Reiwa 99, which is as far as a PIN of two digits for the year reaches.
// The zero BirthDate is none. No verb prints it: it is a person's, and for the
// card it is a PIN.
type BirthDate struct{ day time.Time }

// ErrBirthDate says that a text is no birth date that a card can have.
var ErrBirthDate = errors.New("not a birth date YYYYMMDD from 1868-01-25 to 2117-12-31")

const birthDateLayout = "20060102"

// ParseBirthDate reads YYYYMMDD, as the age record and the list have it.
func ParseBirthDate(s string) (BirthDate, error) {
	day, err := time.Parse(birthDateLayout, s)
	if err != nil || len(s) != len(birthDateLayout) || day.Before(eras[len(eras)-1]) || day.Year() > eras[0].Year()+98 {
		return BirthDate{}, ErrBirthDate // without the text, which may be one all the same
	}
	return BirthDate{day}, nil
}

// IsZero reports whether b is none.
func (b BirthDate) IsZero() bool { return b.day.IsZero() }

// eras are the first days of Japanese eras, newest first: Reiwa, Heisei,
// Showa, Taisho, Meiji (card-facts §4).
var eras = [...]time.Time{
	time.Date(2019, 5, 1, 0, 0, 0, 0, time.UTC),
	time.Date(1989, 1, 8, 0, 0, 0, 0, time.UTC),
	time.Date(1926, 12, 25, 0, 0, 0, 0, time.UTC),
	time.Date(1912, 7, 30, 0, 0, 0, 0, time.UTC),
	time.Date(1868, 1, 25, 0, 0, 0, 0, time.UTC),
}

// PIN is the six digits of EF 0011: YYMMDD with the year of the Japanese era,
// whose first year is 01 and ends with the calendar year. It is nil of the
// zero BirthDate.
func (b BirthDate) PIN() []byte {
	for _, first := range eras {
		if !b.day.Before(first) {
			return fmt.Appendf(nil, "%02d%02d%02d", b.day.Year()-first.Year()+1, b.day.Month(), b.day.Day())
		}
	}
	return nil
}

// YYYYMMDD is the date as ParseBirthDate reads it, "" of the zero BirthDate.
func (b BirthDate) YYYYMMDD() string {
	if b.IsZero() {
		return ""
	}
	return b.day.Format(birthDateLayout)
}

// Format keeps the date out of every verb.
func (b BirthDate) Format(s fmt.State, _ rune) { fmt.Fprint(s, "(birth date)") }
