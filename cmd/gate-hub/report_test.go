package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/sync/upload"
)

// sent has the hub take in the events of a file, one on a line, without their
// numbers: {SEQ} and {NOW} stand for those and for the instant.
func sent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sent HUB TERMINAL FILE")
	}
	e, err := ingest.Open(context.Background(), "sqlite:"+filepath.Join(ts.MkAbs(args[0]), "events.db"))
	ts.Check(err)
	b := &upload.Batch{Scope: "arena", Terminal: args[1], Incarnation: upload.Incarnation{byte(len(args[2]))}, Agent: "v1", Sent: time.Now(), First: 1}
	b.Prev = upload.FirstHash(b.Incarnation)
	for line := range strings.Lines(now(ts.ReadFile(args[2]))) {
		b.Last++
		b.Events = append(b.Events, []byte(strings.ReplaceAll(strings.TrimSpace(line), "{SEQ}", fmt.Sprint(b.Last))))
	}
	data, err := b.Encode()
	ts.Check(err)
	h := ingest.Handler{Store: e, Signer: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}
	answer := h.Handle(context.Background(), "arena", args[1], data)
	ts.Logf("%q", answer)
	ts.Check(e.Close())
}

// beat has the hub take in the heartbeat of a file.
func beat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: beat HUB TERMINAL FILE")
	}
	e, err := ingest.Open(context.Background(), "sqlite:"+filepath.Join(ts.MkAbs(args[0]), "events.db"))
	ts.Check(err)
	err = e.Heartbeat(context.Background(), "arena", args[1], []byte(now(ts.ReadFile(args[2]))), time.Now())
	ts.Check(errors.Join(err, e.Close()))
}

func now(text string) string {
	return strings.ReplaceAll(text, "{NOW}", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
}
