package jpki

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/gate-agent/gate-agent/crypto/cardkey"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/nfc"
)

// A Profile says with which files and commands a kind of card is spoken to.
// Everything about the card that is likely or modelled, not known, is in it,
// so that an operator who holds the specification changes a file and no code.
// docs/card-profile.md describes the file.
type Profile struct {
	Format       int                  `toml:"format"`
	Name         string               `toml:"name"`
	Applications Applications         `toml:"applications"`
	Files        Files                `toml:"files"`
	TapUse       TapUseCommands       `toml:"tap_use"`
	FirstUse     *FirstUseFiles       `toml:"first_use"` // nil: such cards have no first use
	ExternalAuth ExternalAuthCommands `toml:"external_auth"`
}

// Applications are DF names, 5 to 16 bytes (ISO/IEC 7816-4:2005 §8.2.1.2).
type Applications struct {
	JPKI        AID `toml:"jpki"`
	CardSurface AID `toml:"card_surface"`
}

// Files are EF identifiers of JPKI-AP.
type Files struct {
	AuthenticationCertificate FileID `toml:"authentication_certificate"`
	TerminalCA                FileID `toml:"terminal_ca"`
}

// TapUseCommands are those of method B, かざし利用.
type TapUseCommands struct {
	Sign Sign `toml:"sign"`
}

// FirstUseFiles are EF identifiers of the card-surface AP that first use needs.
type FirstUseFiles struct {
	SignerCertificate FileID `toml:"signer_certificate"`
	BirthDate         FileID `toml:"birth_date"` // a PIN
	AgeRecord         FileID `toml:"age_record"`
}

// ExternalAuthCommands are those of method A, external authentication.
type ExternalAuthCommands struct {
	Order                []Step       `toml:"order"`
	CertificateCount     int          `toml:"certificate_count"`
	ChallengeSize        int          `toml:"challenge_size"` // bytes
	GetChallenge         Header       `toml:"get_challenge"`
	CertificateBody      Header       `toml:"certificate_body"`
	CertificateSignature Header       `toml:"certificate_signature"`
	Authenticate         Authenticate `toml:"authenticate"`
	Sign                 Sign         `toml:"sign"`
}

// A Sign is a command by which the card signs our digest.
type Sign struct {
	Command Header         `toml:"command"`
	Input   Input          `toml:"input"`
	Scheme  cardkey.Scheme `toml:"scheme"`
}

// An Authenticate is the command that carries the terminal's signature.
type Authenticate struct {
	Command Header         `toml:"command"`
	Scheme  cardkey.Scheme `toml:"scheme"`
}

// A Header is the header of a command APDU, CLA INS P1 P2, written as
// hexadecimal. One string cannot lack a byte, as a table of four could: P1 of a
// signature command that is missing would read as 00, which pads otherwise.
type Header struct{ cla, ins, p1, p2 byte }

// UnmarshalText reads hexadecimal.
func (h *Header) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil {
		return fmt.Errorf("command header %q: %w", b, err)
	}
	if len(v) != 4 {
		return fmt.Errorf("command header %q: %d bytes, want CLA INS P1 P2", b, len(v))
	}
	*h = Header{v[0], v[1], v[2], v[3]}
	return nil
}

// IsTerminalSignature reports whether a command's data is what the terminal's
// key has signed.
func (p Profile) IsTerminalSignature(c nfc.Command) bool {
	return p.ExternalAuth.Authenticate.Command == Header{c.CLA, c.INS, c.P1, c.P2}
}

// An Input says what a Sign command is given.
type Input string

// Inputs: a DigestInfo (RFC 8017 §9.2), or the bare digest.
const (
	DigestInfo Input = "digest-info"
	Digest     Input = "digest"
)

// A Step is one part of method A after the row was resolved.
type Step string

