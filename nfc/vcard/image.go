package vcard

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// imageFormat is the first member of every image file.
const imageFormat = "gate-agent virtual card v1"

// Kind says which thing a holder puts on the reader. The card's behaviour
// follows from its files and access conditions alone; the kind is for people.
type Kind string

// The kinds of card-facts §1, §7 and §9, and what else people hold to a reader.
const (
	KindCard           Kind = "card"            // plastic My Number card
	KindNextGeneration Kind = "next-generation" // My Number card of the next generation, as a draft
	KindJuki           Kind = "juki"            // 住基カード, the resident registration card before it
	KindPhoneAndroid   Kind = "phone-android"   // secure element of an Android phone
	KindPhoneIPhone    Kind = "phone-iphone"    // secure element of an iPhone
	KindSIM            Kind = "sim"             // SIM with the JPKI applet (2016 trial)

	KindEMV      Kind = "emv"             // payment card
	KindLicence  Kind = "driving-licence" // 運転免許証
	KindPassport Kind = "passport"        // travel document of ICAO Doc 9303
	KindForeign  Kind = "foreign"         // any other smart card

	KindFeliCa     Kind = "felica"            // FeliCa, such as Suica
	KindClassic    Kind = "mifare-classic"    // MIFARE Classic 1K
	KindUltralight Kind = "mifare-ultralight" // MIFARE Ultralight
)

// Kinds are all kinds, in the order above.
func Kinds() []Kind {
	return []Kind{
		KindCard, KindNextGeneration, KindJuki, KindPhoneAndroid, KindPhoneIPhone, KindSIM,
		KindEMV, KindLicence, KindPassport, KindForeign, KindFeliCa, KindClassic, KindUltralight,
	}
}

// Image is everything that is personalised into a card. In a file it is JSON:
// identifiers are hexadecimal, contents and keys (PKCS #8) are base64.
type Image struct {
	Kind         Kind
	ATR          Hex
	Applications []Application

	// Answer is the status word that every command gets from a medium without
	// applications: a smart card that knows nothing of ours, or a storage medium,
	// for which the reader answers. Nil: commands are executed.
	Answer Hex
}

// Application is one DF with its EFs.
type Application struct {
	AID   Hex    `json:"aid"` // DF name, 5 to 16 bytes; A000000308… is PIV, whose identifiers piv.go has
	Files []File `json:"files"`
	PINs  []PIN  `json:"pins"`
	Keys  []Key  `json:"keys"`

	// InternalKey signs in INTERNAL AUTHENTICATE style (80 2A 00 00) and needs
	// no PIN: the card's own key in the card-surface AP (card-facts §4).
	InternalKey *PrivateKey `json:"internal_key,omitempty"`
}

// File is a transparent EF.
type File struct {
	ID      FileID   `json:"id"`
	Content []byte   `json:"content"`
	Size    int      `json:"size"`           // bytes; filler FF stands behind Content
	Read    []FileID `json:"read,omitempty"` // any one of these conditions opens it; none: free
}

// PIN is a reference value and its tries.
type PIN struct {
	ID    FileID `json:"id"`
	Value string `json:"value"`
	Limit int    `json:"limit"` // tries after a success, at most 15; 0: unlimited
	Left  int    `json:"left"`  // tries left now; 0 with a limit: blocked
}

// Key is a private key EF. A condition in Use is met by verifying that PIN, or,
// for the terminal CA file 0016, by EXTERNAL AUTHENTICATE.
type Key struct {
	ID      FileID      `json:"id"`
	Private *PrivateKey `json:"private"`
	Use     []FileID    `json:"use,omitempty"` // any one suffices; none: free
}

// File identifiers that have a meaning to the card or to this package
// (card-facts §2, §4).
const (
	efTerminalCA = 0x0016 // key id (16) ‖ public key (265): our model of the terminal CA reference
	efAuthCert   = 0x000A
	efAuthKey    = 0x0017
)

var (
	aidJPKI    = []byte{0xD3, 0x92, 0xF0, 0x00, 0x26, 0x01, 0x00, 0x00, 0x00, 0x01}
	aidSurface = []byte{0xD3, 0x92, 0x10, 0x00, 0x31, 0x00, 0x01, 0x01, 0x04, 0x02}
)

