package registry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// identityKey is the public half of one of many keys.
func identityKey(t testing.TB, n byte) []byte {
	t.Helper()
	public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)).Public()
	spki, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	return spki
}

var (
	theSecret   = []byte("sixteen bytes of")
	theDelivery = []byte("a delivery key")
)

func issue(t testing.TB, r *Registry, e Enrolment) {
	t.Helper()
	if e.Expires.IsZero() {
		e.Expires = at.Add(time.Hour)
	}
	must(t, r.IssueToken(t.Context(), by("asked for"), hall, e, sha256.Sum256(theSecret)))
}

func TestTokenWorksForOneTerminalAndItsKeysAlone(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		addScope(t, r, "other hall", venue)
		issue(t, r, Enrolment{Name: "gate-1"})
		enrol := func(scope, name string, secret []byte, key byte) error {
			_, err := r.EnrolTerminal(t.Context(), by("enrolled"), scope, name, secret, identityKey(t, key), theDelivery)
			return err
		}
		refused(t, "another secret", enrol(hall, "gate-1", []byte("sixteen bytes or"), 1), ErrToken)
		refused(t, "no secret", enrol(hall, "gate-1", nil, 1), ErrToken)
		refused(t, "another name", enrol(hall, "gate-2", theSecret, 1), ErrToken)
		refused(t, "another scope", enrol("other hall", "gate-1", theSecret, 1), ErrToken)
		refused(t, "a scope that is none", enrol("no hall", "gate-1", theSecret, 1), ErrToken)
		if _, err := r.EnrolTerminal(t.Context(), by("enrolled"), hall, "gate-1", theSecret, []byte("no key"), theDelivery); err == nil {
			t.Error("what is no key was taken")
		}

		must(t, enrol(hall, "gate-1", theSecret, 1))
		must(t, enrol(hall, "gate-1", theSecret, 1)) // the answer was lost
		refused(t, "a replay with another key", enrol(hall, "gate-1", theSecret, 2), ErrTokenUsed)

		scope, found, err := r.TerminalWith(t.Context(), identityKey(t, 1))
		must(t, err)
		if scope != hall || found.Name != "gate-1" || !bytes.Equal(found.Delivery, theDelivery) {
			t.Errorf("found %q in %q", found.Name, scope)
		}
		_, _, err = r.TerminalWith(t.Context(), identityKey(t, 2))
		refused(t, "a key of nobody", err, ErrNotFound)

		events, err := r.TerminalHistory(t.Context(), hall, "gate-1")
		must(t, err)
		var verbs []string
		for _, e := range events {
			verbs = append(verbs, e.Verb)
		}
		if want := []string{"issue_token", "add_terminal"}; !slices.Equal(verbs, want) {
			t.Errorf("history has %q, want %q", verbs, want)
		}
		refused(t, "a token for a terminal that is there", r.IssueToken(t.Context(), by(""), hall,
			Enrolment{Name: "gate-1", Expires: at.Add(time.Hour)}, sha256.Sum256(theSecret)), ErrExists)

		must(t, r.RetireTerminal(t.Context(), by("stolen"), hall, "gate-1"))
		_, _, err = r.TerminalWith(t.Context(), identityKey(t, 1))
		refused(t, "a retired identity", err, ErrNotFound)
		refused(t, "the used token of a retired terminal", enrol(hall, "gate-1", theSecret, 1), ErrTokenUsed)
		refused(t, "a token for a retired name", r.IssueToken(t.Context(), by("try"), hall,
			Enrolment{Name: "gate-1", Expires: at.Add(time.Hour), Replace: true}, sha256.Sum256(theSecret)), ErrInvalid)
	})
}

