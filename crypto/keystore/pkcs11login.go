package keystore

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// login logs the session in (C_Login), unless the token wants no login, or the
// URI names no pin-source, or this process is logged in already: a login is one
// for all sessions of a process with a token. user is CKU_USER, or
// CKU_CONTEXT_SPECIFIC for a key that wants the PIN for each signature.
//
// The flags of the token are read before each PIN (§3.2, CK_TOKEN_INFO): a PIN
// that may be wrong is not sent where others were wrong before, unless a person has
// said so (RetryPIN); but nobody spends the last try here, as with cards that are
// spoken to directly: a locked token is a terminal that needs a visit. An error that says nothing of the
// PIN is not held against it; the flags tell next time whether it cost a try.
func (s *p11Session) login(user uint) error {
	if user == pkcs11.CKU_USER {
		if s.info.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0 {
			return nil
		}
		in, err := s.userIn()
		if err != nil {
			return err
		}
		if in {
			s.loggedIn = true
			return nil
		}
	}
	if s.pins.path == "" {
		return nil // whatever wants a login says so
	}
	if s.info.Flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0 {
		return fmt.Errorf("%w: %s takes its PIN from keys of its own, where nobody is to press them", ErrCannot, s.name())
	}
	state, err := s.pinState()
	if err != nil {
		return err
	}
	if last := state.Known && state.Left == 1; state.Locked || last || state.NotSent && !s.pins.mayTry() {
		return state
	}
	pin, err := s.pins.read(s.name())
	if err != nil {
		return err
	}
	defer clear(pin)
	token := s.info.SerialNumber + "\x00" + s.info.Label
	if s.mod.calledWrong(token, pin) {
		return &PINError{Medium: s.name(), NotSent: true}
	}
	// The binding wants a string, and copies it for C: two copies of the PIN
	// that nothing can clear, for as long as their memory is not used again.
	err = s.c.Login(s.sh, user, string(pin))
	switch {
	case err == nil, is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		s.mod.called(token, pin, true)
		s.loggedIn = true
		return nil
	case is(err, pkcs11.CKR_PIN_LOCKED):
		return &PINError{Medium: s.name(), Locked: true}
	case is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE):
		s.mod.called(token, pin, false)
		s.pins.called(pin)
		state, err := s.pinState()
		if err != nil {
			return errors.Join(&PINError{Medium: s.name()}, err)
		}
		state.NotSent = false
		return state
	case is(err, pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		return fmt.Errorf("%s has no user PIN yet: set one with the tool of whoever issued it: %w", s.name(), err)
	case is(err, pkcs11.CKR_PIN_EXPIRED):
		return fmt.Errorf("%s wants another PIN before it works: change it with the tool of whoever issued it: %w", s.name(), err)
	case is(err, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN):
		return fmt.Errorf("this process is logged in to %s as its security officer: %w", s.name(), err)
	}
	return p11Error("logging in", err)
}

// expected looks before the PIN is sent whether this is the right card: all JPKI
// cards have one label and one serial number, and one of a visitor in the reader of
// the terminal's own would lose a try. What shows the public half of the key that u
// names by its id tells them apart; a token that shows none there is trusted.
func (s *p11Session) expected(u URI) error {
	if s.pins.key == nil || u.id() == nil {
		return nil
	}
	shown := false
	for _, class := range publicClasses {
		all, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, u.id()))
		if err != nil {
			return err
		}
		for _, o := range all {
			public, err := s.shownBy(class, o)
			if errors.Is(err, ErrAbsent) {
				return err
			}
			if err == nil && equal(s.pins.key, public) {
				return nil
			}
			shown = shown || err == nil
		}
	}
	if shown {
		return fmt.Errorf("%w: the PIN was not sent to %s", ErrWrongKey, s.name())
	}
	return nil
}

// pinState is what the flags of the token say of its user PIN: Locked, or
// NotSent when the last one was wrong.
func (s *p11Session) pinState() (*PINError, error) {
	info, err := s.c.GetTokenInfo(s.slot)
	if err != nil {
		return nil, p11Error("reading the token's flags", err)
	}
	e := &PINError{Medium: s.name()}
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		e.Locked = true
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		e.NotSent, e.Left, e.Known = true, 1, true
	case info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		e.NotSent = true
	}
	return e, nil
}

// userIn reports whether this process is logged in to the token as its user.
func (s *p11Session) userIn() (bool, error) {
	info, err := s.c.GetSessionInfo(s.sh)
	if err != nil {
		return false, p11Error("asking for the session", err)
	}
	return info.State == pkcs11.CKS_RO_USER_FUNCTIONS || info.State == pkcs11.CKS_RW_USER_FUNCTIONS, nil
}

// noLogin explains why nothing private is found, when that is the reason.
func (s *p11Session) noLogin() string {
	if s.info.Flags&pkcs11.CKF_LOGIN_REQUIRED != 0 && !s.loggedIn {
		return "; private keys show after a login: name the file of the PIN in ?pin-source="
	}
	return ""
}
