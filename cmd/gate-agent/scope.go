package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/crypto/cardid"
	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/sync/command"
)

// The scope of a terminal is the one that its configuration names, or that to which a
// command has moved it since. What is bound to a scope lies in a folder of its own: of
// the configured one it is the state folder itself.

// scopeMark stands in list.source where the folder of the scope goes.
const scopeMark = "{scope}"

// followScope puts the terminal into the scope to which a command has moved it.
func (c *config) followScope() error {
	memory, err := command.OpenMemory(c.path(c.State))
	if err != nil {
		return fmt.Errorf("state: %w: what was carried out is not known. Find out, then remove it", err)
	}
	c.memory, c.home = memory, c.Scope
	// Whoever names another scope in the file has the last word.
	if m := memory.State().Moved; m.Number > 0 && m.From == c.home {
		c.Scope = m.To
	}
	return nil
}

// scopeFolder is where list and lease of a scope lie.
func (c *config) scopeFolder(scope string) string {
	if scope == c.home {
		return c.path(c.State)
	}
	return filepath.Join(c.path(c.State), "scopes", filename.Of(scope))
}

// makeState makes the state folder.
func (c *config) makeState() error { return os.MkdirAll(c.path(c.State), 0o700) }

// forgetOtherScopes removes lists and leases of scopes in which the terminal is not,
// but for what keeps an older list from coming back.
func (c *config) forgetOtherScopes() error {
	folders := []string{c.path(c.State)}
	others, err := os.ReadDir(filepath.Join(c.path(c.State), "scopes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, o := range others {
		folders = append(folders, filepath.Join(c.path(c.State), "scopes", o.Name()))
	}
	var failed error
	for _, folder := range folders {
		if folder != c.scopeFolder(c.Scope) {
			failed = errors.Join(failed, removeScope(folder, false))
		}
	}
	return failed
}

// removeScope removes what is bound to a scope from a folder.
func removeScope(folder string, floorToo bool) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	failed := err
	for _, e := range entries {
		name := e.Name()
		keep := !floorToo && (strings.HasPrefix(name, "list.floor") || name == "list.lock")
		if name != leaseFile && name != roundsFolder && (!strings.HasPrefix(name, "list.") || keep) {
			continue
		}
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(folder, name)))
	}
	return failed
}

// roleTrust is whose signatures count for a role of a scope: of those to whom the root
// delegates it, else of the keys that a key of the configuration names.
func (c *config) roleTrust(role sign1.Role, scope, key string, files []string) (roles.Trust, error) {
	if len(c.Root.Keys) > 0 {
		return c.trust()
	}
	public, err := c.publicKeys(key, files)
	if err != nil {
		return roles.Trust{}, err
	}
	keys := make([]sign1.Key, len(public))
	for i, p := range public {
		keys[i] = sign1.Key{Public: p, Role: role, Scope: scope}
	}
	pinned, err := sign1.NewKeys(keys...)
	if err != nil {
		return roles.Trust{}, cli.ConfigError{Err: fmt.Errorf("%s: %w", key, err)}
	}
	return roles.Trust{Pinned: pinned}, nil
}

// commanded is whether anybody may command this terminal.
func (c *config) commanded() bool { return len(c.Root.Keys) > 0 || len(c.Commands.Keys) > 0 }

// endless names a scope key that nothing ends.
const endless = "in scope_key.file, WITHOUT AN END: whoever gets this terminal has it until the scope key is changed (docs/terminal-commands.md)"

// describeScopeKey opens the scope key and says until when it is there. That a leased one
// is not there is told, and is no error: it may come later.
func (c *config) describeScopeKey() (key cardid.ScopeKey, text string, err error) {
	if !c.ScopeKey.Lease {
		key, err := c.openScopeKey()
		return key, endless, err
	}
	if _, err := c.openDeliveryKey(); errors.Is(err, fs.ErrNotExist) {
		return key, "leased, and there is no delivery key yet: run gate-agent key delivery", nil
	} else if err != nil {
		return key, "", err
	}
	at := latestOf(time.Now(), c.memory.State().Seen)
	l, key, err := c.storedLease(at)
	switch {
	case errors.Is(err, errNoLease), errors.Is(err, errLeaseEnded):
		return key, fmt.Sprintf("leased, and not here: %v", err), nil
	case err != nil:
		return key, "", cli.RefusedError{Err: fmt.Errorf("lease: %w", err)}
	}
	text = fmt.Sprintf("leased until %s", l.NotAfter.Local().Format("2006-01-02 15:04"))
	if leaseShort(l.Terms, at) {
		text += ": ENDS SOON, the hub has not renewed it"
	}
	return key, text, nil
}

// describeCommands says who may command this terminal.
func (c *config) describeCommands() string {
	text := "none are taken: no root.keys, no commands.keys"
	if n := len(c.Commands.Keys); n > 0 {
		text = fmt.Sprintf("signed by keys in commands.keys (%d)", n)
	} else if c.commanded() {
		text = c.describeTrust()
	}
	switch s := c.memory.State(); {
	case s.Wiped.Number > 0:
		text += fmt.Sprintf("; WIPED by command %d", s.Wiped.Number)
	case s.Halted.Number > 0:
		text += fmt.Sprintf("; OUT OF ORDER by command %d: %s", s.Halted.Number, s.Halted.Message)
	}
	return text
}

// checkScope checks scope_key, commands and what goes with them.
func (c *config) checkScope() error {
	switch lease, root := c.ScopeKey.Lease, len(c.Root.Keys) > 0; {
	case lease && c.ScopeKey.File != "":
		return errors.New("scope_key.file and scope_key.lease: a leased key is not in a file; leave one of them out")
	case !lease && c.ScopeKey.File == "":
		return errors.New("scope_key.file is missing: name the wrapped scope key, or set scope_key.lease = true where a hub leases it")
	case !lease && len(c.ScopeKey.Keys) > 0:
		return errors.New("scope_key.keys is for scope_key.lease = true")
	case lease && root == (len(c.ScopeKey.Keys) > 0):
		return errors.New("scope_key.lease needs either root.keys or, in scope_key.keys, the public keys that may sign leases")
	case root && len(c.Commands.Keys) > 0:
		return errors.New("commands.keys and root.keys: with a root, it alone says who may sign commands; leave one of them out")
	case strings.Count(c.List.Source, scopeMark) > 1:
		return fmt.Errorf("list.source has %s twice", scopeMark)
	}
	return nil
}
