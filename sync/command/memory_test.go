package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestWhatIsRememberedOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	m, err := OpenMemory(filepath.Join(dir, "not there yet"))
	if err != nil || !reflect.DeepEqual(m.State(), State{}) {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err = OpenMemory(dir); err != nil {
		t.Fatal(err)
	}
	want := State{
		Scopes: []Scope{{"arena", 7, 2, issued}, {"競技場", 1, 0, time.Time{}}},
		Halted: Halt{6, "閉鎖", issued}, Moved: Move{7, "arena", "競技場"},
		Wiped: Wiping{9, "競技場", recipient, issued, true, []string{"identity.key: absent"}}, Seen: issued,
	}
	if err := m.Update(func(s *State) { *s = want }); err != nil {
		t.Fatal(err)
	}
	again, err := OpenMemory(dir)
	if err != nil || !reflect.DeepEqual(again.State(), want) {
		t.Errorf("%+v, %v", again.State(), err)
	}
}

func TestNothingSeenGoesBack(t *testing.T) {
	var s State
	s.See(Scope{"arena", 7, 2, issued})
	s.See(Scope{"hall", 1, 1, issued})
	s.See(Scope{"arena", 3, 1, issued.Add(-time.Hour)})
	if s.Of("arena") != (Scope{"arena", 7, 2, issued}) || s.Of("hall").Number != 1 || len(s.Scopes) != 2 {
		t.Errorf("%+v", s)
	}
}

func TestDamagedMemoryIsNotTakenForNone(t *testing.T) {
	dir := t.TempDir()
	m, err := OpenMemory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Update(func(s *State) { s.See(Scope{Name: "arena", Number: 7}) }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, MemoryFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(good)
	changed[3] ^= 1
	for name, b := range map[string][]byte{"changed": changed, "cut": good[:len(good)-1], "empty": nil} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenMemory(dir); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// What a terminal could not read again would keep it from starting for ever.
func TestStateThatCouldNotBeReadAgainIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	m, err := OpenMemory(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*State){
		"too many scopes": func(s *State) {
			for i := range 2000 {
				s.Scopes = append(s.Scopes, Scope{Name: fmt.Sprint(i), Number: 1})
			}
		},
		"no UTF-8": func(s *State) { s.Halted = Halt{1, "\xff", issued} },
	} {
		if err := m.Update(change); err == nil {
			t.Errorf("%s: written", name)
		}
		if again, err := OpenMemory(dir); err != nil || !reflect.DeepEqual(again.State(), m.State()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
