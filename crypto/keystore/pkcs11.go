package keystore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// pkcs11Medium keeps keys in tokens that a PKCS #11 module reaches (OASIS PKCS #11
// v2.40): an HSM, a card in a reader, SoftHSM.
type pkcs11Medium struct{ modules *p11Modules }

// p11Modules are the modules that a Store has loaded, by their path. A module has
// one state in a process, whoever uses it (C_Initialize), so the keys of a Store
// share it. Two stores in a process may restart a module under each other; their
// keys are opened anew by Check.
type p11Modules struct {
	mu     sync.Mutex
	loaded map[string]*p11Module
}

// A p11Module is a loaded module. Opening is one after the other: two keys on one
// token would log in at the same time otherwise, and a wrong PIN would cost two
// tries.
type p11Module struct {
	path string
	c    *pkcs11.Ctx

	sessions atomic.Int32 // open ones: while there are any the module is not restarted
	failures atomic.Int32 // of tokens that were there, while it could not be restarted

	turn turn // taken while a session is opened; guards ours
	ours bool // C_Initialize was ours, so C_Finalize is

	mu    sync.Mutex
	wrong map[tokenPIN]bool // called so since the last right one. Not every token has a flag for it
}

// A tokenPIN is a PIN that was sent to a token.
type tokenPIN struct {
	token string
	pin   [sha256.Size]byte // digest
}

// calledWrong reports whether a token has called this PIN wrong.
func (m *p11Module) calledWrong(token string, pin []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wrong[tokenPIN{token, sha256.Sum256(pin)}]
}

// called remembers what a token has called a PIN.
func (m *p11Module) called(token string, pin []byte, right bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if right {
		maps.DeleteFunc(m.wrong, func(w tokenPIN, _ bool) bool { return w.token == token })
		return
	}
	m.wrong[tokenPIN{token, sha256.Sum256(pin)}] = true
}

// module loads the module that u names. It is never unloaded: its threads and exit
// handlers would run into nothing.
func (m *p11Modules) module(u URI) (*p11Module, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := u.Get("module-path")
	if mod := m.loaded[path]; mod != nil {
		return mod, nil
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: PKCS #11 module: %w", ErrAbsent, err)
	}
	c := pkcs11.New(path)
	if c == nil {
		return nil, fmt.Errorf("%w: %s does not load: it is no PKCS #11 module, or for another processor, or lacks a library (see ldd)", ErrAbsent, path)
	}
	mod := &p11Module{path: path, c: c, turn: make(turn, 1), wrong: make(map[tokenPIN]bool)}
	if m.loaded == nil {
		m.loaded = make(map[string]*p11Module)
	}
	m.loaded[path] = mod
	return mod, nil
}

// close finalizes the modules. One with sessions is left alone: somebody is
// inside it.
func (m *p11Modules) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for path, mod := range m.loaded {
		ctx, cancel := context.WithTimeoutCause(context.Background(), signTimeout, errSlow)
		err := mod.turn.use(ctx, func(context.Context) error {
			if n := mod.sessions.Load(); n > 0 {
				return fmt.Errorf("%d sessions are open", n)
			}
			return mod.finalize()
		})
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("letting PKCS #11 module %s go: %w", path, err))
			continue
		}
		delete(m.loaded, path)
	}
	return errors.Join(errs...)
}

func (m *p11Module) initialize() error {
	err := m.c.Initialize()
	if is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) { // by us, or by somebody else in this process
		return nil
	}
	if err != nil {
		return p11Error("starting the module", err)
	}
	m.ours = true
	return nil
}

func (m *p11Module) finalize() error {
	if !m.ours {
		return nil
	}
	if err := m.c.Finalize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		return p11Error("finalizing the module", err)
	}
	m.ours = false
	return nil
}

