package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRegisteringACardWithItsPIN(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	img := newcomer(t, 2)
	c := register(t, s, r, "--json", "--ticket", "T-000123")
	c.sees("leave it there to the end")
	card := r.insert(img, how{})
	c.sees("Tries left: PIN 2, birth date 10.")
	c.answers("72941", theBirthDate)
	c.sees("The PIN is 4 digits. Nothing was sent to the card.")
	c.answers(strings.Repeat(thePIN, 1000), theBirthDate)
	c.sees("The PIN is 4 digits. Nothing was sent to the card.")
	c.answers(thePIN, "19850231")
	c.sees("The birth date is 8 digits, YYYYMMDD. Nothing was sent to the card.")
	c.answers(thePIN, theBirthDate)
	c.sees("Registered. Take your card.")
	if code := c.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	reg := c.record()
	want, err := theTown(t).Row(img, "ticket")
	if err != nil {
		t.Fatal(err)
	}
	if !reg.AuthKey().Equal(want.Row.AuthKey) || !reg.CardKey().Equal(want.Row.CardKey) || !bytes.Equal(reg.Head().Bytes(), want.Head) ||
		reg.BirthDate().YYYYMMDD() != theBirthDate || reg.Ticket() != "T-000123" {
		t.Errorf("registered %+v", reg)
	}
	var report struct {
		CardID string `json:"card_id"`
	}
	if err := json.Unmarshal(c.stdout.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	id := theTown(t).ScopeKey.ID(want.Head)
	if report.CardID != id.String() {
		t.Errorf("reported %s", &c.stdout)
	}
	noSecrets(t, "the screen", []byte(c.screen.String()))
	noSecrets(t, "standard output", c.stdout.Bytes())
	msg, err := os.ReadFile(c.out)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(msg, []byte(thePIN)) {
		t.Error("the record has the PIN")
	}
	card.remove()
	if tries := card.tries(); !bytes.Equal(tries, []byte{0xC3, 0xCA}) {
		t.Errorf("tries %X: a right PIN sets them to three", tries)
	}
}

// card register ends with what the card refuses, and tells the person.
func TestNoCardIsRegisteredWithoutItsPIN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		left           int // tries of the PIN
		pin, birthDate string
		says           string
		code           int
		after          []byte
	}{
		{"wrong PIN", 3, "0000", theBirthDate, "The PIN is wrong. Tries left: 2.", 4, []byte{0xC2, 0xCA}},
		{"wrong birth date", 3, thePIN, "19851104", "The birth date is wrong. Tries left: 9.", 4, []byte{0xC3, 0xC9}},
		{"one try left", 1, "", "", "Only the last try of the PIN is left", 4, []byte{0xC1, 0xCA}},
		{"blocked", 0, "", "", "The PIN is locked.", 4, []byte{0xC0, 0xCA}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, s := newReaders(t), install(t, shortDir(t))
			img := newcomer(t, c.left)
			clerk := register(t, s, r)
			card := r.insert(img, how{})
			if c.pin != "" {
				clerk.answers(c.pin, c.birthDate)
			}
			clerk.sees(c.says)
			if code := clerk.end(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			clerk.nothing()
			noSecrets(t, "the screen", []byte(clerk.screen.String()))
			card.remove()
			if tries := card.tries(); !bytes.Equal(tries, c.after) {
				t.Errorf("tries %X, want %X", tries, c.after)
			}
		})
	}
}

// A card that leaves ends the question: nobody types a PIN for nothing, and
// none is sent to the card that comes next.
func TestCardThatLeavesWhileItsHolderTypes(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	img := newcomer(t, 3)
	clerk := register(t, s, r)
	card := r.insert(img, how{})
	clerk.sees("PIN (4 digits, not shown): ")
	card.remove()
	clerk.sees("The card left the reader.")
	if code := clerk.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	clerk.nothing()
	if tries := card.tries(); !bytes.Equal(tries, []byte{0xC3, 0xCA}) {
		t.Errorf("tries %X", tries)
	}
}

// A card that is exchanged at once, so fast that the reader may not tell, is not
// given the PIN of the one before.
func TestCardExchangedWhileItsHolderTypes(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	clerk := register(t, s, r)
	first := r.insert(newcomer(t, 3), how{})
	clerk.sees("PIN (4 digits, not shown): ")
	next := newcomer(t, 3)
	first.cancel()
	<-first.served
	if err := first.conn.Close(); err != nil {
		t.Error(err)
	}
	second := r.insert(next, how{})
	clerk.types(thePIN)
	clerk.sees("The card left the reader.")
	if code := clerk.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	clerk.nothing()
	second.cancel()
	<-second.served
	for name, card := range map[string]*card{"first": first, "second": second} {
		if tries := card.tries(); !bytes.Equal(tries, []byte{0xC3, 0xCA}) {
			t.Errorf("%s card: tries %X", name, tries)
		}
	}
}

// ^C ends it too, and the terminal shows again what is typed.
func TestRegistrationThatItsHolderBreaksOff(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	clerk := register(t, s, r)
	card := r.insert(newcomer(t, 3), how{})
	clerk.sees("PIN (4 digits, not shown): ")
	if clerk.echoes() {
		t.Error("the terminal shows what is typed")
	}
	if _, err := clerk.master.WriteString("72\x03"); err != nil {
		t.Fatal(err)
	}
	clerk.sees("Nothing is registered.")
	if code := clerk.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !clerk.echoes() {
		t.Error("the terminal does not show what is typed")
	}
	clerk.nothing()
	card.remove()
}

