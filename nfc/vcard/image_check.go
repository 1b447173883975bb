package vcard

import (
	"crypto/elliptic"
	"fmt"
	"slices"
)

// maxFileSize is what the 15-bit offset of READ BINARY reaches
// (ISO/IEC 7816-4:2020 §11.3.3).
const maxFileSize = 0x7FFF

// check refuses an image that no card could carry. The error names the member.
func (img *Image) check() error {
	if !slices.Contains(Kinds(), img.Kind) {
		return fmt.Errorf("card image: kind: unknown %q", img.Kind)
	}
	// ISO/IEC 7816-3:2006 §8.1: 2 to 33 characters, TS is 3B or 3F.
	if n := len(img.ATR); n < 2 || n > 33 || img.ATR[0] != 0x3B && img.ATR[0] != 0x3F {
		return fmt.Errorf("card image: atr: not an answer to reset")
	}
	if img.Answer != nil {
		// 9000 would be a lie, 61xx and 6Cxx a promise that nothing keeps.
		if n := len(img.Answer); n != 2 || img.Answer[0] < 0x62 || img.Answer[0] > 0x6F || img.Answer[0] == 0x6C {
			return fmt.Errorf("card image: answer: no status word of refusal")
		}
		if len(img.Applications) > 0 {
			return fmt.Errorf("card image: answer: there are applications to answer")
		}
	}
	for i := range img.Applications {
		if err := img.Applications[i].check(); err != nil {
			return fmt.Errorf("card image: applications[%d].%w", i, err)
		}
		if img.Application(img.Applications[i].AID) != &img.Applications[i] {
			return fmt.Errorf("card image: applications[%d].aid: used twice", i)
		}
	}
	return nil
}

func (a *Application) check() error {
	if n := len(a.AID); n < 5 || n > 16 {
		return fmt.Errorf("aid: %d bytes, want 5 to 16", n)
	}
	var ids []FileID
	var sfis [32]bool
	add := func(id FileID) error {
		// 3F00, 3FFF and 0000 are reserved (ISO/IEC 7816-4:2020 §7.3.2).
		if id == 0 || id == 0x3F00 || id == 0x3FFF || id == 0xFFFF {
			return fmt.Errorf("id: %v is reserved", id)
		}
		sfi := id.shortID()
		if slices.Contains(ids, id) || sfi != 0 && sfis[sfi] {
			return fmt.Errorf("id: %v, or its short identifier, is used twice", id)
		}
		ids = append(ids, id)
		sfis[sfi] = true
		return nil
	}
	// Conditions may name any PIN, or the terminal CA file.
	conditions := []FileID{efTerminalCA}
	for i, p := range a.PINs {
		if err := add(p.ID); err != nil {
			return fmt.Errorf("pins[%d].%w", i, err)
		}
		conditions = append(conditions, p.ID)
		switch {
		case p.Value == "" || len(p.Value) > 255:
			return fmt.Errorf("pins[%d].value: %d bytes, want 1 to 255", i, len(p.Value))
		case p.Limit < 0 || p.Limit > 15:
			return fmt.Errorf("pins[%d].limit: %d, want 0 to 15", i, p.Limit)
		case p.Left < 0 || p.Left > p.Limit:
			return fmt.Errorf("pins[%d].left: %d of %d", i, p.Left, p.Limit)
		}
	}
	known := func(ids []FileID) error {
		for _, id := range ids {
			if !slices.Contains(conditions, id) {
				return fmt.Errorf("%v is no PIN of this application", id)
			}
		}
		return nil
	}
	for i, f := range a.Files {
		if err := add(f.ID); err != nil {
			return fmt.Errorf("files[%d].%w", i, err)
		}
		if f.Size < len(f.Content) || f.Size > maxFileSize {
			return fmt.Errorf("files[%d].size: %d bytes for a content of %d, at most %d",
				i, f.Size, len(f.Content), maxFileSize)
		}
		if err := known(f.Read); err != nil {
			return fmt.Errorf("files[%d].read: %w", i, err)
		}
		if f.ID == efTerminalCA {
			if _, err := parseCVKey(f.Content); err != nil {
				return fmt.Errorf("files[%d].content: terminal CA: %w", i, err)
			}
		}
	}
	curves := []elliptic.Curve{elliptic.P384()}
	if isPIV(a.AID) {
		curves = append(curves, elliptic.P256())
	}
	for i, k := range a.Keys {
		if err := add(k.ID); err != nil {
			return fmt.Errorf("keys[%d].%w", i, err)
		}
		if err := k.Private.check(curves...); err != nil {
			return fmt.Errorf("keys[%d].private: %w", i, err)
		}
		if err := known(k.Use); err != nil {
			return fmt.Errorf("keys[%d].use: %w", i, err)
		}
	}
	if a.InternalKey != nil {
		if err := a.InternalKey.check(elliptic.P384()); err != nil {
			return fmt.Errorf("internal_key: %w", err)
		}
	}
	return nil
}
