package registry

// migrations are the steps from an empty database to the schema of this
// program; one that was released is never changed. Booleans are 0 and 1,
// instants Unix seconds with 0 for none, numbers those of table numbers. A word
// in braces is the dialect's.
var migrations = [...]string{`
CREATE TABLE numbers (name TEXT PRIMARY KEY, last INTEGER NOT NULL) {clustered};

CREATE TABLE scopes (
	id         INTEGER PRIMARY KEY,
	name       TEXT NOT NULL UNIQUE,
	hierarchy  TEXT NOT NULL,
	venue      TEXT NOT NULL,
	policy     TEXT NOT NULL,
	lifetime   INTEGER NOT NULL,
	first_use  INTEGER NOT NULL,
	lease_days INTEGER NOT NULL,
	epoch      INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	set_seq    INTEGER NOT NULL,
	rebuild    INTEGER NOT NULL,
	state      BLOB,
	manifest   BLOB
) {table};

CREATE TABLE holders (
	id        INTEGER PRIMARY KEY,
	scope     INTEGER NOT NULL REFERENCES scopes,
	reference TEXT,
	joined    INTEGER REFERENCES holders,
	UNIQUE (scope, reference)
) {table};
CREATE INDEX holders_joined ON holders (joined) WHERE joined IS NOT NULL;

CREATE TABLE issuers (
	id        INTEGER PRIMARY KEY,
	authority BLOB NOT NULL,
	point     BLOB NOT NULL,
	as_of     INTEGER NOT NULL,
	number    BLOB,
	digest    BLOB,
	UNIQUE (authority, point)
) {table};

CREATE TABLE revoked (
	authority BLOB NOT NULL,
	serial    BLOB NOT NULL,
	hold      INTEGER NOT NULL,
	at        INTEGER NOT NULL,
	point     BLOB NOT NULL,
	PRIMARY KEY (authority, serial)
) {clustered};
CREATE INDEX revoked_hold ON revoked (authority, point) WHERE hold = 1;

CREATE TABLE credentials (
	id         INTEGER PRIMARY KEY,
	scope      INTEGER NOT NULL REFERENCES scopes,
	holder     INTEGER NOT NULL REFERENCES holders,
	head       BLOB NOT NULL,
	auth_key   BLOB,
	card_key   BLOB,
	birth_date TEXT,
	issuer     INTEGER NOT NULL REFERENCES issuers,
	serial     BLOB NOT NULL,
	not_after  INTEGER NOT NULL,
	status     INTEGER NOT NULL,
	retired    INTEGER NOT NULL,
	replaces   INTEGER,
	UNIQUE (scope, head)
) {table};
CREATE INDEX credentials_holder ON credentials (holder);
CREATE INDEX credentials_serial ON credentials (serial);
CREATE INDEX credentials_end ON credentials (scope, not_after);
CREATE INDEX credentials_issuer ON credentials (scope, issuer) WHERE retired = 0 AND status <> 3;
CREATE UNIQUE INDEX credentials_card_key ON credentials (scope, card_key) WHERE retired = 0;

CREATE TABLE entitlements (
	scope        INTEGER NOT NULL REFERENCES scopes,
	id           TEXT NOT NULL,
	holder       INTEGER REFERENCES holders,
	order_number TEXT,
	status       INTEGER NOT NULL,
	content      TEXT NOT NULL,
	file_holder  TEXT,
	file_order   TEXT,
	file_status  INTEGER,
	PRIMARY KEY (scope, id)
) {table};
CREATE INDEX entitlements_holder ON entitlements (holder) WHERE holder IS NOT NULL;
CREATE INDEX entitlements_order ON entitlements (scope, order_number) WHERE order_number IS NOT NULL;

CREATE TABLE records (
	scope      INTEGER NOT NULL REFERENCES scopes,
	nonce      BLOB NOT NULL,
	digest     BLOB NOT NULL,
	credential INTEGER NOT NULL,
	record     BLOB,
	PRIMARY KEY (scope, nonce)
) {table};
CREATE INDEX records_credential ON records (credential);
CREATE INDEX records_digest ON records (digest);

CREATE TABLE terminals (
	id       INTEGER PRIMARY KEY,
	scope    INTEGER NOT NULL REFERENCES scopes,
	name     TEXT NOT NULL,
	identity BLOB NOT NULL,
	delivery BLOB,
	state    BLOB,
	retired  INTEGER NOT NULL,
	UNIQUE (scope, name)
) {table};
CREATE UNIQUE INDEX terminals_identity ON terminals (identity) WHERE retired = 0;

CREATE TABLE touched (
	scope INTEGER NOT NULL,
	head  BLOB NOT NULL,
	PRIMARY KEY (scope, head)
) {clustered};

CREATE TABLE published (
	scope   INTEGER NOT NULL,
	card_id BLOB NOT NULL,
	sealed  BLOB,
	set_seq INTEGER NOT NULL,
	PRIMARY KEY (scope, card_id)
) {table};
CREATE INDEX published_set_seq ON published (scope, set_seq, card_id);

CREATE TABLE history (
	seq         INTEGER PRIMARY KEY,
	at          INTEGER NOT NULL,
	actor       TEXT NOT NULL,
	verb        TEXT NOT NULL,
	reason      TEXT NOT NULL,
	scope       INTEGER,
	holder      INTEGER,
	other       INTEGER,
	credential  INTEGER,
	entitlement TEXT,
	terminal    INTEGER
) {table};
CREATE INDEX history_entitlement ON history (scope, entitlement, seq) WHERE entitlement IS NOT NULL;
CREATE INDEX history_credential ON history (credential, seq) WHERE credential IS NOT NULL;
CREATE INDEX history_holder ON history (holder, seq) WHERE holder IS NOT NULL;
`, `
CREATE TABLE enrolments (
	terminal INTEGER PRIMARY KEY,
	scope    INTEGER NOT NULL REFERENCES scopes,
	name     TEXT NOT NULL,
	digest   BLOB NOT NULL,
	expires  INTEGER NOT NULL,
	approve  INTEGER NOT NULL,
	replaces INTEGER NOT NULL,
	identity BLOB,
	delivery BLOB,
	approved INTEGER NOT NULL,
	used     INTEGER NOT NULL,
	UNIQUE (scope, name)
) {table};
`}
