package vcard_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const (
	cardDir   = "../../testdata/cards"
	vectorDir = "../../testdata/vectors/card"
)

// TestCardAnswersAsTheVectorsSay runs the exchanges that were written from the
// documents, not recorded from this card. Their format: testdata/README.md.
func TestCardAnswersAsTheVectorsSay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no vectors in %s", vectorDir)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { replay(t, file, vcard.Options{}) })
	}
}

// replay runs one file of exchanges with a card that has opt and the options of
// the file.
func replay(t *testing.T, file string, opt vcard.Options) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var (
		imageName string
		card      *vcard.Card
		answer    []byte // to the last command
		pairs     int
	)
	inserted := func() *vcard.Card {
		if card == nil {
			card = newCard(t, image(t, imageName), opt)
			card.PowerOn()
		}
		return card
	}
	for _, line := range logicalLines(b) {
		verb, rest, _ := strings.Cut(line.text, " ")
		switch verb {
		case "card":
			imageName = rest
		case "random":
			opt.Rand = bytes.NewReader(unhex(t, rest))
		case "option":
			setOption(t, &opt, rest)
		case "power":
			inserted().PowerOff()
			card.PowerOn()
		case "reset":
			inserted().Reset()
		case ">":
			if answer, err = inserted().Transmit(t.Context(), unhex(t, rest)); err != nil {
				t.Fatalf("%s:%d: %v", file, line.number, err)
			}
		case "<":
			if want := unhex(t, rest); !bytes.Equal(answer, want) {
				t.Fatalf("%s:%d: answer is\n%X, want\n%X", file, line.number, answer, want)
			}
			answer = nil
			pairs++
		default:
			t.Fatalf("%s:%d: unknown verb %q", file, line.number, verb)
		}
	}
	if pairs == 0 {
		t.Fatalf("%s: no exchanges", file)
	}
}

func setOption(t *testing.T, opt *vcard.Options, option string) {
	t.Helper()
	name, value, _ := strings.Cut(option, " ")
	switch name {
	case "first-command-fails":
		opt.FirstCommandFails = true
	case "no-extended-length":
		opt.NoExtendedLength = true
	case "exact-le":
		opt.ExactLe = true
	case "get-response":
		opt.GetResponse = true
	case "response-part":
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		opt.ResponsePart = n
	default:
		t.Fatalf("unknown option %q", name)
	}
}

type vectorLine struct {
	number int
	text   string
}

// logicalLines drops comments and empty lines, and joins continuations, which
// begin with two spaces.
func logicalLines(b []byte) []vectorLine {
	var lines []vectorLine
	scanner := bufio.NewScanner(bytes.NewReader(b))
	for number := 1; scanner.Scan(); number++ {
		text := scanner.Text()
		switch {
		case text == "" || text[0] == '#':
		case strings.HasPrefix(text, "  ") && len(lines) > 0:
			lines[len(lines)-1].text += text[2:]
		default:
			lines = append(lines, vectorLine{number, text})
		}
	}
	return lines
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func image(t testing.TB, name string) *vcard.Image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cardDir, name))
	if err != nil {
		t.Fatal(err)
	}
	img, err := vcard.ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func newCard(t testing.TB, img *vcard.Image, opt vcard.Options) *vcard.Card {
	t.Helper()
	card, err := vcard.New(img, opt)
	if err != nil {
		t.Fatal(err)
	}
	return card
}
