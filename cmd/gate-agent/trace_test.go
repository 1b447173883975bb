package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A street is people with cards, and rows for some of them.
type street struct {
	*world.World
	people []world.Person
	rows   []whitelist.Listed

	// At first use: the row's birth date is the card's, or another one.
	first, misborn *vcard.Image
}

// bornPIN is what the cards of perso take in EF 0011 (1990-04-01, Heisei 2).
const bornPIN = "020401"

var theStreet = sync.OnceValues(func() (s street, err error) {
	if s.World, err = world.New(time.Now()); err != nil {
		return s, err
	}
	if s.people, s.rows, err = s.World.People(); err != nil {
		return s, err
	}
	for _, p := range []struct {
		img  **vcard.Image
		born string
	}{{&s.first, "19900401"}, {&s.misborn, "19900402"}} {
		if *p.img, err = s.Card(perso.CardOptions{}); err != nil {
			return s, err
		}
		row, err := s.Row(*p.img, "ticket-first")
		if err != nil {
			return s, err
		}
		row.Row.CardKey, row.Row.BirthDate = cardkey.Key{}, p.born
		s.rows = append(s.rows, row)
	}
	return s, nil
})

// installed is a terminal of the street with its list in force.
func installed(t *testing.T) (street, string) {
	t.Helper()
	s, err := theStreet()
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List(s.rows...)
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Install(filepath.Join(t.TempDir(), "terminal"), `["tap-use", "external-auth"]`, list)
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := c.openStore()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Import(t.Context(), bytes.NewReader(list), time.Now(), func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return s, path
}

// card makes the card of an image, which is pulled away before that command.
func card(t *testing.T, img *vcard.Image, pullAt int) nfctest.Medium {
	t.Helper()
	b, err := img.Encode()
	if err != nil {
		t.Fatal(err)
	}
	own, err := vcard.ParseImage(b) // tries of PINs are in it
	if err != nil {
		t.Fatal(err)
	}
	v, err := vcard.New(own, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if pullAt > 0 {
		return nfctest.Pulled(v, pullAt)
	}
	return v
}

// traced has a dialogue with a medium, and returns what was written.
func traced(t *testing.T, config, dialogue string, m nfctest.Medium) (spoken, string) {
	t.Helper()
	tr, err := newTracer(config, dialogue)
	if err != nil {
		t.Fatal(err)
	}
	field := nfctest.NewField("Test Reader 00 00")
	field.Insert("Test Reader 00 00", m)
	c, err := field.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	said, err := tr.session(t.Context(), c, &text)
	if err := errors.Join(err, tr.close()); err != nil {
		t.Fatal(err)
	}
	return said, text.String()
}

func replayed(t *testing.T, text string) (trace.File, replayReport) {
	t.Helper()
	f, err := trace.ParseFile(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	r, err := replay(t.Context(), f, jpki.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	return f, r
}

// same traces a session and replays it, which must end as it did.
func same(t *testing.T, config, dialogue string, m nfctest.Medium, want terminal.Reason) (spoken, string) {
	t.Helper()
	said, text := traced(t, config, dialogue, m)
	f, r := replayed(t, text)
	if said.reason != want || !r.Same || r.Reason != want || r.Difference != nil || r.Detail != said.detail ||
		r.Commands != said.stats.Commands || r.Bytes != said.stats.Bytes {
		t.Errorf("%s: traced as %s (%s), want %s; replayed as %+v", dialogue, said.reason, said.detail, want, r)
	}
	for _, p := range f.Pairs {
		cmd, err := nfc.ParseCommand(p.Command)
		if err != nil {
			t.Fatal(err)
		}
		if cmd.INS == 0x20 && len(cmd.Data) > 0 && !strings.HasSuffix(p.Text(), strings.Repeat("XX", len(cmd.Data))) {
			t.Errorf("%s: a PIN is in %s", dialogue, p.Text())
		}
	}
	if strings.Contains(text, fmt.Sprintf("%X", bornPIN)) {
		t.Errorf("%s: the birth date is there as a PIN", dialogue)
	}
	return said, text
}

// proved is what a gate says of a person's card before it decides about the
// person.
func proved(p world.Person) terminal.Reason {
	switch p.Reason {
	case terminal.Revoked, terminal.InvalidTime, terminal.Blocked:
		return terminal.OK
	case terminal.NotListed:
		if p.Method == jpki.TapUse {
			return terminal.OK // and said not to be checked
		}
	}
	return p.Reason
}

func TestEverybodysTraceReplaysTheSame(t *testing.T) {
	s, config := installed(t)
	for _, p := range s.people {
		said, _ := same(t, config, string(p.Method), card(t, p.Image, p.PullAt), proved(p))
		if n := said.proved.Evidence.TerminalSignatures; n > 0 && p.Reason == terminal.NotListed {
			t.Errorf("%s got %d signatures of the terminal's key", p.Name, n)
		}
		want := terminal.OK
		switch {
		case p.PullAt > 0:
			want = terminal.CardRemoved
		case len(p.Image.Applications) == 0:
			want = terminal.CardUnsupported
		}
		same(t, config, dialogueRead, card(t, p.Image, p.PullAt), want)
	}
}

func TestTraceSaysWhatWasChecked(t *testing.T) {
	s, config := installed(t)
	person := func(name string, m jpki.Method) *vcard.Image {
		for _, p := range s.people {
			if p.Name == name && p.Method == m {
				return p.Image
			}
		}
		t.Fatalf("nobody is %q", name)
		return nil
	}
	_, empty := installed(t)
	if err := os.RemoveAll(filepath.Join(filepath.Dir(empty), "state")); err != nil {
		t.Fatal(err)
	}
	const b, a = string(jpki.TapUse), string(jpki.ExternalAuth)
	for _, c := range []struct {
		config, dialogue string
		img              *vcard.Image
		want             string
	}{
		{config, b, person("listed", jpki.TapUse), "signature of 256 bytes, checked with the registered card key"},
		{config, b, person("not listed", jpki.TapUse), "signature of 256 bytes, not checked: the card is not on the list"},
		{config, b, person("listed, key not registered", jpki.ExternalAuth), "signature of 256 bytes, not checked: the card is registered without its card key"},
		{config, b, s.first, "signature of 256 bytes, checked with the card key of its age record"},
		{empty, b, person("listed", jpki.TapUse), "signature of 256 bytes, not checked: there is no list"},
		{"", b, person("listed", jpki.TapUse), "signature of 256 bytes, not checked: there is no list"},
		{config, a, person("listed", jpki.ExternalAuth), "signature of 256 bytes, checked with the registered authentication key"},
		{config, a, person("listed, key not registered", jpki.ExternalAuth), "signature of 256 bytes, checked with the key of its certificate"},
		{"", dialogueRead, person("phone that wants its PIN", jpki.TapUse), "JPKIAPGPSETOKEN, certificate behind the PIN, no card-surface application"},
	} {
		if said, _ := same(t, c.config, c.dialogue, card(t, c.img, 0), terminal.OK); said.detail != c.want {
			t.Errorf("%s says %q, want %q", c.dialogue, said.detail, c.want)
		}
	}
	if _, err := newTracer(empty, a); err == nil || cli.ExitCode(err, nil) != cli.ExitRefused {
		t.Errorf("method A without a list: %v", err)
	}
}

func TestCardPulledAtEveryCommandReplaysTheSame(t *testing.T) {
	s, config := installed(t)
	for dialogue, img := range map[string]*vcard.Image{
		dialogueRead: s.people[0].Image, string(jpki.TapUse): s.first, string(jpki.ExternalAuth): s.people[2].Image,
	} {
		said, _ := same(t, config, dialogue, card(t, img, 0), terminal.OK)
		for at := 1; at <= said.stats.Commands; at++ {
			same(t, config, dialogue, card(t, img, at), terminal.CardRemoved)
		}
	}
}

// Cards that cannot do it, each in its own way, and readers too.
func TestCardThatCannotDoItReplaysTheSame(t *testing.T) {
	s, config := installed(t)
	const b, a = string(jpki.TapUse), string(jpki.ExternalAuth)
	people := map[string]*vcard.Image{}
	for _, p := range s.people {
		people[p.Name] = p.Image
	}
	// refuses answers so to a command whose header begins so.
	refuses := func(img *vcard.Image, header string, sw ...byte) nfctest.Medium {
		return &nfctest.Faulty{Medium: card(t, img, 0), Bend: func(_ context.Context, _ int, capdu []byte) ([]byte, error, bool) {
			return sw, nil, strings.HasPrefix(fmt.Sprintf("%X", capdu), header)
		}}
	}
	chain := people["listed, key not registered"]
	ofNoDay := bytes.Clone(s.first.Application(vcard.AIDSurface()).File(0x0001).Content)
	copy(ofNoDay[8:], "19900230")
	for name, c := range map[string]struct {
		dialogue string
		card     nfctest.Medium
		want     terminal.Reason
	}{
		"SIM, no card-surface AP":       {b, card(t, people["listed, SIM of a phone"], 0), terminal.CardUnsupported},
		"phone, method A":               {a, card(t, people["phone that wants its PIN"], 0), terminal.PINRequired},
		"no JPKI-AP":                    {dialogueRead, refuses(chain, "00A4040C0AD392", 0x6A, 0x82), terminal.CardUnsupported},
		"no certificate of terminals":   {a, refuses(chain, "80A206", 0x6D, 0x00), terminal.CardUnsupported},
		"no second certificate":         {a, refuses(chain, "80A200", 0x69, 0x88), terminal.CardUnsupported},
		"terminal refused":              {a, refuses(chain, "008200", 0x63, 0x00), terminal.AuthFailed},
		"no extended length":            {a, refuses(chain, "00B0010000052F", 0x67, 0x00), terminal.OK},
		"no extended length, read":      {dialogueRead, refuses(chain, "00B001000004", 0x67, 0x00), terminal.OK},
		"half an answer":                {b, refuses(chain, "00A4", 0x90), terminal.CardUnsupported},
		"an answer of nothing":          {b, refuses(chain, "00B08A"), terminal.CardRemoved},
		"birth date with one try":       {b, refuses(s.first, "00200091", 0x63, 0xC1), terminal.AuthFailed},
		"an age record of nothing":      {b, refuses(s.first, "00B081", 0x90, 0x00), terminal.CardUnsupported},
		"an age record that is no such": {b, refuses(s.first, "00B081", append(make([]byte, 547), 0x90, 0x00)...), terminal.AuthFailed},
		"an age record of no day":       {b, refuses(s.first, "00B081", append(ofNoDay, 0x90, 0x00)...), terminal.AuthFailed},
	} {
		t.Run(name, func(t *testing.T) { same(t, config, c.dialogue, c.card, c.want) })
	}
}

// A birth date that a card refused is never presented to it again, by whoever.
func TestRefusedBirthDateIsRecordedAndNotPresentedAgain(t *testing.T) {
	s, config := installed(t)
	const b = string(jpki.TapUse)
	_, text := same(t, config, b, card(t, s.misborn, 0), terminal.AuthFailed)
	if strings.Count(text, "> 0020") != 2 { // the tries, and one
		t.Errorf("VERIFY in\n%s", text)
	}
	_, text = same(t, config, b, card(t, s.misborn, 0), terminal.AuthFailed)
	if strings.Contains(text, "> 0020") || !strings.Contains(text, "\n# birth-date: refused-before\n") {
		t.Errorf("the second trace is\n%s", text)
	}
	// Nothing else is in the journal.
	c, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	j, err := c.openJournal(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if report, err := j.Verify(t.Context()); err != nil || report.Events != 1 {
		t.Errorf("journal: %+v, %v", report, err)
	}
	// While an agent has the journal, a trace cannot keep a refusal.
	said, _ := traced(t, config, b, card(t, s.first, 0))
	if said.reason != terminal.OutOfOrder || !strings.Contains(said.detail, "stop the agent") {
		t.Errorf("beside an agent: %s, %s", said.reason, said.detail)
	}
}

// An age record of another day than the row's, which the card took all the same.
func TestAgeRecordOfAnotherDayReplaysTheSame(t *testing.T) {
	s, config := installed(t)
	m := &nfctest.Faulty{Medium: card(t, s.misborn, 0)}
	m.Bend = func(ctx context.Context, _ int, capdu []byte) ([]byte, error, bool) {
		if cmd, err := nfc.ParseCommand(capdu); err != nil || cmd.INS != 0x20 || len(cmd.Data) == 0 {
			return nil, nil, false
		}
		right, err := nfc.Command{INS: 0x20, P2: capdu[3], Data: []byte(bornPIN)}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		rapdu, err := m.Medium.Transmit(ctx, right)
		return rapdu, err, true
	}
	_, text := same(t, config, string(jpki.TapUse), m, terminal.AuthFailed)
	if !strings.Contains(text, "\n# birth-date: other\n") {
		t.Errorf("no word of it in\n%s", text)
	}
}

// A card that is silent for too long.
func TestSessionThatTakesTooLongReplaysTheSame(t *testing.T) {
	s, config := installed(t)
	tr, err := newTracer(config, string(jpki.TapUse))
	if err != nil {
		t.Fatal(err)
	}
	field := nfctest.NewField("Reader")
	field.Insert("Reader", &nfctest.Faulty{Medium: card(t, s.people[0].Image, 0), Bend: func(ctx context.Context, n int, _ []byte) ([]byte, error, bool) {
		if n < 3 {
			return nil, nil, false
		}
		<-ctx.Done()
		return nil, ctx.Err(), true
	}})
	c, err := field.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var text bytes.Buffer
	said, err := tr.session(ctx, c, &text)
	if !errors.Is(err, context.DeadlineExceeded) || said.reason != terminal.ReadTimeout {
		t.Errorf("%s, %v", said.reason, err)
	}
	if err := tr.close(); err != nil {
		t.Fatal(err)
	}
	if _, r := replayed(t, text.String()); !r.Same || r.Reason != terminal.ReadTimeout {
		t.Errorf("replayed as %+v", r)
	}
}

// A mute or foreign card is the first that a field engineer reports.
func TestCardThatCannotBePoweredIsRecorded(t *testing.T) {
	for _, c := range []struct {
		err  error
		want terminal.Reason
	}{{errors.New("card is unresponsive"), terminal.CardUnsupported}, {nfc.ErrRemoved, terminal.CardRemoved}} {
		tr, err := newTracer("", dialogueRead)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		said, err := tr.unconnected(t.Context(), &nfc.CardError{Slot: "Reader", Err: c.err}, &text)
		if err != nil || said.reason != c.want {
			t.Errorf("%v: %s, %v", c.err, said.reason, err)
		}
		if _, r := replayed(t, text.String()); !r.Same || r.Reason != c.want {
			t.Errorf("%v is replayed as %+v", c.err, r)
		}
	}
}
