package docs

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/nfc/vcard/perso"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// A cardRow is a line of docs/cards.md that says what a gate answers.
type cardRow struct {
	image, profile string
	cells          []string
}

// cardRows are the lines whose second cell names an image of testdata/cards.
func cardRows(t *testing.T) []cardRow {
	t.Helper()
	image := regexp.MustCompile("^`([\\w-]+\\.json)`(?: with `([\\w-]+\\.toml)`)?$")
	var rows []cardRow
	for line := range strings.Lines(read(t, "docs/cards.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if m := image.FindStringSubmatch(cells[2]); m != nil {
			rows = append(rows, cardRow{m[1], m[2], cells[3 : len(cells)-1]})
		}
	}
	return rows
}

// cardColumns are the columns of that table, in order.
var cardColumns = []struct {
	name       string
	method     jpki.Method
	registered bool // the row has the card's keys
}{
	{"tap-use", jpki.TapUse, true},
	{"first use", jpki.TapUse, false},
	{"external-auth", jpki.ExternalAuth, true},
	{"external-auth by certificate", jpki.ExternalAuth, false},
}

// cardsAt is when the valid certificates of testdata/cards are valid.
var cardsAt = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// What the page says of every image in testdata/cards is what a lane does: the
// reason, and how many commands it takes.
func TestCardsAreAnsweredAsThePageSays(t *testing.T) {
	rows := cardRows(t)
	for _, row := range rows {
		if len(row.cells) != len(cardColumns)+1 {
			t.Fatalf("%s has %d answers, want %d", row.image, len(row.cells), len(cardColumns)+1)
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "testdata/cards/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]*vcard.Image{}
	for _, file := range files {
		if name := filepath.Base(file); !strings.HasSuffix(name, "authority.json") {
			if images[name], err = vcard.ParseImage([]byte(read(t, "testdata/cards/"+name))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !slices.ContainsFunc(rows, func(r cardRow) bool { return r.image == name }) {
				t.Errorf("docs/cards.md does not say what %s is answered", name)
			}
		}
	}
	w := worldOfTestdata(t)
	profiles := map[string]jpki.Profile{"": jpki.DefaultProfile()}
	for _, row := range rows {
		if row.profile == "" {
			continue
		}
		if profiles[row.profile], err = jpki.ParseProfile([]byte(read(t, "testdata/profiles/"+row.profile))); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range rows {
		if got, err := registers(t, w, images[row.image], profiles[row.profile]); got != row.cells[len(cardColumns)] {
			t.Errorf("%s %s registers %s, the page says %s (%v)", row.image, row.profile, got, row.cells[len(cardColumns)], err)
		}
	}
	for i, column := range cardColumns {
		for name, profile := range profiles {
			if column.name == "first use" && profile.FirstUse == nil {
				profile.FirstUse = profiles[""].FirstUse // so that the lane begins it
			}
			field, decisions := lane(t, w, images, profile, column.method, column.registered)
			for _, row := range rows {
				if row.profile != name {
					continue
				}
				img := images[row.image]
				if img == nil {
					t.Fatalf("docs/cards.md names the image %s, which does not exist", row.image)
				}
				card, err := vcard.New(img, vcard.Options{})
				if err != nil {
					t.Fatal(err)
				}
				presented := 0
				field.Insert("slot", &nfctest.Faulty{Medium: card, Bend: func(_ context.Context, _ int, capdu []byte) ([]byte, error, bool) {
					if len(capdu) > 5 && capdu[1] == 0x20 {
						presented++
					}
					return nil, nil, false
				}})
				d := <-decisions
				field.Remove("slot")
				if got := fmt.Sprintf("`%s` %d", d.Reason, d.Commands); got != row.cells[i] {
					t.Errorf("%s %s, %s: %s, the page says %s (%v)", row.image, row.profile, column.name, got, row.cells[i], d.Cause)
				}
				if most := map[bool]int{true: 1}[column.name == "first use"]; presented > most {
					t.Errorf("%s, %s: %d values presented in VERIFY, want at most %d", row.image, column.name, presented, most)
				}
			}
		}
	}
}

// registers says what a registration desk gets of a card whose holder types the
// right PIN and birth date.
func registers(t *testing.T, w *world.World, img *vcard.Image, profile jpki.Profile) (string, error) {
	t.Helper()
	card, err := vcard.New(img, vcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := jpki.NewDialogue(profile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	born, err := cardauth.ParseBirthDate("19900401")
	if err != nil {
		t.Fatal(err)
	}
	challenge := cardauth.Challenge{Purpose: cardauth.PurposeRegistration}
	var authKey, cardKey cardkey.Key
	var signer cardauth.CVCertificate
	got, err := d.Register(t.Context(), "slot", nfc.NewChannel(card), challenge, jpki.Registrar{
		CheckAlone: func() error { return nil },
		CheckCertificate: func(der, _ []byte) error {
			head, err := cardauth.ParseHead(der)
			if err != nil {
				return err
			}
			authKey, err = cardauth.VerifyCertificate(head, der, w.Anchors(), cardsAt)
			return err
		},
		CheckSigner: func(cvc []byte) (err error) {
			signer, err = cardauth.VerifyCVCertificate(cvc, w.SurfaceAuthorities())
			return err
		},
		Ask: func(context.Context, jpki.Question) (jpki.Answer, error) {
			return jpki.Answer{PIN: []byte("1234"), BirthDate: born}, nil
		},
		CheckProof: func(s jpki.Signed) error { return challenge.VerifiedBy(authKey, s.Scheme, s.Signature) },
		CheckRecord: func(record []byte) (err error) {
			cardKey, err = cardauth.VerifyAgeRecord(record, signer, born)
			return err
		},
	})
	switch {
	case err != nil:
		return "refused", err
	case !got.CardSurface:
		return "authentication key", nil
	}
	return "both keys", challenge.ForCardKey(got.Authentication.Signature).VerifiedBy(cardKey, got.Card.Scheme, got.Card.Signature)
}

// worldOfTestdata is a world whose hierarchies and terminal key are those of
// testdata/cards.
func worldOfTestdata(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(cardsAt)
	if err != nil {
		t.Fatal(err)
	}
	if w.Authority, err = perso.ParseAuthority([]byte(read(t, "testdata/cards/authority.json"))); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(read(t, "testdata/cards/terminal.pem")))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	w.TerminalKey = key.(*rsa.PrivateKey)
	w.TerminalCertificates[0], w.TerminalCertificates[1], err = w.Authority.TerminalCertificates(&w.TerminalKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// lane runs a lane whose list has every card, save the copy and the forgery of
// another one.
func lane(t *testing.T, w *world.World, images map[string]*vcard.Image, profile jpki.Profile, method jpki.Method, registered bool) (*nfctest.Field, <-chan terminal.Decision) {
	t.Helper()
	var rows []whitelist.Listed
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if name == "copied.json" || name == "forged.json" || images[name].AuthenticationCertificate() == nil {
			continue
		}
		row, err := w.Row(images[name], "ticket-"+strconv.Itoa(len(rows)))
		if err != nil {
			t.Fatal(err)
		}
		if !registered {
			row.Row.AuthKey, row.Row.CardKey, row.Row.BirthDate = cardkey.Key{}, cardkey.Key{}, "19900401"
		}
		rows = append(rows, row)
	}
	list, err := w.List(rows...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	site, err := w.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Close(); err != nil {
			t.Error(err)
		}
	})
	// The journal of today would be ahead of the cards' time.
	if err := site.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return cardsAt }
	if site.Journal, err = journal.Open(filepath.Join(dir, "cards.db"), now); err != nil {
		t.Fatal(err)
	}
	if _, err := site.Store.Import(t.Context(), bytes.NewReader(list), cardsAt, nil); err != nil {
		t.Fatal(err)
	}
	field, decisions := nfctest.NewField("slot"), make(chan terminal.Decision, 1)
	l, _, err := site.Lane(field, func(c *terminal.Config, p *terminal.Parts) {
		if p.Dialogue, err = w.Dialogue(profile); err != nil {
			t.Fatal(err)
		}
		c.Methods, c.FirstUse = []jpki.Method{method}, method == jpki.TapUse && !registered
		p.Now, p.Observe = now, func(d terminal.Decision) { decisions <- d }
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return field, decisions
}
