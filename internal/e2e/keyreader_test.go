package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gate-agent/gate-agent/nfc/vcard"
)

// runEnv is run with an environment of its own.
func (s site) runEnv(t *testing.T, env []string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience) // "run" would go on
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "gate-agent"), append(args, "--config", s.config)...)
	cmd.Env = append(os.Environ(), env...)
	out, _ := cmd.CombinedOutput() // the exit code tells
	keepsSecrets(t, s, string(out))
	keepsKeys(t, s, out)
	return string(out), cmd.ProcessState.ExitCode()
}

// onCard gives the terminal a key on a card in the reader of that name.
func (s site) onCard(t *testing.T, r *readers, k *keyCard, reader string) {
	t.Helper()
	uri := fmt.Sprintf("scard:reader=%s;aid=D392F000260100000001;key=17?pin-source=%s",
		strings.ReplaceAll(reader, " ", "%20"), s.write(t, "card.pin", []byte("7351\n")))
	s.authenticatesWith(t, r, uri, k.public())
}

// Somebody has put a card of their own where the terminal's belongs. No command takes
// a try from its PIN.
func TestPersonsCardInTheKeyReaderIsSentNoPIN(t *testing.T) {
	t.Parallel()
	r, s := newSlots(t, 4), ready(t)
	s.onCard(t, r, newKeyCard(t, vcard.KindCard), r.daemon.SlotName(keySlot))
	persons := &keyCard{img: theTown(t).bob(t)} // with another PIN
	persons.lies(r)
	env := []string{r.daemon.Env()}
	for _, args := range [][]string{{"key", "list"}, {"doctor", "--audit"}, {"check-config"}, {"key", "rotate", "status"}, {"run"}} {
		if out, code := s.runEnv(t, env, args...); !strings.Contains(out, "another key") {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
	persons.card.remove()
	if tries := persons.card.tries(); tries[0] != 0xC3 {
		t.Errorf("the person's PIN: 63%X, want 63C3", tries[0])
	}
}

// A key lies in the one reader that is named: a pattern would find people's cards.
func TestKeyReaderIsNoPattern(t *testing.T) {
	t.Parallel()
	r, s := newSlots(t, 4), ready(t)
	k := newKeyCard(t, vcard.KindCard)
	k.lies(r)
	s.onCard(t, r, k, "*")
	if out, code := s.runEnv(t, []string{r.daemon.Env()}, "check-config"); code != 3 || !strings.Contains(out, `no card in reader "*"`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	k.card.remove()
}

// The same key has two URIs where a token knows it by two names.
func TestKeyUnderTwoNamesIsRefused(t *testing.T) {
	t.Parallel()
	r, s := newReaders(t), ready(t)
	uri, _, env := provisionHSM(t, s, r)
	env = append(env, r.daemon.Env())
	named := func(attribute string) string { return strings.Replace(uri, "object=external-auth", attribute, 1) }
	s.mustEnv(t, env, "key", "generate", "--purpose", "identity", "--type", "p-256", named("id=0a;object=both"))
	s.edit(t, s.sealed("identity.key"), named("id=0A"))
	s.edit(t, s.sealed("checkpoint.key"), named("object=both"))
	for _, args := range [][]string{{"run"}, {"check-config"}} {
		if out, code := s.runEnv(t, env, args...); code != 3 || !strings.Contains(out, "identity.key and checkpoint.key are one key") &&
			!strings.Contains(out, "checkpoint.key and identity.key are one key") {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
	s.edit(t, named("object=both"), strings.Replace(named("id=0A"), "pin-source=", "pin-source=file:", 1))
	if out, code := s.runEnv(t, env, "check-config"); code != 3 || !strings.Contains(out, "are one key") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