// A phone gives its certificate after the PIN, and has no key of its own.
func TestRegisteringAPhone(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	img := theTown(t).person(t, "phone that wants its PIN", "tap-use").Image
	c := register(t, s, r)
	card := r.insert(img, how{})
	c.sees("Tries left: PIN 3. A mistake costs one.")
	c.answers("1234", "")
	if code := c.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if reg := c.record(); reg.AuthKey().IsZero() || !reg.CardKey().IsZero() || !reg.BirthDate().IsZero() {
		t.Errorf("registered %+v", reg)
	}
	if !strings.Contains(c.stdout.String(), "none: a phone or a SIM") {
		t.Errorf("standard output: %s", &c.stdout)
	}
	card.remove()
}

// What is there already is not replaced, and nobody types a PIN for it.
func TestRecordReplacesNoFile(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	c := register(t, s, r, "--out", s.path("list.cose"))
	c.sees("list.cose exists, and is not replaced")
	if code := c.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	c.nothing()
}

// What is missing is named before anybody types, and no VERIFY carries a value.
func TestRegistrationNamesWhatIsNotConfigured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		edits [][2]string
		args  []string
		card  bool // it takes a card to find out
		says  string
		code  int
	}{
		{"no identity key", [][2]string{{"[identity]\nkey = ", "# "}}, nil, false, "identity.key is missing: name the key with which this terminal signs", 3},
		{"key for another purpose", [][2]string{{"identity.key;", "external-auth.key;"}}, nil, false, `external_auth.key and identity.key are one key: each purpose has a key of its own`, 3},
		{"no card-surface authorities", [][2]string{{`surface_keys = "surface-keys.json"`, ""}, {"first_use = true", ""}}, nil, true, "anchors.surface_keys is missing, and this card has a key of its own to verify", 3},
		{"no anchors", [][2]string{{`["ca.pem"]`, "[]"}}, nil, true, "no trust anchor is configured", 4},
		{"ticket of two lines", nil, []string{"--ticket", "T\n1"}, false, "the ticket has a character that cannot be printed", 2},
		{"no reader", nil, []string{"--wait", "100ms", "--reader", "Absent*"}, false, `pcscd has no reader of the name ["Absent*"]`, 1},
		{"folder that is not there", nil, []string{"--out", "/nonexistent/record"}, false, "no such file or directory", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, s := newReaders(t), install(t, shortDir(t))
			for _, e := range c.edits {
				s.edit(t, e[0], e[1])
			}
			clerk := register(t, s, r, c.args...)
			var card *card
			if c.card {
				card = r.insert(newcomer(t, 2), how{})
			}
			clerk.sees(c.says)
			if code := clerk.end(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			clerk.nothing()
			if strings.Contains(clerk.screen.String(), "not shown") {
				t.Error("a PIN was asked for")
			}
			if card != nil {
				card.remove()
				if tries := card.tries(); !bytes.Equal(tries, []byte{0xC2, 0xCA}) {
					t.Errorf("tries %X", tries)
				}
			}
		})
	}
}

// Of two cards nobody can say whose PIN it would be.
func TestTwoCardsAreNotRegistered(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	cards := []*card{r.insert(newcomer(t, 3), how{}), r.insert(newcomer(t, 3), how{slot: 1})}
	time.Sleep(time.Second) // pcscd looks for cards every 400 ms
	clerk := register(t, s, r)
	clerk.sees("More than one card. Present one alone.")
	if code := clerk.end(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
	clerk.nothing()
	for _, c := range cards {
		c.remove()
	}
}

// A second card that comes while the holder types: the PIN is given to neither.
func TestSecondCardWhileItsHolderTypes(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	clerk := register(t, s, r)
	cards := []*card{r.insert(newcomer(t, 3), how{})}
	clerk.sees("PIN (4 digits, not shown): ")
	cards = append(cards, r.insert(newcomer(t, 3), how{slot: 1}))
	time.Sleep(time.Second) // pcscd looks for cards every 400 ms
	clerk.types(thePIN)
	clerk.sees("Birth date (YYYYMMDD, not shown): ")
	clerk.types(theBirthDate)
	clerk.sees("More than one card. Present one alone.")
	if code := clerk.end(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
	clerk.nothing()
	for i, c := range cards {
		c.cancel()
		<-c.served
		if tries := c.tries(); !bytes.Equal(tries, []byte{0xC3, 0xCA}) {
			t.Errorf("card %d: tries %X", i, tries)
		}
	}
}

// The line breaks: nothing is left of what was begun.
func TestRegistrationWhoseTerminalIsGone(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), install(t, shortDir(t))
	clerk := register(t, s, r)
	card := r.insert(newcomer(t, 3), how{})
	clerk.sees("PIN (4 digits, not shown): ")
	if err := clerk.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code := clerk.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	clerk.nothing()
	card.remove()
}

func TestRegistrationNeedsATerminal(t *testing.T) {
	t.Parallel()
	s := install(t, shortDir(t))
	cmd := exec.Command(filepath.Join(programs, "gate-agent"), "card", "register", "--config", s.config, "--out", s.path("record.cose"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without one
	cmd.Stdin = strings.NewReader(thePIN + "\n" + theBirthDate + "\n")
	said, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(said), "no terminal at which somebody could type a PIN") {
		t.Errorf("%v: %s", err, said)
	}
}
