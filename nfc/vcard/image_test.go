package vcard_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

func TestFixedImagesAreCanonical(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(cardDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	images := 0
	for _, file := range files {
		if strings.HasSuffix(file, "authority.json") {
			continue
		}
		images++
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		img, err := vcard.ParseImage(b)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if again, err := img.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: parse then encode gives other bytes (%v)", file, err)
		}
	}
	if images == 0 {
		t.Fatalf("no images in %s", cardDir)
	}
}

func TestBadImageIsRefusedByName(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(cardDir, "good.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, complaint string }{
		{`"kind"`, `"colour": "red", "kind"`, `"colour"`},
		{`v1"`, `v2"`, "format"},
		{`"kind": "card"`, `"kind": "stamp"`, "kind"},
		{`"atr": "3B`, `"atr": "4B`, "atr"},
		{`"aid": "D392F000260100000001"`, `"aid": "D392"`, "applications[0].aid"},
		{`"aid": "D392F000260100000001"`, `"aid": "D3921000310001010402"`, "applications[1].aid"},
		{`"aid": "D392F000260100000001"`, `"aid": "XY"`, "hexadecimal"},
		{`"id": "0008"`, `"id": "8"`, "file id"},
		{`"id": "0008"`, `"id": "0006"`, "applications[0].files[1].id"},
		{`"id": "0008"`, `"id": "0046"`, "applications[0].files[1].id"},
		{`"size": 3`, `"size": 2`, "applications[0].files[1].size"},
		{`"size": 3`, `"size": 32768`, "applications[0].files[1].size"},
		{`"content": "j48A"`, `"content": "!"`, "base64"},
		{`"value": "1234"`, `"value": ""`, "applications[0].pins[0].value"},
		{`"limit": 3`, `"limit": 16`, "applications[0].pins[0].limit"},
		{`"left": 3`, `"left": 4`, "applications[0].pins[0].left"},
		{`"0016"` + "\n          ]", `"0015"` + "\n          ]", "applications[0].keys[0].use"},
		{`"id": "0016"`, `"id": "0010"`, ""}, // 0016 may be missing: no terminal authentication
		{`"id": "0008"`, `"id": "0015"`, ""},
		{`"internal_key": "`, `"internal_key": "AAAA`, "private key"},
	} {
		bad := bytes.Replace(b, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(bad, b) {
			t.Fatalf("%s is not in the image", c.old)
		}
		_, err := vcard.ParseImage(bad)
		if c.complaint == "" {
			if err != nil {
				t.Errorf("%s: %v", c.new, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: error %v does not name %s", c.new, err, c.complaint)
		}
	}
	for _, c := range []struct{ answer, applications, complaint string }{
		{"6A81", "[]", ""},
		{"9000", "[]", "answer"},
		{"6100", "[]", "answer"},
		{"6C10", "[]", "answer"},
		{"6A8100", "[]", "answer"},
		{"", "[]", "answer"},
		{"6A81", `[{"aid": "0102030405"}]`, "answer"},
	} {
		text := `{"format": "gate-agent virtual card v1", "kind": "felica", "atr": "3B00", "answer": "` + c.answer + `", "applications": ` + c.applications + `}`
		if _, err := vcard.ParseImage([]byte(text)); (err == nil) != (c.complaint == "") || err != nil && !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("answer %q: %v", c.answer, err)
		}
	}
	if _, err := vcard.ParseImage(append(b, "{}"...)); err == nil {
		t.Error("a second JSON value is accepted")
	}
}

func TestImageErrorsTellNoSecret(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(cardDir, "good.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = vcard.ParseImage(bytes.Replace(b, []byte(`"left": 3`), []byte(`"left": 4`), 1))
	if err == nil || strings.Contains(err.Error(), "1234") {
		t.Errorf("error %v", err)
	}
}

func TestIncompleteImageIsRefusedByNew(t *testing.T) {
	if _, err := vcard.New(&vcard.Image{}, vcard.Options{}); err == nil {
		t.Error("an empty image became a card")
	}
	img := image(t, "good.json")
	img.Application(vcard.AIDJPKI()).Keys[0].Private = nil
	if _, err := vcard.New(img, vcard.Options{}); err == nil {
		t.Error("a key without a key became a card")
	}
}

// FuzzParseImage: what parses encodes, parses again to the same bytes, and makes
// a card.
func FuzzParseImage(f *testing.F) {
	b, err := os.ReadFile(filepath.Join(cardDir, "sim.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format": "gate-agent virtual card v1", "kind": "card", "atr": "3B00", "applications": [{"aid": "0102030405"}]}`))
	f.Add([]byte(`{"format": "gate-agent virtual card v1", "kind": "felica", "atr": "3B00", "answer": "6A81"}`))
	f.Add([]byte(`{"format": "gate-agent virtual card v1", "kind": "sim", "atr": "3B00", "applications": [{"aid": "0102030405", "keys": [{"id": "0017", "private": null}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := vcard.ParseImage(b)
		if err != nil {
			return
		}
		encoded, err := img.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := vcard.ParseImage(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("encoding changed: %v", err)
		}
		if _, err := vcard.New(img, vcard.Options{}); err != nil {
			t.Fatal(err)
		}
		_, _, _ = img.AuthenticationCertificate(), img.AuthenticationKey(), img.CardKey()
	})
}
