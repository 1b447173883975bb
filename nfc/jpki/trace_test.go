package jpki_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

const traceDir = "../../testdata/traces"

// A session is a trace with what its header says (testdata/README.md).
type session struct {
	pairs     []trace.Pair
	image     string
	method    jpki.Method
	challenge cardauth.Challenge
	digest    []byte
	random    []byte
	check     bool   // the certificate is verified
	born      string // birth date of the row: first use
	refuses   bool   // READ BINARY in extended length
}

func loadSession(t testing.TB, file string) session {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := session{challenge: cardauth.Challenge{Purpose: cardauth.PurposeGate}}
	if s.pairs, err = trace.Parse(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	unhex := func(v string) []byte {
		b, err := hex.DecodeString(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "#")), ": ")
		if !ok || line[0] != '#' {
			continue
		}
		switch key {
		case "image":
			s.image = value
		case "method":
			s.method = jpki.Method(value)
		case "scope":
			s.challenge.Scope = value
		case "terminal":
			s.challenge.Terminal = value
		case "nonce":
			copy(s.challenge.Nonce[:], unhex(value))
		case "digest":
			s.digest = unhex(value)
		case "random":
			s.random = unhex(value)
		case "birth date":
			s.born = value
		case "check":
			s.check = true
		case "refuses":
			s.refuses = true
		}
	}
	return s
}

func sessions(t *testing.T, f func(*testing.T, session)) {
	files, err := filepath.Glob(filepath.Join(traceDir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no traces in %s", traceDir)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { f(t, loadSession(t, file)) })
	}
}

// The reader side sends exactly the commands of the traces, and what it was
// answered proves the holder.
func TestDialogueSpeaksAsTheTraces(t *testing.T) {
	anchors := []*x509.Certificate{authority(t, "authority.json").CACertificate()}
	sessions(t, func(t *testing.T, s session) {
		img := image(t, s.image)
		digest := s.challenge.Digest(crypto.SHA256)
		if !bytes.Equal(digest, s.digest) {
			t.Fatalf("digest of the challenge is %X, want %X", digest, s.digest)
		}
		keys := map[jpki.Method]cardkey.Key{jpki.TapUse: cardKey(t, img), jpki.ExternalAuth: authenticationKey(t, img)}
		key := keys[s.method]
		resolve := func(head cardauth.Head) (jpki.Expected, error) {
			want := jpki.Expected{Method: s.method, Challenge: s.challenge}
			if s.check {
				key = cardkey.Key{}
				want.CheckCertificate = func(der []byte) (err error) {
					key, err = cardauth.VerifyCertificate(head, der, anchors, at)
					return err
				}
			}
			if s.born != "" {
				want.FirstUse = firstUse(t, s.born, &key)
			}
			return want, nil
		}
		replay := &trace.Replay{Pairs: s.pairs}
		e, _, err := newTerminal(t).tap(t, replay, resolve)
		if err != nil {
			t.Fatal(err)
		}
		if !replay.Done() {
			t.Error("not every command of the trace was sent")
		}
		proof := cardauth.Proof{Head: e.Head, Challenge: s.challenge, Signature: e.Signature, Scheme: e.Scheme}
		holder, err := cardauth.Verify(proof, key, at)
		if err != nil {
			t.Fatal(err)
		}
		if !cardauth.SameHead(holder.Head(), img.AuthenticationCertificate()) {
			t.Error("holder of another certificate")
		}
	})
}

// The virtual card gives exactly the responses of the traces.
func TestCardAnswersAsTheTraces(t *testing.T) {
	sessions(t, func(t *testing.T, s session) {
		card := nfctest.Medium(newCard(t, image(t, s.image), vcard.Options{Rand: bytes.NewReader(s.random)}))
		if s.refuses {
			card = refusesExtendedReads(card)
		}
		card.PowerOn()
		for _, p := range s.pairs {
			rapdu, err := card.Transmit(t.Context(), p.Command)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(rapdu, p.Response) {
				t.Fatalf("line %d: %X is answered\n%X, want\n%X", p.Line, p.Command, rapdu, p.Response)
			}
		}
	})
}

// refusesExtendedReads is a card that answers 6700 to READ BINARY in extended
// length, and takes long certificates all the same.
func refusesExtendedReads(m nfctest.Medium) nfctest.Medium {
	return bend(m, func(_ int, capdu []byte) []byte {
		if isExtendedRead(capdu) {
			return []byte{0x67, 0x00}
		}
		return nil
	})
}
