package main

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/gate-agent/gate-agent/crypto/roles"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/diskroom"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/sync/fetch"
)

// Whose lists this terminal takes, and where from.

func (c *config) checkTrust() error {
	switch keys, root := len(c.List.Keys), len(c.Root.Keys); {
	case keys == 0 && root == 0 && c.Hub.Connect:
		return errors.New("list.keys is missing: run gate-agent enrol, which brings it, or name the public key files that may sign lists, or in root.keys those of the root that delegates it")
	case keys == 0 && root == 0:
		return errors.New("list.keys is missing: name the public key files that may sign lists, or in root.keys those of the root that delegates it")
	case keys > 0 && root > 0:
		return errors.New("list.keys and root.keys: with a root, it alone says who may sign lists; leave one of them out")
	case root == 0 && c.Root.Threshold != 0:
		return errors.New("root.threshold without root.keys")
	case root > 0 && (c.Root.Threshold < 1 || c.Root.Threshold > root):
		return fmt.Errorf("root.threshold is %d, want 1 to %d: how many of root.keys have to agree", c.Root.Threshold, root)
	case c.List.CA != "" && !strings.HasPrefix(c.List.Source, "https:"):
		return errors.New("list.ca is for a list.source of https:")
	}
	return nil
}

// trust is whose lists of the configured scope count.
func (c *config) trust() (roles.Trust, error) {
	if len(c.Root.Keys) == 0 {
		pinned, err := c.listKeys()
		return roles.Trust{Pinned: pinned}, err
	}
	public, err := c.publicKeys("root.keys", c.Root.Keys)
	if err != nil {
		return roles.Trust{}, err
	}
	root, err := roles.NewRoot(c.Root.Threshold, public...)
	if err != nil {
		return roles.Trust{}, cli.ConfigError{Err: fmt.Errorf("root.keys: %w", err)}
	}
	return roles.Trust{Root: root}, nil
}

// listKeys are the keys that may sign lists of the configured scope.
func (c *config) listKeys() (sign1.Keys, error) {
	public, err := c.publicKeys("list.keys", c.List.Keys)
	if err != nil {
		return sign1.Keys{}, err
	}
	keys := make([]sign1.Key, len(public))
	for i, p := range public {
		keys[i] = sign1.Key{Public: p, Role: sign1.RoleList, Scope: c.Scope}
	}
	set, err := sign1.NewKeys(keys...)
	if err != nil {
		return sign1.Keys{}, cli.ConfigError{Err: fmt.Errorf("list.keys: %w", err)}
	}
	return set, nil
}

func (c *config) publicKeys(key string, files []string) (public []crypto.PublicKey, err error) {
	for _, name := range files {
		text, err := readFile(c.path(name))
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("%s: %w", key, err)}
		}
		p, err := sign1.ParsePublicKey(text)
		if err != nil {
			return nil, cli.ConfigError{Err: fmt.Errorf("%s: %s: %w", key, name, err)}
		}
		public = append(public, p)
	}
	return public, nil
}

// describeTrust says whose lists count.
func (c *config) describeTrust() string {
	if n := len(c.Root.Keys); n > 0 {
		return fmt.Sprintf("signed by whom %d of %d root keys delegate it to%s", c.Root.Threshold, n, c.trusting)
	}
	return fmt.Sprintf("signed by one of the keys in list.keys (%d)%s", len(c.List.Keys), c.trusting)
}

// sourceOf is where lists come from by themselves, with a whole path; "" is nowhere.
func (c *config) sourceOf() string {
	return c.sourceFor(c.Scope)
}

// sourceFor is the same for another scope.
func (c *config) sourceFor(scope string) string {
	source := strings.ReplaceAll(c.List.Source, scopeMark, filename.Of(scope))
	if name, ok := strings.CutPrefix(source, "file:"); ok && name != "" {
		return "file:" + c.path(strings.TrimPrefix(name, "//"))
	}
	return source
}

// openSource opens where lists come from by themselves, nil when nowhere.
func (c *config) openSource() (*fetch.Source, error) { return c.openSourceFor(c.Scope) }

func (c *config) openSourceFor(scope string) (*fetch.Source, error) {
	if c.List.Source == "" {
		return nil, nil
	}
	roots, err := c.sourceRoots()
	if err != nil {
		return nil, err
	}
	spare, err := diskroom.Spare(c.path(c.State))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nothing is downloaded before the folder is made
		return nil, cli.ConfigError{Err: fmt.Errorf("state: %w", err)}
	}
	show, err := c.credentialFor(scope)
	if err != nil {
		return nil, err
	}
	source, err := fetch.New(c.sourceFor(scope), fetch.Options{Roots: roots, Certificate: show, UserAgent: "gate-agent/" + version(), Spare: spare})
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("list.%w", err)}
	}
	return source, nil
}

// sourceRoots are who vouches for the source, nil for the system's.
func (c *config) sourceRoots() (*x509.CertPool, error) {
	if c.List.CA == "" {
		return nil, nil
	}
	text, err := readFile(c.path(c.List.CA))
	if err != nil {
		return nil, cli.ConfigError{Err: fmt.Errorf("list.ca: %w", err)}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, cli.ConfigError{Err: fmt.Errorf("list.ca: %s: no certificate in PEM", c.List.CA)}
	}
	return roots, nil
}

// describeSource says where lists come from.
func (c *config) describeSource() (string, error) {
	source, err := c.openSource()
	switch {
	case err != nil:
		return "", err
	case source == nil:
		return "none: lists come by gate-agent list import, " + c.describeTrust(), nil
	}
	source.Close()
	return fmt.Sprintf("%s, every %v, %s", c.sourceOf(), c.List.Every.Duration, c.describeTrust()), nil
}