// The steps of method A.
const (
	StepTerminalCA   Step = "terminal_ca"  // SELECT EF: the key that checks certificates
	StepCertificates Step = "certificates" // SET PUBLIC IC KEY, twice for each certificate
	StepChallenge    Step = "challenge"    // GET CHALLENGE
	StepAuthenticate Step = "authenticate" // EXTERNAL AUTHENTICATE
	StepSign         Step = "sign"         // the card signs our digest
)

// A FileID is an EF identifier.
type FileID uint16

// SFI is the short EF identifier: the low five bits (card-facts §2), unless
// they are all ones. 0 says that there is none.
func (f FileID) SFI() byte {
	if sfi := byte(f) & 0x1F; sfi != 0x1F {
		return sfi
	}
	return 0
}

// An AID is a DF name, written as hexadecimal.
type AID []byte

// UnmarshalText reads hexadecimal.
func (a *AID) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil {
		return fmt.Errorf("DF name %q: %w", b, err)
	}
	*a = v
	return nil
}

func (a AID) valid() bool { return len(a) >= 5 && len(a) <= 16 }

//go:embed default.toml
var builtin []byte

// DefaultProfile is the profile of card-facts.md.
func DefaultProfile() Profile {
	p, err := ParseProfile(builtin)
	if err != nil {
		panic("jpki: built-in profile: " + err.Error()) // a test holds it
	}
	return p
}

// ChallengeFirst is a profile that asks for the card's challenge before it presents
// the certificates: while the card checks them, the medium of the terminal's key
// signs. A card has to keep a challenge only until the next command (ISO/IEC
// 7816-4:2020 §11.5.3), so this is for cards that are known to keep it longer.
func ChallengeFirst(p Profile) Profile {
	p.Name += "-challenge-first"
	p.ExternalAuth.Order = []Step{StepTerminalCA, StepChallenge, StepCertificates, StepAuthenticate, StepSign}
	return p
}

// ParseProfile reads a profile from TOML, strictly: an unknown key, a missing
// value and a step out of order are errors that name their place.
func ParseProfile(text []byte) (Profile, error) {
	var p Profile
	if err := stricttoml.Decode(text, &p); err != nil {
		return Profile{}, fmt.Errorf("card profile: %w", err)
	}
	if err := p.check(); err != nil {
		return Profile{}, fmt.Errorf("card profile: %w", err)
	}
	return p, nil
}

