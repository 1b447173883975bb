package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gate-agent/gate-agent/crypto/keystore"
)

// Whom the files of a terminal belong to, and who gets at them.

// A guarded is a file or folder, and the bits that its mode must not have.
type guarded struct {
	path      string
	forbidden fs.FileMode
}

// guarded are all files that the configuration names, itself, and what lies in the
// state folder. Lists at their source are left out: they are signed and sealed.
func (s *site) guarded() (all []guarded, err error) {
	add := func(forbidden fs.FileMode, paths ...string) {
		for _, p := range paths {
			if p != "" {
				all = append(all, guarded{s.c.path(p), forbidden})
			}
		}
	}
	all = append(all, guarded{s.file, 0o022})
	add(0o022, s.c.ScopeKey.File)
	if s.c.Card.Profile != builtinChallengeFirst {
		add(0o022, s.c.Card.Profile)
	}
	add(0o022, s.c.List.Keys...)
	add(0o022, s.c.ScopeKey.Keys...)
	add(0o022, s.c.Commands.Keys...)
	add(0o022, s.c.Root.Keys...)
	add(0o022, s.c.List.CA)
	add(0o022, s.c.Anchors.Files...)
	add(0o022, s.c.ExternalAuth.Certificates...)
	if s.c.Anchors.SurfaceKeys != builtinKeys {
		add(0o022, s.c.Anchors.SurfaceKeys)
	}
	add(0o027, s.c.Staff.File)
	places, err := s.keysInUse()
	if err != nil {
		return nil, err
	}
	for _, k := range places {
		u, err := keystore.ParseURI(k.uri)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		files, err := u.Files()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		for _, f := range files {
			add(f.Forbidden, f.Path)
		}
	}
	add(0o077, s.c.State)
	entries, err := os.ReadDir(s.c.path(s.c.State))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoState
	}
	for _, e := range entries {
		add(0o022, filepath.Join(s.c.State, e.Name()))
	}
	return all, err
}

// eachGuarded looks at each file and at the folders above it: whoever can write to one
// of those can put another file in its place.
func (s *site) eachGuarded(look func(path string, info fs.FileInfo, forbidden fs.FileMode) error) (n int, err error) {
	all, err := s.guarded()
	if err != nil {
		return 0, err
	}
	state, err := filepath.Abs(s.c.path(s.c.State))
	if err != nil {
		return 0, err
	}
	seen := make(map[string]bool)
	for _, g := range all {
		path, err := filepath.Abs(g.path)
		if err != nil {
			return 0, err
		}
		for forbidden := g.forbidden; !seen[path]; path, forbidden = filepath.Dir(path), 0o022 {
			seen[path] = true
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) == state {
				break // the agent has just removed it
			}
			if err != nil {
				return 0, err
			}
			if err := look(path, info, forbidden); err != nil {
				return 0, err
			}
		}
	}
	return len(seen), nil
}

func (s *site) filesClosed() finding {
	var open error
	n, err := s.eachGuarded(func(path string, info fs.FileInfo, forbidden fs.FileMode) error {
		if info.IsDir() && info.Mode()&fs.ModeSticky != 0 {
			return nil // only its owner replaces a file there
		}
		if mode := info.Mode().Perm(); mode&forbidden != 0 {
			open = errors.Join(open, fmt.Errorf("%s (mode %04o)", path, mode))
		}
		return nil
	})
	switch {
	case err != nil:
		return unknown(err, "name files that are there, and run this as the agent's user")
	case open != nil:
		return bad("run chmod go-rwx on what is secret, go-w on the rest", "open to others: %v", open)
	}
	return fine("%d files and folders", n)
}

func (s *site) filesOwned() finding {
	owner, err := s.owner()
	if err != nil {
		return unknown(err, "run gate-agent list import, which makes the folder")
	}
	var foreign error
	n, err := s.eachGuarded(func(path string, info fs.FileInfo, _ fs.FileMode) error {
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != 0 && uid != owner {
			foreign = errors.Join(foreign, fmt.Errorf("%s is of user %d", path, uid))
		}
		return nil
	})
	switch {
	case err != nil:
		return unknown(err, "name files that are there, and run this as the agent's user")
	case foreign != nil:
		return bad("run chown", "the agent's user is %d: %v", owner, foreign)
	}
	return fine("%d files and folders, of user %d or root", n, owner)
}

func (s *site) socket() finding {
	path := s.c.socketPath()
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return unknown(errors.New("no agent is running: there is no socket"), "start the agent")
	}
	if err != nil {
		return unknown(err, "run this as the agent's user")
	}
	owner, err := s.owner()
	if err != nil {
		return unknown(err, "look at the state folder")
	}
	switch uid := int(info.Sys().(*syscall.Stat_t).Uid); {
	case info.Mode().Type() != fs.ModeSocket:
		return bad("stop the agent, remove it", "%s is no socket", path)
	case info.Mode().Perm()&0o077 != 0:
		return bad("restart the agent, which makes it with mode 0600", "%s is open to others (mode %04o)", path, info.Mode().Perm())
	case uid != owner:
		return bad("restart the agent", "%s is of user %d, the state folder of %d", path, uid, owner)
	}
	return fine("mode %04o, of the owner of the state folder", info.Mode().Perm())
}

// system reads a file of the kernel, such as proc/swaps.
func (s *site) system(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.root, name))
	return strings.TrimSpace(string(b)), err
}
