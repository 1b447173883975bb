package ingest

// A migration makes tables, and says the rows of which never change.
type migration struct {
	tables string
	never  []string
}

// migrations are the steps from an empty database to the schema of this program;
// one that was released is never changed. Instants are Unix milliseconds, 0 for
// none. A word in braces is the dialect's.
//
// journals has what is held of each: all events up to through, whose hash is hash.
// events and forks are the truth; forks are the other events under numbers that
// are held. gaps are numbers that terminals had deleted before they were sent.
// passages is the fold of the events of one journal that reports count, and
// refused what could not be read. heard is the last that came from a terminal.
var migrations = [...]migration{{
	tables: `
CREATE TABLE journals (
	id          INTEGER PRIMARY KEY,
	scope       TEXT NOT NULL,
	terminal    TEXT NOT NULL,
	incarnation BLOB NOT NULL,
	through     INTEGER NOT NULL,
	hash        BLOB NOT NULL,
	first_at    INTEGER NOT NULL,
	last_at     INTEGER NOT NULL,
	clone_at    INTEGER NOT NULL,
	clone_seq   INTEGER NOT NULL,
	UNIQUE (scope, terminal, incarnation)
) {table};

CREATE TABLE events (
	journal  INTEGER NOT NULL,
	seq      INTEGER NOT NULL,
	hash     BLOB NOT NULL,
	bytes    BLOB,
	received INTEGER NOT NULL,
	PRIMARY KEY (journal, seq)
) {clustered};

CREATE TABLE forks (
	journal  INTEGER NOT NULL,
	seq      INTEGER NOT NULL,
	hash     BLOB NOT NULL,
	bytes    BLOB,
	received INTEGER NOT NULL,
	PRIMARY KEY (journal, seq, hash)
) {clustered};

CREATE TABLE gaps (
	journal  INTEGER NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	hash     BLOB NOT NULL,
	received INTEGER NOT NULL,
	PRIMARY KEY (journal, first)
) {clustered};

CREATE TABLE refused (
	journal  INTEGER NOT NULL,
	seq      INTEGER NOT NULL,
	why      TEXT NOT NULL,
	received INTEGER NOT NULL,
	PRIMARY KEY (journal, seq)
) {clustered};

CREATE TABLE passages (
	journal     INTEGER NOT NULL,
	seq         INTEGER NOT NULL,
	scope       TEXT NOT NULL,
	entitlement TEXT NOT NULL,
	gate        TEXT NOT NULL,
	zone        TEXT NOT NULL,
	way         INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	state       INTEGER NOT NULL,
	people      INTEGER NOT NULL,
	reentry     INTEGER NOT NULL,
	passed      INTEGER NOT NULL,
	PRIMARY KEY (journal, seq)
) {clustered};
CREATE INDEX passages_at ON passages (scope, at);
CREATE INDEX passages_entitlement ON passages (scope, entitlement);

CREATE TABLE heard (
	scope       TEXT NOT NULL,
	terminal    TEXT NOT NULL,
	at          INTEGER NOT NULL,
	offset_ms   INTEGER NOT NULL,
	agent       TEXT NOT NULL,
	health_at   INTEGER NOT NULL,
	health      BLOB,
	PRIMARY KEY (scope, terminal)
) {clustered};
`,
	never: []string{"events", "forks", "gaps"},
}}
