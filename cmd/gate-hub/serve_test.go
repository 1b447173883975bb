package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One scope's folder is held, as by a publication that does not end. Another scope has its
// list and its leases, and the hub ends in order.
func TestScopeThatPublishesForLongHoldsUpNoOther(t *testing.T) {
	dir := t.TempDir()
	hub := filepath.Join(dir, "hub")
	must(t, "init", hub, "--name", "Arena", "--scope", "arena", "--hierarchy", "test", "--host", "127.0.0.1")
	must(t, "scope", "add", "hall", "--hierarchy", "test", "--config", hub)
	must(t, "terminal", "add", "gate-1", "--scope", "hall", "--config", hub,
		"--identity", publicPEM(t, dir, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public()), "--delivery", publicPEM(t, dir, deliveryKey(t).PublicKey()))

	arena := filepath.Join(hub, "files", "arena")
	if err := os.MkdirAll(arena, 0o755); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(arena)
	if err == nil {
		err = unix.Flock(int(held.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close() // only locked
	is := func(name string) bool {
		_, err := os.Stat(filepath.Join(hub, "files", name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil
	}
	serve := func(until string) {
		t.Helper()
		cmd := gateHub(t, "serve", hub, "--plain-http", "127.0.0.1:0")
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 600 {
			if is(until) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		stopped := cmd.Process.Signal(syscall.SIGTERM)
		if err := errors.Join(stopped, cmd.Wait()); err != nil || !is(until) {
			t.Fatalf("no %s, or not ended in order: %v\n%s", until, err, log.String())
		}
	}
	serve("hall/lease/gate-1")
	if !is("hall/manifest") || is("arena/manifest") {
		t.Errorf("published: hall %t, arena %t, whose folder is held", is("hall/manifest"), is("arena/manifest"))
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	serve("arena/manifest")
}

func deliveryKey(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// publicPEM is a file with a public key.
func publicPEM(t *testing.T, dir string, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(dir, "*.pub.pem")
	if err == nil {
		err = errors.Join(pem.Encode(f, &pem.Block{Type: "PUBLIC KEY", Bytes: der}), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