func TestTokenExpiresAndTheLastOneCounts(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		issue(t, r, Enrolment{Name: "gate-1"})
		late := by("enrolled")
		late.At = at.Add(time.Hour)
		_, err := r.EnrolTerminal(t.Context(), late, hall, "gate-1", theSecret, identityKey(t, 1), nil)
		refused(t, "at its end", err, ErrTokenEnded)
		newer := []byte("sixteen newer by")
		must(t, r.IssueToken(t.Context(), by(""), hall, Enrolment{Name: "gate-1", Expires: at.Add(time.Hour)}, sha256.Sum256(newer)))
		_, err = r.EnrolTerminal(t.Context(), by("enrolled"), hall, "gate-1", theSecret, identityKey(t, 1), nil)
		refused(t, "the token before", err, ErrToken)
		_, err = r.EnrolTerminal(t.Context(), by("enrolled"), hall, "gate-1", newer, identityKey(t, 1), nil)
		must(t, err)
	})
}

func TestFirstKeysWaitForApprovalAndNoOthers(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		issue(t, r, Enrolment{Name: "gate-1", Approve: true})
		enrol := func(key byte) (bool, error) {
			return r.EnrolTerminal(t.Context(), by("enrolled"), hall, "gate-1", theSecret, identityKey(t, key), theDelivery)
		}
		for range 2 {
			waiting, err := enrol(1)
			if must(t, err); !waiting {
				t.Fatal("nobody has approved")
			}
		}
		if _, _, err := r.TerminalWith(t.Context(), identityKey(t, 1)); err == nil {
			t.Error("a terminal that waits is known already")
		}
		_, err := enrol(2)
		refused(t, "keys of somebody else", err, ErrTokenUsed)
		refused(t, "approval of other keys", r.ApproveTerminal(t.Context(), by(""), hall, "gate-1", identityKey(t, 2), theDelivery), ErrInvalid)
		refused(t, "approval of another delivery key", r.ApproveTerminal(t.Context(), by(""), hall, "gate-1", identityKey(t, 1), nil), ErrInvalid)
		all, err := r.Enrolments(t.Context(), hall)
		must(t, err)
		if len(all) != 1 || !all[0].Waiting() || !bytes.Equal(all[0].Identity, identityKey(t, 1)) {
			t.Fatalf("waiting: %+v", all)
		}
		must(t, r.ApproveTerminal(t.Context(), by(""), hall, "gate-1", all[0].Identity, all[0].Delivery))
		waiting, err := enrol(1)
		if must(t, err); waiting {
			t.Error("it waits after the approval")
		}
		_, _, err = r.TerminalWith(t.Context(), identityKey(t, 1))
		must(t, err)
	})
}

// The spare has the name from the moment that it has enrolled, and the terminal
// before it no longer.
func TestSpareTakesTheNameAndTheOldKeyIsUnknown(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		must(t, r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "gate-1", Identity: identityKey(t, 1)}))
		must(t, r.AddTerminal(t.Context(), by(""), hall, Terminal{Name: "gate-2", Identity: identityKey(t, 2)}))
		refused(t, "a swap without a reason", r.IssueToken(t.Context(), by(""), hall,
			Enrolment{Name: "gate-1", Expires: at.Add(time.Hour), Replace: true}, sha256.Sum256(theSecret)), ErrInvalid)
		refused(t, "a swap of nobody", r.IssueToken(t.Context(), by("broken"), hall,
			Enrolment{Name: "gate-3", Expires: at.Add(time.Hour), Replace: true}, sha256.Sum256(theSecret)), ErrNotFound)
		issue(t, r, Enrolment{Name: "gate-1", Replace: true})
		_, _, err := r.TerminalWith(t.Context(), identityKey(t, 1))
		must(t, err) // until the spare is there
		_, err = r.EnrolTerminal(t.Context(), by("swap"), hall, "gate-1", theSecret, identityKey(t, 2), nil)
		refused(t, "the key of another terminal", err, ErrExists)
		_, err = r.EnrolTerminal(t.Context(), by("swap"), hall, "gate-1", theSecret, identityKey(t, 3), nil)
		must(t, err)
		_, _, err = r.TerminalWith(t.Context(), identityKey(t, 1))
		refused(t, "the broken terminal", err, ErrNotFound)
		_, found, err := r.TerminalWith(t.Context(), identityKey(t, 3))
		if must(t, err); found.Name != "gate-1" {
			t.Errorf("the spare is %q", found.Name)
		}
	})
}
