package staff

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

const passcode = "a good one"

var hashed = sync.OnceValue(func() string {
	h, err := Hash([]byte(passcode))
	if err != nil {
		panic(err)
	}
	return h
})

func entry(name, role, hash string) string {
	return fmt.Sprintf("[[staff]]\nname = %q\nrole = %q\npasscode = %q\n", name, role, hash)
}

// A clock stands still until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func roster(t *testing.T) (*Roster, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)}
	r, err := Parse([]byte(entry("kei", "steward", hashed())+entry("森 花子", "supervisor", hashed())), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

func TestIdentify(t *testing.T) {
	r, _ := roster(t)
	if r.With(terminal.Supervisor) != 1 || r.With(terminal.Steward) != 1 || r.With("") != 0 {
		t.Error("the roster miscounts its roles")
	}
	for name, role := range map[string]terminal.Role{"kei": terminal.Steward, "森 花子": terminal.Supervisor} {
		if who, err := r.Identify(name, passcode); err != nil || who != (terminal.Staff{Name: name, Role: role}) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	for _, c := range [][2]string{{"kei", "another one"}, {"kei", ""}, {"Kei", passcode}, {"", passcode}, {"kei ", passcode}, {"kei", passcode + "\x00"}} {
		if who, err := r.Identify(c[0], c[1]); !errors.Is(err, ErrPasscode) || who != (terminal.Staff{}) {
			t.Errorf("%q: %+v, %v", c, who, err)
		}
	}
}

// Whoever guesses waits, and is not told which names there are.
func TestGuessesAreSlowedDown(t *testing.T) {
	for _, name := range []string{"kei", "nobody"} {
		t.Run(name, func(t *testing.T) {
			r, c := roster(t)
			wrong := func(want error) {
				t.Helper()
				if _, err := r.Identify(name, "guess"); !errors.Is(err, want) {
					t.Fatalf("%v, want %v", err, want)
				}
			}
			waits := func(left time.Duration) {
				t.Helper()
				_, err := r.Identify(name, passcode)
				if wait, ok := errors.AsType[*WaitError](err); !ok || wait.For != left {
					t.Fatalf("%v, want to wait %v", err, left)
				}
			}
			for range FreeTries {
				wrong(ErrPasscode)
			}
			waits(Wait)
			c.t = c.t.Add(Wait - time.Second)
			waits(time.Second)
			c.t = c.t.Add(time.Second)
			wrong(ErrPasscode)
			waits(Wait) // one more each time
			c.t = c.t.Add(Wait)
			if _, err := r.Identify(name, passcode); (err == nil) != (name == "kei") {
				t.Errorf("with the right one: %v", err)
			}
			if name == "kei" {
				for range FreeTries { // its row has ended
					wrong(ErrPasscode)
				}
			}
			// Somebody else need not wait.
			if _, err := r.Identify("森 花子", passcode); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClockThatWasSetBackLetsNobodyWaitLong(t *testing.T) {
	r, c := roster(t)
	for range FreeTries {
		_, _ = r.Identify("kei", "guess")
	}
	c.t = c.t.Add(-24 * time.Hour)
	if _, err := r.Identify("kei", passcode); err != nil {
		t.Error(err)
	}
}

// Guessing with ever new names neither fills the memory nor locks anybody out.
func TestStrangersAreBounded(t *testing.T) {
	r, _ := roster(t)
	for i := range maxStrangers {
		r.tries[fmt.Sprint("stranger ", i)] = tries{1, r.now()}
	}
	for i := range FreeTries {
		if _, err := r.Identify(fmt.Sprint("another ", i), "guess"); !errors.Is(err, ErrPasscode) {
			t.Fatal(err)
		}
	}
	if len(r.tries) > maxStrangers+1 {
		t.Errorf("%d names are counted", len(r.tries))
	}
	if _, err := r.Identify("kei", "guess"); !errors.Is(err, ErrPasscode) {
		t.Error(err)
	}
	if _, err := r.Identify("kei", passcode); err != nil {
		t.Error(err)
	}
}

// A name that nobody has costs a hash as well.
func TestUnknownNamesTakeAsLong(t *testing.T) {
	r, _ := roster(t)
	least := func(name string) time.Duration { // the machine is busy
		best := time.Hour
		for range FreeTries {
			began := time.Now()
			_, _ = r.Identify(name, "guess")
			best = min(best, time.Since(began))
		}
		return best
	}
	if known, unknown := least("kei"), least("nobody"); unknown < known/10 {
		t.Errorf("a known name takes %v, an unknown one %v", known, unknown)
	}
}

func TestErrorsTellNoPasscode(t *testing.T) {
	r, _ := roster(t)
	for range FreeTries + 1 {
		if _, err := r.Identify("kei", "my-secret-guess"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
	_, err := Parse([]byte(entry("kei", "steward", "my-secret-passcode")), nil)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoRosterIsRefused(t *testing.T) {
	good := entry("kei", "steward", hashed())
	for text, want := range map[string]string{
		"":                                      "it names nobody",
		"[[staff]]\nname = 3":                   "line 2",
		good + "pin = \"1\"":                    `unknown key "staff.pin"`,
		entry("", "steward", hashed()):          `[[staff]] 1, "": a name has 1 to 64 bytes`,
		entry("a\u200b", "steward", hashed()):   "cannot be printed",
		entry("a\nb", "steward", hashed()):      "cannot be printed",
		entry(" kei", "steward", hashed()):      "begins or ends with a space",
		entry(strings.Repeat("a", 65), "", ""):  "1 to 64 bytes",
		good + good:                             `[[staff]] 2, "kei": the name comes twice`,
		entry("kei", "boss", hashed()):          `role "boss": want "steward" or "supervisor"`,
		entry("kei", "", hashed()):              `role ""`,
		entry("kei", "steward", "1234"):         "the passcode is not what gate-agent staff passcode prints",
		entry("kei", "steward", ""):             "the passcode is not what",
		entry("kei", "steward", hashed()+"="):   "the passcode is not what",
		entry("kei", "steward", hashed()[:60]):  "the passcode is not what",
		entry("kei", "steward", " "+hashed()):   "the passcode is not what",
		entry("kei", "steward", "$2a$10$abcde"): "the passcode is not what",
		entry("kei", "steward", strings.Replace(hashed(), "m=19456", "m=8", 1)):       "takes 8 KiB, want 19456 to 65536",
		entry("kei", "steward", strings.Replace(hashed(), "m=19456", "m=9000000", 1)): "takes 9000000 KiB",
		entry("kei", "steward", strings.Replace(hashed(), "t=2", "t=1", 1)):           "has 1 passes",
		entry("kei", "steward", strings.Replace(hashed(), "p=1", "p=0", 1)):           "has 0 threads",
		entry("kei", "steward", strings.Replace(hashed(), "p=1", "p=01", 1)):          "the passcode is not what",
		entry("kei", "steward", strings.Replace(hashed(), "v=19", "v=16", 1)):         "the passcode is not what",
	} {
		if _, err := Parse([]byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
}

func TestPasscodesThatAreNone(t *testing.T) {
	for _, p := range []string{"", "12345", strings.Repeat("a", 65), "abc\xffdef"} {
		if h, err := Hash([]byte(p)); err == nil {
			t.Errorf("%q: %s", p, h)
		}
	}
	again, err := Hash([]byte(passcode))
	if err != nil || again == hashed() {
		t.Errorf("two hashes are the same: %v", err)
	}
}

// A roster is neither for everybody to read, nor for the agent's group to write.
func TestRosterThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "staff.toml")
	if err := os.WriteFile(path, []byte(entry("kei", "steward", hashed())), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o644: false, 0o604: false, 0o602: false, 0o660: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		r, err := Load(path, nil)
		if (err == nil) != good {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 0600 "+path) {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if err == nil && r.Len() != 1 {
			t.Errorf("%d members", r.Len())
		}
	}
	if _, err := Load(filepath.Dir(path), nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(path+".absent", nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Whatever a roster says, its hashes are read in one form.
func FuzzParseHash(f *testing.F) {
	f.Add(hashed())
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$$")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := parseHash(text); err == nil && h.String() != text {
			t.Errorf("%q is read as %q", text, h)
		}
	})
}

// A log that notes what is written, before it has an effect.
type memory struct {
	shift *Shift
	lines []string
	fails error
}

func (m *memory) Shift(_ context.Context, at time.Time, by terminal.Staff, begins bool) error {
	if m.fails != nil {
		return m.fails
	}
	m.lines = append(m.lines, fmt.Sprintf("%s %v, on duty is %q", by.Name, begins, m.shift.OnDuty().Name))
	return nil
}

var (
	kei  = terminal.Staff{Name: "kei", Role: terminal.Steward}
	mori = terminal.Staff{Name: "mori", Role: terminal.Supervisor}
)

func TestShiftIsRecordedBeforeItBegins(t *testing.T) {
	m := new(memory)
	s := NewShift(m, time.Now)
	m.shift = s
	do := func(err error, on string) {
		t.Helper()
		if err != nil || s.OnDuty().Name != on {
			t.Errorf("%v, on duty is %q, want %q", err, s.OnDuty().Name, on)
		}
	}
	do(s.Begin(t.Context(), kei), "kei")
	do(s.Begin(t.Context(), kei), "kei")
	do(s.Begin(t.Context(), mori), "mori")
	if err := s.End(t.Context(), kei); !errors.Is(err, ErrNotOnDuty) {
		t.Error(err)
	}
	do(s.End(t.Context(), mori), "")
	if err := s.End(t.Context(), mori); !errors.Is(err, ErrNotOnDuty) {
		t.Error(err)
	}
	want := []string{
		`kei true, on duty is ""`, `kei false, on duty is "kei"`, `mori true, on duty is ""`, `mori false, on duty is "mori"`,
	}
	if fmt.Sprint(m.lines) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", m.lines, want)
	}
}

func TestShiftThatCannotBeRecordedHasNoEffect(t *testing.T) {
	m := new(memory)
	s := NewShift(m, time.Now)
	m.shift = s
	full := errors.New("disk full")
	m.fails = full
	if err := s.Begin(t.Context(), kei); !errors.Is(err, full) || s.OnDuty() != (terminal.Staff{}) {
		t.Errorf("%v, on duty is %+v", err, s.OnDuty())
	}
	m.fails = nil
	if err := s.Begin(t.Context(), kei); err != nil {
		t.Fatal(err)
	}
	m.fails = full
	if err := errors.Join(s.End(t.Context(), kei), s.Begin(t.Context(), mori)); !errors.Is(err, full) || s.OnDuty() != kei {
		t.Errorf("%v, on duty is %+v", err, s.OnDuty())
	}
}

func TestShiftsOfNobody(t *testing.T) {
	s := NewShift(new(memory), time.Now)
	for _, who := range []terminal.Staff{{}, {Name: "kei"}, {Role: terminal.Supervisor}} {
		if err := s.Begin(t.Context(), who); !errors.Is(err, terminal.ErrRole) {
			t.Errorf("%+v begins: %v", who, err)
		}
		if err := s.End(t.Context(), who); !errors.Is(err, ErrNotOnDuty) {
			t.Errorf("%+v ends: %v", who, err)
		}
	}
}

func TestShiftsAtOnce(t *testing.T) {
	m := new(memory)
	s := NewShift(m, time.Now)
	m.shift = s
	var all sync.WaitGroup
	for _, who := range []terminal.Staff{kei, mori, kei, mori} {
		all.Go(func() {
			for range 50 {
				_ = s.Begin(t.Context(), who)
				_ = s.OnDuty()
				_ = s.End(t.Context(), who)
			}
		})
	}
	all.Wait()
	if s.OnDuty() != (terminal.Staff{}) || len(m.lines)%2 != 0 {
		t.Errorf("on duty is %+v after %d changes", s.OnDuty(), len(m.lines))
	}
}

// A check that always says yes, after something happened.
type yes func()

func (y yes) Check(context.Context, terminal.Decision) (bool, error) { y(); return true, nil }

func TestNobodyConfirmsWithoutAShift(t *testing.T) {
	s := NewShift(&memory{shift: NewShift(nil, nil)}, time.Now)
	asked := 0
	c := s.Checker(yes(func() { asked++ }))
	if ok, err := c.Check(t.Context(), terminal.Decision{}); ok || !errors.Is(err, ErrNobodyOnDuty) || asked != 0 {
		t.Errorf("%v, %v, asked %d times", ok, err, asked)
	}
	if err := s.Begin(t.Context(), kei); err != nil {
		t.Fatal(err)
	}
	if ok, err := c.Check(t.Context(), terminal.Decision{}); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	leaves := s.Checker(yes(func() { _ = s.End(t.Context(), kei) }))
	if ok, err := leaves.Check(t.Context(), terminal.Decision{}); ok || !errors.Is(err, ErrNobodyOnDuty) {
		t.Errorf("whose shift ended meanwhile confirms: %v, %v", ok, err)
	}
}