// check enforces what the shape of the file cannot. What is missing is zero,
// and no zero value is right.
func (p Profile) check() error {
	x := p.ExternalAuth
	switch {
	case p.Format != 1 && p.Format != 2:
		return fmt.Errorf("format is %d, this version reads 1 and 2", p.Format)
	case p.Format == 1 && p.FirstUse != nil:
		return errors.New("first_use is of format 2")
	case p.Name == "":
		return errors.New("name is missing")
	case !p.Applications.JPKI.valid():
		return fmt.Errorf("applications.jpki has %d bytes, want 5 to 16", len(p.Applications.JPKI))
	case !p.Applications.CardSurface.valid():
		return fmt.Errorf("applications.card_surface has %d bytes, want 5 to 16", len(p.Applications.CardSurface))
	case p.Files.AuthenticationCertificate.SFI() == 0:
		return errors.New("files.authentication_certificate is missing or has no short EF identifier")
	case p.Files.TerminalCA == 0:
		return errors.New("files.terminal_ca is missing")
	case x.CertificateCount < 1 || x.CertificateCount > 4:
		return fmt.Errorf("external_auth.certificate_count is %d, want 1 to 4", x.CertificateCount)
	case x.ChallengeSize < 8 || x.ChallengeSize > 256:
		return fmt.Errorf("external_auth.challenge_size is %d bytes, want 8 to 256", x.ChallengeSize)
	}
	for _, c := range []struct {
		name   string
		header Header
	}{
		{"tap_use.sign.command", p.TapUse.Sign.Command},
		{"external_auth.get_challenge", x.GetChallenge},
		{"external_auth.certificate_body", x.CertificateBody},
		{"external_auth.certificate_signature", x.CertificateSignature},
		{"external_auth.authenticate.command", x.Authenticate.Command},
		{"external_auth.sign.command", x.Sign.Command},
	} {
		// ISO/IEC 7816-4:2020 §5.4.2: 6X and 9X are no instructions, and 00 is none here.
		if ins := c.header.ins; ins == 0 || ins>>4 == 6 || ins>>4 == 9 {
			return fmt.Errorf("%s is missing or its INS %02X is no instruction", c.name, ins)
		}
		// VERIFY and its kin (§11.5.6 to §11.5.10): what a profile fills in would
		// spend a person's tries at every tap.
		switch ins := c.header.ins &^ 1; ins {
		case 0x20, 0x24, 0x26, 0x28, 0x2C:
			return fmt.Errorf("%s: INS %02X takes a PIN", c.name, c.header.ins)
		}
	}
	for _, s := range []struct {
		name string
		sign Sign
	}{{"tap_use.sign", p.TapUse.Sign}, {"external_auth.sign", x.Sign}} {
		if s.sign.Input != DigestInfo && s.sign.Input != Digest {
			return fmt.Errorf("%s.input is %q, want %q or %q", s.name, s.sign.Input, DigestInfo, Digest)
		}
		if err := checkScheme(s.sign.Scheme, cardkey.PKCS1v15SHA256, cardkey.PSSSHA256, cardkey.ECDSAP384SHA384); err != nil {
			return fmt.Errorf("%s.scheme %w", s.name, err)
		}
		if s.sign.Input == DigestInfo && digestInfoPrefix[s.sign.Scheme.Hash()] == nil {
			return fmt.Errorf("%s.input is %q, which scheme %q does not have", s.name, DigestInfo, s.sign.Scheme)
		}
	}
	// The terminal's certificates are card-verifiable ones, which hold RSA keys.
	if err := checkScheme(x.Authenticate.Scheme, cardkey.PKCS1v15SHA256, cardkey.PSSSHA256); err != nil {
		return fmt.Errorf("external_auth.authenticate.scheme %w", err)
	}
	if f := p.FirstUse; f != nil {
		for _, file := range []struct {
			key string
			id  FileID
		}{{"signer_certificate", f.SignerCertificate}, {"birth_date", f.BirthDate}, {"age_record", f.AgeRecord}} {
			if file.id.SFI() == 0 {
				return fmt.Errorf("first_use.%s is missing or has no short EF identifier", file.key)
			}
		}
	}
	return checkOrder(x.Order)
}

func checkScheme(s cardkey.Scheme, known ...cardkey.Scheme) error {
	if !slices.Contains(known, s) {
		return fmt.Errorf("is %q, want one of %q", s, known)
	}
	return nil
}

// checkOrder wants each step once, the challenge before its answer, and the
// card's signature, which all the others are for, at the end.
func checkOrder(order []Step) error {
	all := []Step{StepTerminalCA, StepCertificates, StepChallenge, StepAuthenticate, StepSign}
	for _, s := range all {
		if n := countOf(order, s); n != 1 {
			return fmt.Errorf("external_auth.order has %q %d times, want once", s, n)
		}
	}
	if len(order) != len(all) {
		return fmt.Errorf("external_auth.order has an unknown step in %q", order)
	}
	if slices.Index(order, StepChallenge) > slices.Index(order, StepAuthenticate) {
		return fmt.Errorf("external_auth.order has %q before %q", StepAuthenticate, StepChallenge)
	}
	if order[len(order)-1] != StepSign {
		return fmt.Errorf("external_auth.order must end with %q", StepSign)
	}
	return nil
}

func countOf(order []Step, s Step) int {
	n := 0
	for _, have := range order {
		if have == s {
			n++
		}
	}
	return n
}
