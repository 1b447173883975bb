package journal

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/terminal"
)

// trust is the key of a terminal in scope venue.
func trust(t testing.TB, terminal string, pub crypto.PublicKey) sign1.Keys {
	t.Helper()
	keys, err := sign1.NewKeys(sign1.Key{Public: pub, Role: sign1.RoleCheckpoint, Scope: "venue", Signer: terminal})
	check(t, err)
	return keys
}

func sign(t testing.TB, j *Journal) []byte {
	t.Helper()
	msg, err := j.Checkpoint(t.Context(), noon, vectorKey, "gate-1", "venue")
	check(t, err)
	return msg
}

func TestJournalGoesOnFromItsCheckpoints(t *testing.T) {
	j := open(t, temp(t))
	keys := trust(t, "gate-1", vectorKey.Public())
	msgs := [][]byte{sign(t, j)} // of no event
	n := fill(t, j)
	msgs = append(msgs, sign(t, j), sign(t, j))
	check(t, j.Record(t.Context(), denial()))
	for i, want := range []uint64{0, n + 1, n + 2} {
		c, err := j.VerifyCheckpoint(t.Context(), keys, msgs[i])
		if err != nil || c.Seq != want || c.Terminal != "gate-1" || c.Scope != "venue" || !c.At.Equal(noon) {
			t.Errorf("checkpoint %d: %+v, %v", i, c, err)
		}
	}
	report, err := j.VerifySigned(t.Context(), keys)
	if err != nil || report.Checkpoints != 3 || report.Signed != n+2 || report.Events != n+4 {
		t.Errorf("%+v, %v", report, err)
	}
	// What is in the chain is what was handed out.
	i := 0
	for e, err := range j.List(t.Context(), Filter{Kinds: []Kind{KindCheckpoint}}) {
		if err != nil || string(e.Checkpoint) != string(msgs[i]) || !strings.Contains(string(e.Bytes), base64.StdEncoding.EncodeToString(msgs[i])) {
			t.Errorf("%s, %v", e.Bytes, err)
		}
		i++
	}
}

func TestKeysOfEveryKindSignCheckpoints(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		check(t, err)
		j := open(t, temp(t))
		fill(t, j)
		msg, err := j.Checkpoint(t.Context(), noon, key, "gate-1", "venue")
		check(t, err)
		if _, err := j.VerifyCheckpoint(t.Context(), trust(t, "gate-1", key.Public()), msg); err != nil {
			t.Error(err)
		}
	}
}

// rechain makes the hashes, and all that is made of them, fit the events again,
// as somebody would who knows this format.
func rechain(t testing.TB, path string) {
	t.Helper()
	db := raw(t, path)
	prev, err := hashOf(t.Context(), db, 0)
	check(t, err)
	type row struct {
		seq   int64
		bytes string
	}
	var rows []row
	check(t, each(t.Context(), db, `SELECT seq, bytes FROM events ORDER BY seq`, func(scan scanner) error {
		var r row
		err := scan(&r.seq, &r.bytes)
		rows = append(rows, r)
		return err
	}))
	for _, r := range rows {
		prev = next(prev, []byte(r.bytes))
		_, err := db.Exec(`UPDATE events SET hash = ? WHERE seq = ?`, prev[:], r.seq)
		check(t, err)
	}
	var tx *sql.Tx
	tx, err = db.Begin()
	check(t, err)
	_, err = rebuild(t.Context(), tx)
	check(t, err, tx.Commit(), db.Close())
}

// Whoever may write the file can make a chain that verifies. A checkpoint that
// lies elsewhere finds it.
func TestOldCheckpointFindsAConsistentRewrite(t *testing.T) {
	for name, tc := range map[string]struct {
		stmt  string
		first uint64
	}{
		"tail cut":          {`DELETE FROM events WHERE seq > 5`, 6},
		"cut, and filled":   {`DELETE FROM events WHERE seq > 8; INSERT INTO events VALUES (9, '{"seq":9,"kind":"decision","at":"2026-04-01T12:00:00.000Z"}', zeroblob(32))`, 9},
		"changed":           {`UPDATE events SET bytes = replace(bytes, 'ticket-1', 'ticket-9') WHERE seq = 4`, 9},
		"checkpoint forged": {`DELETE FROM events WHERE seq > 8; INSERT INTO events VALUES (9, '{"seq":9,"kind":"checkpoint","at":"2026-04-01T12:00:00.000Z"}', zeroblob(32))`, 9},
	} {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			j := open(t, path)
			fill(t, j)
			check(t, j.Commit(t.Context(), 8, 1))
			msg := sign(t, j) // of event 9, in event 10
			check(t, j.Record(t.Context(), denial()), j.Close())
			db := raw(t, path)
			_, err := db.Exec(disarm + tc.stmt)
			check(t, err, db.Close())
			rechain(t, path)

			r, err := OpenReader(path)
			check(t, err)
			defer r.Close()
			if _, err := r.Verify(t.Context()); err != nil {
				t.Fatalf("the rewrite is not consistent: %v", err)
			}
			var ce *ChainError
			_, err = r.VerifyCheckpoint(t.Context(), trust(t, "gate-1", vectorKey.Public()), msg)
			if !errors.As(err, &ce) || ce.Seq != tc.first || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want a ChainError for event %d", err, tc.first)
			}
			if name == "changed" || name == "checkpoint forged" { // the one inside is enough
				if _, err := r.VerifySigned(t.Context(), trust(t, "gate-1", vectorKey.Public())); err == nil {
					t.Error("the checkpoint inside vouches for another chain")
				}
			}
		})
	}
}

