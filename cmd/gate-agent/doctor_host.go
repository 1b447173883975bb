package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gate-agent/gate-agent/terminal/api"
)

// Where the memory of the agent may end up.

func (s *site) swap() finding {
	text, err := s.system("proc/swaps")
	if err != nil {
		return unknown(err, "mount /proc")
	}
	lines := strings.Split(text, "\n")
	var open error
	for _, line := range lines[1:] { // the first one is a heading
		device, _, _ := strings.Cut(line, " ")
		device, _, _ = strings.Cut(device, "\t")
		if !s.keepsSecrets(device) {
			open = errors.Join(open, fmt.Errorf("%s", device))
		}
	}
	switch {
	case open != nil:
		return bad("turn it off (swapoff -a, /etc/fstab) or put it on dm-crypt with a key that is made at each start", "not known to be encrypted: %v", open)
	case len(lines) == 1:
		return fine("there is no swap")
	}
	return fine("%d areas, encrypted or in memory", len(lines)-1)
}

// keepsSecrets reports whether a swap area is one that nobody reads from a disk: on
// dm-crypt, whose devices have a UUID that says so, or compressed memory (zram) that
// is not written back to a disk.
func (s *site) keepsSecrets(device string) bool {
	name := filepath.Base(device)
	switch {
	case strings.HasPrefix(name, "dm-"):
		uuid, err := s.system("sys/block/" + name + "/dm/uuid")
		return err == nil && strings.HasPrefix(uuid, "CRYPT-")
	case strings.HasPrefix(name, "zram"):
		behind, err := s.system("sys/block/" + name + "/backing_dev")
		return errors.Is(err, fs.ErrNotExist) || err == nil && behind == "none"
	}
	return false
}

// process is the running agent, where it can be looked at.
func (s *site) process() (p api.Process, because *finding) {
	p, err := s.agent()
	if err == nil && p.PID == 0 {
		err = errors.New("the agent runs in a container, out of sight")
	}
	if err != nil {
		f := unknown(err, "start the agent, and run this beside it")
		return p, &f
	}
	return p, nil
}

// coreDumps finds out whether the kernel would write the agent's memory somewhere. The
// limit holds for a file (core(5)). A program behind a pipe in core_pattern is handed
// everything whatever the limit is, and Debian's systemd-coredump then stores it; only a
// limit of 1 byte stops the kernel there too (fs/coredump.c, do_coredump). What always
// helps is a process that is not dumpable: its files in /proc are root's (proc(5)).
func (s *site) coreDumps() finding {
	p, because := s.process()
	if because != nil {
		return *because
	}
	limits := fmt.Sprintf("proc/%d/limits", p.PID)
	text, err := s.system(limits)
	if err != nil {
		return unknown(err, "run this as the agent's user")
	}
	limit := ""
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && len(strings.Fields(rest)) > 0 {
			limit = strings.Fields(rest)[0]
		}
	}
	info, err := os.Stat(filepath.Join(s.root, limits))
	if err != nil {
		return unknown(err, "run this as the agent's user")
	}
	if uid := int(info.Sys().(*syscall.Stat_t).Uid); p.UID != 0 && uid == 0 {
		return fine("the agent is not dumpable; limit %s", limit)
	}
	pattern, err := s.system("proc/sys/kernel/core_pattern")
	if err != nil {
		return unknown(err, "mount /proc")
	}
	piped := strings.HasPrefix(pattern, "|")
	if limit == "1" || limit == "0" && !piped {
		return fine("limit %s for core files", limit)
	}
	if limit == "0" {
		return bad("run sysctl -w kernel.core_pattern=core, or remove systemd-coredump", "core dumps go to a program, which no limit of 0 stops")
	}
	return bad("start the agent with LimitCORE=0", "the running agent may write core files (limit %s)", limit)
}

func (s *site) agentUser() finding {
	p, err := s.agent()
	if err != nil {
		return unknown(err, "start the agent, and run this beside it")
	}
	if p.UID == 0 {
		return bad("run it as a user of its own (User= of its unit)", "the agent runs as root")
	}
	return fine("user %d", p.UID)
}