// AIDJPKI returns the DF name of the JPKI-AP (card-facts §1).
func AIDJPKI() []byte { return bytes.Clone(aidJPKI) }

// AIDSurface returns the DF name of the card-surface AP (card-facts §1).
func AIDSurface() []byte { return bytes.Clone(aidSurface) }

// FileID is a file identifier (ISO/IEC 7816-4:2020 §7.3.2). Its low five bits
// are the short EF identifier, unless they are all zeros or all ones.
type FileID uint16

func (id FileID) String() string { return fmt.Sprintf("%04X", uint16(id)) }

func (id FileID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

func (id *FileID) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 16)
	if err != nil || len(text) != 4 {
		return fmt.Errorf("file id %q: want four hexadecimal digits", text)
	}
	*id = FileID(n)
	return nil
}

// shortID returns the short EF identifier, or 0 where the file has none.
func (id FileID) shortID() byte {
	if sfi := byte(id) & 0x1F; sfi != 0x1F {
		return sfi
	}
	return 0
}

// Hex is a byte string that is hexadecimal in JSON.
type Hex []byte

func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%X", []byte(h)), nil }

func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("hexadecimal value: %w", err)
	}
	*h = b
	return nil
}

// imageFile is the JSON form.
type imageFile struct {
	Format       string        `json:"format"`
	Kind         Kind          `json:"kind"`
	ATR          Hex           `json:"atr"`
	Answer       Hex           `json:"answer,omitempty"`
	Applications []Application `json:"applications"`
}

// ParseImage reads an image file. It refuses unknown members, a second JSON
// value and any image that a card could not carry.
func ParseImage(b []byte) (*Image, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f imageFile
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("card image: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("card image: data after the JSON value")
	}
	if f.Format != imageFormat {
		return nil, fmt.Errorf("card image: format is %q, want %q", f.Format, imageFormat)
	}
	img := &Image{Kind: f.Kind, ATR: f.ATR, Applications: f.Applications, Answer: f.Answer}
	if err := img.check(); err != nil {
		return nil, err
	}
	return img, nil
}

// Encode gives the JSON form that ParseImage reads, ending in a newline.
func (img *Image) Encode() ([]byte, error) {
	if err := img.check(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(imageFile{imageFormat, img.Kind, img.ATR, img.Answer, img.Applications}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("card image: %w", err)
	}
	return append(b, '\n'), nil
}

// Application returns the application of that name, nil when there is none.
func (img *Image) Application(aid []byte) *Application {
	for i := range img.Applications {
		if bytes.Equal(img.Applications[i].AID, aid) {
			return &img.Applications[i]
		}
	}
	return nil
}

// File returns the transparent EF of that identifier, nil when there is none.
func (a *Application) File(id FileID) *File {
	if a == nil {
		return nil
	}
	for i := range a.Files {
		if a.Files[i].ID == id {
			return &a.Files[i]
		}
	}
	return nil
}

// AuthenticationCertificate returns the DER of the user-authentication
// certificate (EF 000A) without filler, nil when the image has none.
func (img *Image) AuthenticationCertificate() []byte {
	f := img.Application(aidJPKI).File(efAuthCert)
	if f == nil {
		return nil
	}
	var der asn1.RawValue
	if _, err := asn1.Unmarshal(f.Content, &der); err != nil {
		return nil
	}
	return bytes.Clone(der.FullBytes)
}

// AuthenticationKey returns the public half of the key that signs for EF 0017,
// nil when the image has none. On an honest card it is the certificate's key.
func (img *Image) AuthenticationKey() crypto.PublicKey {
	app := img.Application(aidJPKI)
	if app == nil {
		return nil
	}
	for _, k := range app.Keys {
		if k.ID == efAuthKey {
			return k.Private.public()
		}
	}
	return nil
}

// CardKey returns the public half of the card-surface key, nil when the image
// has none.
func (img *Image) CardKey() crypto.PublicKey {
	app := img.Application(aidSurface)
	if app == nil {
		return nil
	}
	return app.InternalKey.public()
}
