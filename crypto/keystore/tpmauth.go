package keystore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// What a TPM answers is one of its response codes (TPM 2.0 Library, part 2, §6.6),
// which go-tpm names in the TPM's words. Those that somebody acts on are made
// ours here, and at the command where they have a meaning of their own.

// owner says what an answer to a command with the owner's authorization means.
func owner(command string, err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return fmt.Errorf("%s: the TPM's owner hierarchy has an auth value, and this program uses an empty one: have whoever set it make the key (%w)", command, err)
	case errors.Is(err, tpm2.TPMRCHierarchy):
		return fmt.Errorf("%s: the TPM's owner hierarchy is switched off, see the firmware's settings (%w)", command, err)
	case errors.Is(err, tpm2.TPMRCNVDefined):
		return fmt.Errorf("%s: %w", command, ErrExists)
	case errors.Is(err, tpm2.TPMRCNVSpace):
		return fmt.Errorf("%s: the TPM has no room for another persistent object (%w)", command, err)
	}
	return fmt.Errorf("%s: %w", command, err)
}

// A dictionary is what a TPM says of its defence against guessing (part 1, §19.8):
// one counter for all objects that are not noDA.
type dictionary struct {
	tries    int  // failures that count
	most     int  // so many lock the TPM
	mayReset bool // the lockout hierarchy has an empty auth value
}

func (d dictionary) locked() bool { return d.tries >= d.most }

func (d dictionary) left() int { return max(d.most-d.tries, 0) }

func readDictionary(t transport.TPM) (dictionary, error) {
	get := func(p tpm2.TPMPT) (uint32, error) {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1}.Execute(t)
		if err != nil {
			return 0, fmt.Errorf("TPM2_GetCapability: %w", err)
		}
		list, err := rsp.CapabilityData.Data.TPMProperties()
		if err != nil || len(list.TPMProperty) != 1 || list.TPMProperty[0].Property != p {
			return 0, fmt.Errorf("TPM2_GetCapability: the TPM does not tell property %#x", uint32(p))
		}
		return list.TPMProperty[0].Value, nil
	}
	tries, err1 := get(tpm2.TPMPTLockoutCounter)
	most, err2 := get(tpm2.TPMPTMaxAuthFail)
	permanent, err3 := get(tpm2.TPMPTPermanent)
	const lockoutAuthSet = 1 << 2 // TPMA_PERMANENT (part 2, §8.6)
	return dictionary{int(tries), int(most), permanent&lockoutAuthSet == 0}, errors.Join(err1, err2, err3)
}

// A tpmAuth is the auth value of an object, and what is known of it.
type tpmAuth struct {
	medium string // for people
	value  []byte // nil: empty
	noDA   bool   // nobody counts the failures
	pins   *pinSource
	tries  int // that the TPM has counted before
}

// authOf reads the auth value of an object from its pin-source, and looks first
// whether the TPM may see it: a *PINError otherwise. An object that the TPM counts
// failures for has an auth value to all appearances, so what is missing counts as
// an empty one.
func authOf(t transport.TPM, o *tpmObject, u URI, pins *pinSource) (*tpmAuth, error) {
	a := &tpmAuth{medium: "the TPM at " + u.Get("device"), noDA: o.area.ObjectAttributes.NoDA, pins: pins}
	var err error
	if a.value, err = pins.auth(a.medium); err != nil {
		return nil, err
	}
	if a.value == nil && pins.refused {
		return nil, &PINError{Medium: a.medium, NotSent: true}
	}
	if a.noDA {
		return a, nil
	}
	d, err := readDictionary(t)
	switch {
	case err != nil:
	case d.locked():
		err = &PINError{Medium: a.medium, Locked: true}
	case d.tries > 0 && !pins.mayTry(d.left(), true):
		err = &PINError{Medium: a.medium, NotSent: true, Left: d.left(), Known: true}
	}
	if err != nil {
		a.forget()
		return nil, err
	}
	a.tries = d.tries
	return a, nil
}

// auth is read, for an auth value: 1 to 32 bytes without a zero, of which a TPM
// drops trailing ones and go-tpm drops what follows the first.
func (p *pinSource) auth(medium string) ([]byte, error) {
	value, err := p.read(medium)
	if err != nil {
		return nil, err
	}
	if len(value) > 32 || bytes.IndexByte(value, 0) >= 0 {
		clear(value)
		return nil, fmt.Errorf("%w: the auth value of a TPM's object has 1 to 32 bytes, and no zero byte", ErrKeySource)
	}
	return value, nil
}

// doubtful reports whether the auth value wants trying when its object is opened:
// it should fail then, not in front of somebody who waits.
func (a *tpmAuth) doubtful() bool { return a.value != nil || !a.noDA }

// accepted is for when the TPM has taken the auth value. A right one does not
// clear the TPM's counter; whoever corrected the pin-source (Store.RetryPIN) would
// find the key closed at the next start, for hours. So it is cleared, where the
// lockout hierarchy is as open as the owner's.
func (a *tpmAuth) accepted(t transport.TPM) error {
	if a.noDA || a.tries == 0 {
		return nil
	}
	d, err := readDictionary(t)
	if err != nil || !d.mayReset {
		return err
	}
	// go-tpm has no TPM2_DictionaryAttackLockReset (part 3, §25.2).
	rsp, err := t.Send([]byte{
		0x80, 0x02, 0, 0, 0, 27, 0, 0, 0x01, 0x39, // with sessions, size, command
		0x40, 0, 0, 0x0A, // TPM_RH_LOCKOUT
		0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // an empty password
	})
	if err != nil {
		return err
	}
	if len(rsp) < 10 {
		return errors.New("TPM2_DictionaryAttackLockReset: answer cut short")
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(rsp[6:])); rc != tpm2.TPMRCSuccess {
		return fmt.Errorf("TPM2_DictionaryAttackLockReset: %w", rc)
	}
	a.tries = 0
	return nil
}

// failed says what an answer to a command with the auth value means.
func (a *tpmAuth) failed(t transport.TPM, command string, err error) error {
	wrong := &PINError{Medium: a.medium}
	switch {
	case errors.Is(err, tpm2.TPMRCLockout):
		return &PINError{Medium: a.medium, Locked: true}
	case errors.Is(err, tpm2.TPMRCAuthFail):
		if d, err := readDictionary(t); err == nil {
			wrong.Left, wrong.Known, wrong.Locked = d.left(), true, d.locked()
		}
	case errors.Is(err, tpm2.TPMRCBadAuth):
	default:
		return fmt.Errorf("%s: %w", command, err)
	}
	a.pins.called(a.value)
	if a.value == nil {
		return fmt.Errorf("%s: the object has an auth value, and the URI names no pin-source: %w", command, wrong)
	}
	return wrong
}

func (a *tpmAuth) forget() { clear(a.value) }