// session opens a session with the token of u, logged in when u has a
// pin-source, and calls f with it, which says whether to keep it open. flags are
// CKF_RW_SESSION for what writes.
//
// Some modules have to be restarted before they see again. OpenSC 0.23 keeps in
// mind what it has selected on a card; when a card comes back so fast that pcscd
// has not looked, each login fails, for ever. SoftHSM looks for tokens when it is
// initialized, then never again. So when the token is not there and nobody is
// inside the module, it is restarted and asked once more. When the token is there
// and fails, whoever is inside is asked to come out, by alive.
func (m pkcs11Medium) session(ctx context.Context, u URI, flags uint, pins *pinSource, f func(*p11Session) (keep bool, err error)) error {
	mod, err := m.modules.module(u)
	if err != nil {
		return err
	}
	if err := mod.turn.take(ctx); err != nil {
		return err
	}
	defer mod.turn.leave()
	err = mod.session(u, flags, pins, f)
	switch {
	case !errors.Is(err, ErrAbsent) || !mod.ours:
	case mod.sessions.Load() == 0:
		if err := mod.finalize(); err != nil {
			return err
		}
		err = mod.session(u, flags, pins, f)
	case !errors.Is(err, errNoToken):
		mod.failures.Add(1)
	}
	return err
}

func (m *p11Module) session(u URI, flags uint, pins *pinSource, f func(*p11Session) (keep bool, err error)) (err error) {
	if err := m.initialize(); err != nil {
		return err
	}
	s := &p11Session{mod: m, c: m.c, pins: pins, failures: m.failures.Load()}
	if s.slot, s.info, err = m.token(u); err != nil {
		return err
	}
	if s.sh, err = m.c.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION|flags); err != nil {
		return p11Error("opening a session", err)
	}
	m.sessions.Add(1)
	if err = s.expected(u); err == nil {
		err = s.login(pkcs11.CKU_USER)
	}
	if err == nil {
		s.mechanisms, err = m.mechanisms(s.slot)
	}
	keep := false
	if err == nil {
		keep, err = f(s)
	}
	if err != nil || !keep {
		return errors.Join(err, s.close())
	}
	return nil
}

// errNoToken says that the module shows no such token.
var errNoToken = fmt.Errorf("%w: no such token", ErrAbsent)

// token finds the slot of the token that u names.
func (m *p11Module) token(u URI) (slot uint, info pkcs11.TokenInfo, err error) {
	slots, err := m.c.GetSlotList(true)
	for range 3 { // a token that comes while they are counted
		if is(err, pkcs11.CKR_BUFFER_TOO_SMALL) {
			slots, err = m.c.GetSlotList(true)
		}
	}
	if err != nil {
		return 0, info, p11Error("listing tokens", err)
	}
	var fit []string
	var unread []error
	for _, id := range slots {
		t, err := m.c.GetTokenInfo(id)
		if err != nil { // such as a card that the module does not know
			unread = append(unread, p11Error("reading a token", err))
			continue
		}
		where, err := m.c.GetSlotInfo(id)
		if err != nil {
			unread = append(unread, p11Error("reading a slot", err))
			continue
		}
		if fits(u, "token", t.Label) && fits(u, "serial", t.SerialNumber) && fits(u, "slot-description", where.SlotDescription) {
			fit = append(fit, fmt.Sprintf("token=%s;serial=%s;slot-description=%s", unpad(t.Label), unpad(t.SerialNumber), unpad(where.SlotDescription)))
			slot, info = id, t
		}
	}
	switch len(fit) {
	case 1:
		return slot, info, nil
	case 0:
		return 0, info, errors.Join(append([]error{fmt.Errorf("%w among the %d that the module shows", errNoToken, len(slots))}, unread...)...)
	}
	slices.Sort(fit)
	return 0, info, fmt.Errorf("%w: %d tokens are like that; say more of the one that is meant: %s", ErrAmbiguous, len(fit), strings.Join(fit, ", "))
}

// fits reports whether a value of a token is the one that u asks for, if it asks.
func fits(u URI, attribute, value string) bool {
	want := u.Get(attribute)
	return want == "" || unpad(want) == unpad(value)
}

