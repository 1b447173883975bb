package gate

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

// shape is the course of a light over some seconds, whatever its colour: the
// lamps that are on at each moment, without saying which.
func shape(l lamps) string {
	var s strings.Builder
	for at := time.Duration(0); at < 6*time.Second; at += 10 * ms {
		some := "."
		for _, r := range l {
			if lit, _ := r.at(at); lit {
				some = "#"
			}
		}
		s.WriteString(some)
	}
	return s.String()
}

// course is that of every lamp at its place.
func course(l lamps) (s string) {
	for _, r := range l {
		s += shape(lamps{r}) + "\n"
	}
	return s
}

func TestNoSignalIsToldByColourAlone(t *testing.T) {
	for name, of := range map[string]func(i int) string{
		"colours, to whom all are grey": func(i int) string { return shape(signals[i].colours) },
		"four in a row":                 func(i int) string { return course(signals[i].row) },
		"buzzer":                        func(i int) string { return shape(lamps{signals[i].beeps}) },
	} {
		first := map[string]int{}
		for i := range signals {
			if before, twice := first[of(i)]; twice {
				t.Errorf("%s: %s is as %s", name, signals[i].name, signals[before].name)
			}
			first[of(i)] = i
		}
	}
}

func TestEverySignalIsInTheTable(t *testing.T) {
	if len(signals) != int(terminal.ShowEmergency)+1 || terminal.Signal(len(signals)).String() != "unknown signal" {
		t.Errorf("%d signals", len(signals))
	}
	for i, s := range signals {
		if s.name == "" || s.meaning == "" || !strings.Contains(shape(s.colours), "#") || !strings.Contains(shape(s.row), "#") {
			t.Errorf("signal %d: %+v", i, s)
		}
	}
}

func TestNoLampFlashesMoreThanThreeTimesASecond(t *testing.T) {
	for _, s := range signals {
		for _, l := range []lamps{s.colours, s.row} {
			seen := shape(l)
			for from := 0; from+100 <= len(seen); from++ {
				if n := strings.Count(seen[from:from+100], ".#"); n > 3 {
					t.Fatalf("%s: %d flashes in a second", s.name, n)
				}
			}
		}
	}
}

// FuzzRhythm: nothing changes before the time that at says.
func FuzzRhythm(f *testing.F) {
	f.Add(uint8(0), int64(0))
	f.Add(uint8(6), int64(4999*ms))
	f.Fuzz(func(t *testing.T, which uint8, n int64) {
		s := signals[int(which)%len(signals)]
		at := time.Duration(n) % time.Hour
		if at < 0 {
			return
		}
		for _, r := range slices.Concat(s.colours[:], s.row[:], []rhythm{s.beeps}) {
			lit, lasts := r.at(at)
			if lasts == 0 {
				lasts = time.Hour
			}
			for _, later := range []time.Duration{lasts / 2, lasts - 1} {
				if still, _ := r.at(at + later); still != lit {
					t.Errorf("%s: %v at %v for %v, and %v at %v", r.name, lit, at, lasts, still, at+later)
				}
			}
		}
	})
}

// words names lamps and what they do: those that do the same, together.
func words(l lamps, places []string) string {
	var parts []string
	for i, r := range l {
		if r.name == "" || slices.ContainsFunc(l[:i], func(before rhythm) bool { return before.name == r.name }) {
			continue
		}
		var who []string
		for j, other := range l {
			if other.name == r.name {
				who = append(who, places[j])
			}
		}
		parts = append(parts, strings.Join(who, ", ")+" "+r.name)
	}
	return strings.Join(parts, "; ")
}

func TestPageShowsTheTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/gate-hardware.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, shown []string
	for _, s := range signals {
		row := words(s.row, []string{"1", "2", "3", "4"})
		if s.row[1].name == second.name {
			row = "1, 2, 3, 4 " + second.name // the first of them is steady from the start
		}
		lasts := "until the next"
		if s.lasts > 0 {
			lasts = s.lasts.String()
		}
		beeps := s.beeps.name
		if beeps == "" {
			beeps = "none"
		}
		want = append(want, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |",
			s.name, words(s.colours, []string{red: "red", amber: "amber", green: "green"}), row, beeps, lasts, s.meaning))
	}
	for _, r := range []rhythm{slow, fast, double, triple, wink, doubleWink, longShort, second, oneShort, twoBeeps, threeShort, oneLong, shortLong, ten, threeLong} {
		if r.name == second.name {
			want = append(want, fmt.Sprintf("| %s | each %v after the one before, then steady |", r.name, second.steps[1]))
			continue
		}
		steps := make([]string, len(r.steps))
		for i, s := range r.steps {
			steps[i] = fmt.Sprint(s.Milliseconds())
		}
		once := ""
		if r.then == again {
			once = ", again"
		}
		want = append(want, fmt.Sprintf("| %s | %s%s |", r.name, strings.Join(steps, " "), once))
	}
	for line := range strings.Lines(string(page)) {
		if line = strings.TrimSpace(line); slices.Contains(want, line) {
			shown = append(shown, line)
		}
	}
	if !slices.Equal(shown, want) {
		t.Errorf("docs/gate-hardware.md has %d of these lines, in their order:\n%s", len(shown), strings.Join(want, "\n"))
	}
}