func TestForeignCheckpointIsRefused(t *testing.T) {
	j := open(t, temp(t))
	fill(t, j)
	msg := sign(t, j)
	other := open(t, temp(t))
	fill(t, other)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	registrar, err := sign1.NewKeys(sign1.Key{Public: vectorKey.Public(), Role: sign1.RoleRegistration, Scope: "venue", Signer: "gate-1"})
	check(t, err)
	elsewhere, err := sign1.NewKeys(sign1.Key{Public: vectorKey.Public(), Role: sign1.RoleCheckpoint, Scope: "other", Signer: "gate-1"})
	check(t, err)
	list, err := sign1.Sign(nil, sign1.RoleList, vectorKey, []byte("no checkpoint"))
	check(t, err)
	text, err := sign1.Sign(nil, sign1.RoleCheckpoint, vectorKey, []byte("no checkpoint"))
	check(t, err)
	good := trust(t, "gate-1", vectorKey.Public())
	for name, tc := range map[string]struct {
		j    *Journal
		keys sign1.Keys
		msg  []byte
		want error // nil: any
	}{
		"other incarnation": {other, good, msg, ErrOtherJournal},
		"wrong key":         {j, trust(t, "gate-1", stranger.Public()), msg, sign1.ErrUnknownKey},
		"other terminal":    {j, trust(t, "gate-2", vectorKey.Public()), msg, nil},
		"other scope":       {j, elsewhere, msg, nil},
		"other role":        {j, registrar, msg, sign1.ErrRole},
		"other purpose":     {j, good, list, sign1.ErrSignature},
		"other content":     {j, good, text, nil},
		"changed":           {j, good, append(msg[:len(msg)-1:len(msg)-1], msg[len(msg)-1]^1), sign1.ErrSignature},
		"no keys":           {j, sign1.Keys{}, msg, sign1.ErrUnknownKey},
		"nothing":           {j, good, nil, sign1.ErrMalformed},
	} {
		if _, err := tc.j.VerifyCheckpoint(t.Context(), tc.keys, tc.msg); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := j.VerifySigned(t.Context(), trust(t, "gate-2", vectorKey.Public())); err == nil || !strings.Contains(err.Error(), "event 9") {
		t.Errorf("another terminal's key for the one inside: %v", err)
	}
	for _, names := range [][2]string{{"", "venue"}, {"gate-1", ""}} {
		if _, err := j.Checkpoint(t.Context(), noon, vectorKey, names[0], names[1]); err == nil {
			t.Errorf("%q: signed", names)
		}
	}
}

// slowKey lets a tap through while it signs.
type slowKey struct {
	crypto.Signer
	meanwhile func()
}

func (k slowKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.meanwhile()
	return k.Signer.Sign(rand, digest, opts)
}

func TestSlowKeyHoldsUpNoTap(t *testing.T) {
	j := open(t, temp(t))
	fill(t, j)
	key := slowKey{vectorKey, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := j.Annul(ctx, 8, terminal.NoPassage); err != nil {
			t.Error(err)
		}
	}}
	msg, err := j.Checkpoint(t.Context(), noon, key, "gate-1", "venue")
	check(t, err)
	keys := trust(t, "gate-1", vectorKey.Public())
	if c, err := j.VerifyCheckpoint(t.Context(), keys, msg); err != nil || c.Seq != 8 {
		t.Errorf("%+v, %v", c, err)
	}
	if r, err := j.VerifySigned(t.Context(), keys); err != nil || r.Signed != 8 || r.Events != 10 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Property: what parses is encoded to the same bytes.
func FuzzParseCheckpoint(f *testing.F) {
	good, err := codec.Marshal(wireCheckpoint{1, "gate-1", "venue", make([]byte, 16), 7, make([]byte, 32), 1775044800000})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0xA1, 0x00, 0x01})
	f.Fuzz(func(t *testing.T, payload []byte) {
		msg, err := sign1.Sign(nil, sign1.RoleCheckpoint, vectorKey, payload)
		if err != nil {
			return
		}
		c, err := parseCheckpoint(trust(t, "gate-1", vectorKey.Public()), msg)
		if err != nil {
			return
		}
		again, err := codec.Marshal(wireCheckpoint{1, c.Terminal, c.Scope, c.Incarnation[:], c.Seq, c.Hash[:], c.At.UnixMilli()})
		if err != nil || string(again) != string(payload) {
			t.Errorf("%x became %x, %v", payload, again, err)
		}
	})
}