// unpad removes what fills a field up: blanks (§3.2), with some tokens zeros.
func unpad(s string) string { return strings.TrimRight(s, " \x00") }

func (m *p11Module) mechanisms(slot uint) ([]uint, error) {
	list, err := m.c.GetMechanismList(slot)
	if err != nil {
		return nil, p11Error("listing mechanisms", err)
	}
	var all []uint
	for _, mechanism := range list {
		all = append(all, mechanism.Mechanism)
	}
	return all, nil
}

// absentCodes are the return values that mean that the token or the module is
// not there any more, and may come back. With the last two modules report what
// they have no name for: mostly a daemon or a reader that is gone.
var absentCodes = [...]pkcs11.Error{
	pkcs11.CKR_SLOT_ID_INVALID,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
	pkcs11.CKR_TOKEN_NOT_PRESENT,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
	pkcs11.CKR_DEVICE_ERROR,
	pkcs11.CKR_DEVICE_REMOVED,
	pkcs11.CKR_SESSION_CLOSED,
	pkcs11.CKR_SESSION_HANDLE_INVALID,
	pkcs11.CKR_USER_NOT_LOGGED_IN, // it was when the session was opened
	pkcs11.CKR_GENERAL_ERROR,
	pkcs11.CKR_FUNCTION_FAILED,
}

// p11Error wraps an error of a module.
func p11Error(doing string, err error) error {
	if is(err, absentCodes[:]...) {
		return fmt.Errorf("%w: %s: %w", ErrAbsent, doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// is reports whether a module returned one of these values.
func is(err error, codes ...pkcs11.Error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	return ok && slices.Contains(codes, code)
}

// A p11Session is a session with a token, for one goroutine at a time.
type p11Session struct {
	mod        *p11Module
	c          *pkcs11.Ctx
	sh         pkcs11.SessionHandle
	slot       uint
	info       pkcs11.TokenInfo
	mechanisms []uint
	pins       *pinSource
	loggedIn   bool
	failures   int32 // of the module, when this began
}

// name is what people call the token.
func (s *p11Session) name() string { return fmt.Sprintf("token %q", unpad(s.info.Label)) }

// can reports whether the token has a mechanism.
func (s *p11Session) can(mechanism uint) bool { return slices.Contains(s.mechanisms, mechanism) }

// alive asks for what costs nothing: whether the same token is in the slot, and
// whether the session is still logged in. OpenSC looks into the reader for the
// first question only (C_GetSlotInfo), once a second.
func (s *p11Session) alive(context.Context) error {
	if s.mod.failures.Load() != s.failures {
		return fmt.Errorf("%w: the module fails another key, and has to be restarted", ErrAbsent)
	}
	slot, err := s.c.GetSlotInfo(s.slot)
	if err != nil {
		return p11Error("looking into the slot", err)
	}
	if slot.Flags&pkcs11.CKF_TOKEN_PRESENT == 0 {
		return fmt.Errorf("%w: the slot is empty", ErrAbsent)
	}
	info, err := s.c.GetTokenInfo(s.slot)
	if err != nil {
		return p11Error("looking for the token", err)
	}
	if info.Label != s.info.Label || info.SerialNumber != s.info.SerialNumber {
		return fmt.Errorf("%w: another token is in the slot", ErrAbsent)
	}
	in, err := s.userIn()
	if err != nil {
		return err
	}
	if s.loggedIn && !in {
		return fmt.Errorf("%w: the token was away: it has forgotten the login", ErrAbsent)
	}
	return nil
}

func (s *p11Session) close() error {
	defer s.mod.sessions.Add(-1)
	if err := s.c.CloseSession(s.sh); err != nil && !is(err, absentCodes[:]...) { // else it is closed
		return p11Error("closing the session", err)
	}
	return nil
}

// Format, as for Key.
func (s *p11Session) Format(f fmt.State, _ rune) { io.WriteString(f, "keystore: PKCS #11 session") }
