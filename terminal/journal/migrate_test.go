package journal

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gate-agent/gate-agent/terminal"
)

// schemaV1 is what programs of version 1 made.
const schemaV1 = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
	seq   INTEGER PRIMARY KEY,
	bytes TEXT NOT NULL CHECK (typeof(bytes) = 'text'),
	hash  BLOB NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32)
);
CREATE TRIGGER events_no_gap BEFORE INSERT ON events
	WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
	BEGIN SELECT raise(ABORT, 'events are appended in sequence'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
	BEGIN SELECT raise(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
	BEGIN SELECT raise(ABORT, 'events are never deleted'); END;
CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta
	BEGIN SELECT raise(ABORT, 'the incarnation never changes'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta
	BEGIN SELECT raise(ABORT, 'the incarnation never changes'); END;
CREATE TABLE admissions (
	seq         INTEGER PRIMARY KEY,
	entitlement TEXT NOT NULL,
	state       INTEGER NOT NULL CHECK (state IN (1, 2, 3))
);
CREATE INDEX admissions_entitlement ON admissions (entitlement, state);
CREATE TABLE folded (
	only    INTEGER PRIMARY KEY CHECK (only = 1),
	seq     INTEGER NOT NULL,
	hash    BLOB NOT NULL,
	entries INTEGER NOT NULL,
	states  INTEGER NOT NULL,
	latest  INTEGER NOT NULL
);
CREATE INDEX events_birth_date_refused ON events (bytes ->> 'card_id') WHERE instr(bytes, '"birth_date_refused":true') > 0;
PRAGMA application_id = 0x47414A4C;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
`

func readVector(t testing.TB, name string) (v vector) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "journal", name))
	check(t, err)
	check(t, json.Unmarshal(text, &v))
	return v
}

// journalV1 is the journal of the vector of version 1, with index as its
// programs kept it: ticket-1 committed, ticket-2 annulled, ticket-3 open.
func journalV1(t *testing.T) (path string, v vector) {
	t.Helper()
	v, path = readVector(t, "chain-v1.json"), temp(t)
	check(t, os.WriteFile(path, nil, 0o600))
	db := raw(t, path)
	exec := func(stmt string, args ...any) {
		t.Helper()
		_, err := db.Exec(stmt, args...)
		check(t, err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		check(t, err)
		return b
	}
	exec(schemaV1)
	exec(`INSERT INTO meta VALUES ('incarnation', ?)`, unhex(v.Incarnation))
	for i, e := range v.Events {
		exec(`INSERT INTO events VALUES (?, ?, ?)`, i+1, e.Bytes, unhex(e.Hash))
	}
	exec(`INSERT INTO admissions VALUES (4, 'ticket-1', 2), (6, 'ticket-2', 3), (8, 'ticket-3', 1)`)
	exec(`INSERT INTO folded VALUES (1, 8, ?, 3, 34, ?)`, unhex(v.Events[7].Hash), clock().UnixMilli())
	check(t, db.Close())
	return path, v
}

func TestJournalOfVersion1KeepsItsUses(t *testing.T) {
	path, v := journalV1(t)
	j := open(t, path)
	if j.Reindexed() || j.Fresh() || !j.Latest().Equal(clock()) {
		t.Errorf("reindexed %v, fresh %v, latest %v", j.Reindexed(), j.Fresh(), j.Latest())
	}
	for entitlement, n := range map[string]uint32{"ticket-1": 1, "ticket-2": 0, "ticket-3": 1, "ticket-4": 0} {
		wantUses(t, j, entitlement, n)
	}
	if h := lookUp(t, j, "ticket-3"); !h.Passages[0].Doubt || h.Passages[0].People != 1 || h.Passages[0].Direction != terminal.Entry {
		t.Errorf("the open one: %+v", h)
	}
	report, err := j.Verify(t.Context())
	if err != nil || report.Events != 9 || hex.EncodeToString(report.Incarnation[:]) != v.Incarnation {
		t.Errorf("%+v, %v", report, err)
	}
	for e, err := range j.List(t.Context(), Filter{Through: 8}) {
		if err != nil || string(e.Bytes) != v.Events[e.Seq-1].Bytes || hex.EncodeToString(e.Hash[:]) != v.Events[e.Seq-1].Hash {
			t.Errorf("event %d was changed: %s, %v", e.Seq, e.Bytes, err)
		}
	}
	check(t, j.Commit(t.Context(), 8, 1), j.Close())
	if j = open(t, path); j.Reindexed() {
		t.Error("made again at the second start")
	}
	reserve(t, j, "ticket-1")
}

// A program of version 1 compares user_version with 1, and goes no further.
func TestProgramOfVersion1RefusesTheNewJournal(t *testing.T) {
	path, _ := journalV1(t)
	check(t, open(t, path).Close())
	var version int
	check(t, raw(t, path).QueryRow(`PRAGMA user_version`).Scan(&version))
	if version <= 1 {
		t.Errorf("user_version is %d: it would write into an index that it does not know", version)
	}
}

// An archive of version 1 is verified as it is.
func TestJournalOfVersion1IsRead(t *testing.T) {
	path, v := journalV1(t)
	r, err := OpenReader(path)
	check(t, err)
	defer r.Close()
	if report, err := r.Verify(t.Context()); err != nil || report.Events != 8 || hex.EncodeToString(report.Head[:]) != v.Events[7].Hash {
		t.Errorf("%+v, %v", report, err)
	}
	n := 0
	for _, err := range r.List(t.Context(), Filter{}) {
		check(t, err)
		n++
	}
	if n != 8 {
		t.Errorf("listed %d of 8", n)
	}
	if _, err := r.Occupancy(t.Context(), noon); !errors.Is(err, ErrOlder) {
		t.Errorf("counting: %v, want ErrOlder", err)
	}
}

// Moving to version 2 must not make good what was broken before.
func TestBrokenJournalOfVersion1IsNotMigrated(t *testing.T) {
	for name, tc := range map[string]struct {
		stmt  string
		first uint64
	}{
		"tail cut": {`DROP TRIGGER events_no_delete; DELETE FROM events WHERE seq > 6`, 7},
		"changed":  {`DROP TRIGGER events_no_update; UPDATE events SET bytes = replace(bytes, 'ticket-1', 'ticket-9') WHERE seq = 4`, 4},
	} {
		path, _ := journalV1(t)
		db := raw(t, path)
		_, err := db.Exec(tc.stmt)
		check(t, err, db.Close())
		var ce *ChainError
		if _, err := Open(path, clock); !errors.As(err, &ce) || ce.Seq != tc.first {
			t.Errorf("%s: %v, want a ChainError for event %d", name, err, tc.first)
		}
		var version int
		check(t, raw(t, path).QueryRow(`PRAGMA user_version`).Scan(&version))
		if version != 1 {
			t.Errorf("%s: its version became %s", name, fmt.Sprint(version))
		}
	}
}
