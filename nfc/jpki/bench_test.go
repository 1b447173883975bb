package jpki_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// BenchmarkTap tells what a tap costs on the air and in the chip, as the
// virtual card's clock models it (card-facts §8): nobody waits here. Its ns/op
// would be what this computer takes to play both sides, and is left out.
func BenchmarkTap(b *testing.B) {
	for _, method := range methods {
		for _, rate := range []int{106_000, 424_000} {
			b.Run(fmt.Sprintf("%s/%dkbit", method, rate/1000), func(b *testing.B) {
				clock := &vcard.Clock{BitRate: rate, KeyOperation: 300 * time.Millisecond}
				img := image(b, "good.json")
				card := newCard(b, img, vcard.Options{Clock: clock})
				d := newTerminal(b).dialogue(b, jpki.DefaultProfile())
				var total nfc.Stats
				for b.Loop() {
					card.PowerOff()
					card.PowerOn()
					e, stats, err := tap(b, d, card, registered(method))
					if err != nil {
						b.Fatal(err)
					}
					prove(b, e, img)
					total.Commands += stats.Commands
					total.Bytes += stats.Bytes
				}
				n := float64(b.N)
				b.ReportMetric(float64(total.Commands)/n, "commands/op")
				b.ReportMetric(float64(total.Bytes)/n, "bytes/op")
				b.ReportMetric(clock.Elapsed().Seconds()*1000/n, "modelled-ms/op")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkAgentShare tells what the agent itself adds to a tap. The card is a
// recorded session (testdata/traces): its answers cost a comparison of bytes,
// so no arithmetic of a card is in the figure. Everything of ours is: the
// challenge, commands and responses, the terminal's own signature in method A,
// and the verification of the card's answer and certificate. Looking the head
// up in a list is not.
func BenchmarkAgentShare(b *testing.B) {
	for _, name := range []string{"tap-use", "external-auth", "external-auth-chain"} {
		b.Run(name, func(b *testing.B) {
			s := loadSession(b, filepath.Join(traceDir, name+".txt"))
			img := image(b, s.image)
			registeredKey := cardKey(b, img)
			if s.method == jpki.ExternalAuth {
				registeredKey = authenticationKey(b, img)
			}
			anchors := []*x509.Certificate{authority(b, "authority.json").CACertificate()}
			d := newTerminal(b).dialogue(b, jpki.DefaultProfile())
			b.ReportAllocs()
			for b.Loop() {
				challenge, key := s.challenge, registeredKey
				if err := challenge.Fresh(bytes.NewReader(s.challenge.Nonce[:])); err != nil {
					b.Fatal(err)
				}
				want := jpki.Expected{Method: s.method, Challenge: challenge}
				e, _, err := tap(b, d, &trace.Replay{Pairs: s.pairs}, func(head cardauth.Head) (jpki.Expected, error) {
					if s.check {
						want.CheckCertificate = func(der []byte) (err error) {
							key, err = cardauth.VerifyCertificate(head, der, anchors, at)
							return err
						}
					}
					return want, nil
				})
				if err != nil {
					b.Fatal(err)
				}
				proof := cardauth.Proof{Head: e.Head, Challenge: challenge, Signature: e.Signature, Scheme: e.Scheme}
				if _, err := cardauth.Verify(proof, key, at); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "agent-µs/op")
			b.ReportMetric(0, "ns/op") // the same figure
		})
	}
}

// BenchmarkMedium tells what a medium of the terminal's key costs a tap of method A,
// in the order of the built-in profile and with the challenge asked for first: then
// it signs while the card, modelled at 424 kbit/s in real time, checks certificates.
// The card's own signature takes no time here.
func BenchmarkMedium(b *testing.B) {
	for _, took := range []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond} {
		for _, c := range []struct {
			name    string
			profile jpki.Profile
		}{{"table", jpki.DefaultProfile()}, {"challenge-first", jpki.ChallengeFirst(jpki.DefaultProfile())}} {
			b.Run(fmt.Sprintf("%v/%s", took, c.name), func(b *testing.B) {
				term := newTerminal(b)
				key, err := jpki.NewTerminalKey(slow{term.signer, took}, term.certificates...)
				if err != nil {
					b.Fatal(err)
				}
				d, err := jpki.NewDialogue(c.profile, key, nil)
				if err != nil {
					b.Fatal(err)
				}
				img := image(b, "good.json")
				for b.Loop() {
					clock := &vcard.Clock{BitRate: 424000, KeyOperation: -1, Sleep: true}
					if _, _, err := tap(b, d, newCard(b, img, vcard.Options{Clock: clock}), registered(jpki.ExternalAuth)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "tap-ms/op")
				b.ReportMetric(0, "ns/op") // the same figure
			})
		}
	}
}

// A slow signer takes as long as a medium does.
type slow struct {
	crypto.Signer
	took time.Duration
}

func (s slow) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	time.Sleep(s.took)
	return s.Signer.Sign(rand, digest, opts)
}
