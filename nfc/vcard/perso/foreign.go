package perso

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// Foreign makes what people hold to a reader beside JPKI cards: smart cards with
// other applications, which answer ours with 6A82, and media that answer every
// command with one word. Nothing in them is personal, and nothing of ours is.
//
// Which status word a reader gives for a storage medium that is sent a command
// of ISO/IEC 7816 is not documented; those here are the words that are documented
// for their own commands. Change Answer to try another.
func Foreign(kind vcard.Kind) (*vcard.Image, error) {
	img := &vcard.Image{Kind: kind, ATR: bytes.Clone(atr)}
	df := func(aid string, files ...vcard.File) {
		img.Applications = append(img.Applications, vcard.Application{AID: unhex(aid), Files: files})
	}
	switch kind {
	case vcard.KindEMV: // PPSE and a credit application (EMV Contactless Book B)
		img.ATR = unhex("3B8E800180318066B1840C016E01830090001C") // of a card seen in public
		df(fmt.Sprintf("%X", "2PAY.SYS.DDF01"))
		df("A0000000031010")
	case vcard.KindLicence:
		// The three DFs of the National Police Agency's specification. Its PINs are
		// in the master file, which our card has not: here one is in the first DF.
		df("A0000002310100000000000000000000", vcard.File{ID: 0x0001, Size: 880, Read: []vcard.FileID{0x001D}})
		img.Applications[0].PINs = []vcard.PIN{{ID: 0x001D, Value: "1234", Limit: 3, Left: 3}}
		df("A0000002310200000000000000000000")
		df("A0000002480300000000000000000000")
	case vcard.KindPassport: // LDS1 (ICAO Doc 9303-10), whose files nobody of ours can open
		img.ATR = unhex("3B80800101")
		df("A0000002471001")
	case vcard.KindForeign: // it takes no command of class 00
		img.Answer = unhex("6E00")
	case vcard.KindFeliCa:
		img.ATR, img.Answer = storageATR(0x11, 0x003B), unhex("6A81")
	case vcard.KindClassic:
		img.ATR, img.Answer = storageATR(0x03, 0x0001), unhex("6300")
	case vcard.KindUltralight:
		img.ATR, img.Answer = storageATR(0x03, 0x0003), unhex("6D00")
	default:
		return nil, fmt.Errorf("a %s is no foreign medium", kind)
	}
	return img, nil
}

// storageATR is what PC/SC part 3 §3.1.3.2.3.1 makes of a storage medium: the
// RID of the PC/SC workgroup, the standard and the card's name.
func storageATR(standard byte, name uint16) vcard.Hex {
	b := []byte{0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06,
		standard, byte(name >> 8), byte(name), 0x00, 0x00, 0x00, 0x00}
	var tck byte
	for _, c := range b[1:] {
		tck ^= c
	}
	return append(b, tck)
}

// unhex decodes a constant of this package.
func unhex(s string) vcard.Hex {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
