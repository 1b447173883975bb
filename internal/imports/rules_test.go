package imports

// A rule says what some packages never import. Patterns are as those of the go
// command: "./nfc/..." is nfc and everything below it. Our own packages are named
// within the module, all others by their import path.
type rule struct {
	who    []string
	except []string // of who

	direct []string // never imported by the package itself
	deps   []string // never among its dependencies, however far away
	others bool     // no dependency outside the standard library and who

	tests bool // direct holds for the package's tests as well

	why string
}

// What reaches a network. Package net itself comes with crypto/x509, which
// names addresses in certificates: it is among the dependencies of everything
// that reads a certificate, so it is forbidden as a direct import only. net/url
// and net/netip open nothing.
var (
	network = []string{"net", "net/http/...", "net/rpc/...", "net/smtp", "net/textproto", "crypto/tls", "github.com/nats-io/..."}
	farther = []string{"net/http/...", "net/rpc/...", "net/smtp", "crypto/tls", "github.com/nats-io/..."}
	virtual = []string{"./nfc/vcard/...", "./nfc/nfctest", "./internal/world", "./internal/pcscd/...", "./internal/smalldisk", "./internal/swtpm", "./internal/nginx", "./internal/halt", "./internal/postgres"}
	sqlite  = []string{"database/sql/...", "github.com/mattn/go-sqlite3", "github.com/jackc/..."}
	logging = []string{"log/..."}
)

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var rules = []rule{
	// nfc
	{
		who:    []string{"./nfc/..."},
		direct: join(network, logging, sqlite, []string{"./registration", "./whitelist/...", "./terminal/...", "./sync/...", "./hub/..."}),
		deps:   join(farther, logging, sqlite, []string{"./registration", "./whitelist/...", "./terminal/...", "./sync/...", "./hub/..."}),
		why:    "a card dialogue has no network and no opinion",
	},
	{
		who:  []string{"./nfc", "./nfc/pcsc", "./nfc/trace", "./nfc/nfctest"},
		deps: []string{"net", "crypto/x509"},
		why:  "commands, responses and readers know no certificate, so here not even package net comes along",
	},
	{
		who:    []string{"./nfc/vcard"},
		direct: []string{"./nfc", "./nfc/jpki", "./nfc/pcsc", "./nfc/trace", "./nfc/nfctest", "./crypto/cardauth", "./crypto/anchor"},
		deps:   []string{"./nfc", "./nfc/jpki", "./nfc/pcsc", "./nfc/trace", "./nfc/nfctest", "./crypto/cardauth", "./crypto/anchor"},
		tests:  true,
		why:    "the card parses commands with code of its own: card and reader cannot be wrong together, only fixed vectors check both",
	},
	{
		who:  []string{"./nfc/vcard/..."},
		deps: []string{"./nfc", "./nfc/jpki", "./crypto/cardauth"},
		why:  "what personalises a card must not agree with the reader by sharing its code either",
	},
	{
		who:    []string{"./..."},
		except: []string{"./nfc/pcsc"},
		direct: []string{"github.com/ebfe/scard"},
		why:    "one package speaks PC/SC: the deadlines around calls that can block for ever are there",
	},

	// crypto
	{
		who:    []string{"./crypto/..."},
		direct: join(network, logging, sqlite, []string{"./nfc/pcsc", "./nfc/jpki", "./nfc/vcard/...", "./terminal/...", "./whitelist/...", "./registration", "./sync/..."}),
		deps:   join(farther, logging, sqlite, []string{"./nfc/pcsc", "./nfc/jpki", "./nfc/vcard/...", "./terminal/...", "./whitelist/...", "./registration", "./sync/..."}),
		why:    "what verifies depends on nothing that it verifies for; a medium for keys is handed in",
	},
	{
		who:    []string{"./..."},
		except: []string{"./crypto/keystore"},
		direct: []string{"github.com/google/go-tpm/..."},
		why:    "one package speaks to a TPM: which auth value goes there, and how often, is decided there",
	},
	{
		who:    []string{"./crypto/cardkey", "./crypto/cardauth", "./crypto/anchor"},
		others: true,
		why:    "what decides whether a card is genuine can be read whole, down to the standard library",
	},
	{
		who:    []string{"./..."},
		except: []string{"./crypto/sign1"},
		direct: []string{"github.com/veraison/go-cose"},
		tests:  true,
		why:    "one package verifies COSE: its list of algorithms and roles cannot be gone around",
	},

	{
		who:    []string{"./..."},
		except: []string{"./crypto/keystore"},
		direct: []string{"github.com/miekg/pkcs11"},
		tests:  true,
		why:    "one package speaks PKCS #11: which PIN may be sent again, and the bounds of calls that can block for ever, are there",
	},

	// registration
	{
		who:    []string{"./registration"},
		direct: join(network, logging, sqlite, []string{"./nfc/...", "./terminal/...", "./whitelist/...", "./sync/...", "./hub/..."}),
		deps:   join(farther, logging, sqlite, []string{"./nfc/...", "./terminal/...", "./whitelist/...", "./sync/...", "./hub/..."}),
		why:    "a record is verified where there is neither card nor terminal, by the hub that has to judge it alone",
	},

	// whitelist
	{
		who:    []string{"./whitelist/..."},
		direct: join(network, logging, []string{"./nfc/...", "./sync/...", "./terminal/...", "./crypto/cardauth"}),
		deps:   join(farther, logging, []string{"./nfc/...", "./sync/...", "./terminal/..."}),
		why:    "a list is the same from wherever it comes and whoever asks it",
	},
	{
		who:  []string{"./whitelist"},
		deps: join(sqlite, []string{"./whitelist/listdb"}),
		why:  "terminal uses the types of a list: SQLite, which holds it, is in whitelist/listdb and not among the dependencies of the tap path",
	},
	{
		who:    []string{"./whitelist/rules"},
		deps:   join(sqlite, []string{"./whitelist", "./nfc/...", "./sync/...", "./terminal/..."}),
		others: true,
		why:    "what a rule means can be read whole, down to the standard library: its facts are handed in, so the list that carries it can check it",
	},

	// terminal
	{
		who:    []string{"./terminal"},
		direct: join(network, logging, sqlite, []string{"./nfc/pcsc", "./sync/...", "./whitelist/listdb", "./terminal/...", "./hub/..."}),
		deps:   join(farther, logging, sqlite, []string{"./nfc/pcsc", "./nfc/vcard/...", "./sync/...", "./whitelist/listdb", "./terminal/gate", "./terminal/journal", "./hub/..."}),
		why:    "the tap path cannot reach a network, provably; reader, list store, journal and gate are interfaces that main fills in",
	},
	{
		who:    []string{"./terminal/..."},
		except: []string{"./terminal/api"},
		direct: join(network, logging, []string{"./nfc/pcsc", "./nfc/vcard/...", "./sync/...", "./whitelist/listdb", "./hub/..."}),
		deps:   join(farther, []string{"./nfc/pcsc", "./nfc/vcard/...", "./sync/...", "./whitelist/listdb", "./hub/...", "./terminal/api"}),
		why:    "gate, journal and roster serve the tap path and know of nothing beyond it",
	},
	{
		who:    []string{"./terminal/api"},
		direct: join(logging, sqlite, []string{"crypto/tls", "net/rpc/...", "net/smtp", "./nfc/pcsc", "./sync/...", "./whitelist/listdb", "./terminal/gate", "./terminal/journal", "./hub/..."}),
		deps:   join(sqlite, []string{"./nfc/pcsc", "./nfc/vcard/...", "./sync/...", "./whitelist/listdb", "./terminal/gate", "./terminal/journal", "./hub/..."}),
		why:    "staff asks over HTTP on a socket of this machine (net and net/http bring log and TLS along); what it asks about is handed in",
	},
	{
		who:    []string{"./terminal/..."},
		except: []string{"./terminal/gate", "./terminal/api"}, // net/http brings package log
		deps:   logging,
		why:    "what happens on the tap path is returned or recorded, never logged; only periph's pin drivers, below the gate, print",
	},
	{
		who:    []string{"./..."},
		except: []string{"./terminal/gate"},
		direct: []string{"periph.io/x/..."},
		tests:  true,
		why:    "one package drives pins: a relay that two of them move is moved without a permit",
	},

	// sync and hub
	{
		who:    []string{"./..."},
		except: []string{"./sync/rescue"},
		direct: []string{"filippo.io/age/..."},
		why:    "one package encrypts to people: what is saved of a terminal, and for whom, is decided there",
	},
	{
		who:    []string{"./sync/..."},
		except: []string{"./sync/claims/claimer"}, // entries and exits are the terminal's
		direct: join(logging, []string{"./nfc/...", "./terminal/...", "./whitelist/listdb", "./crypto/cardauth"}),
		deps:   []string{"./nfc/...", "./terminal/...", "./whitelist/listdb"}, // net/http brings package log
		why:    "what fetches sees sealed lists and never a card",
	},
	{
		who:    []string{"./sync/claims/claimer"},
		direct: join(logging, []string{"./nfc/...", "./whitelist/listdb", "./crypto/...", "./terminal/gate", "./terminal/api"}),
		deps:   []string{"./nfc/pcsc", "./nfc/vcard/...", "./whitelist/listdb", "./terminal/gate", "./terminal/api", "github.com/nats-io/nats-server/..."},
		why:    "what claims for a terminal takes its words and its journal, and neither cards nor gates",
	},
	{
		who:  []string{"./sync/claims"},
		deps: join(sqlite, []string{"github.com/nats-io/nats-server/..."}),
		why:  "the log of claims is the hub's and the terminal's: what either keeps of it is its own",
	},
	{
		who:    []string{"./sync/fetch"},
		direct: []string{"./whitelist/...", "./crypto/..."},
		deps:   []string{"./whitelist/..."},
		why:    "fetch trusts nothing that it carries, so it has nothing to look into it with",
	},
	{
		who:    []string{"./..."},
		except: []string{"./sync/link", "./sync/claims/...", "./hub/bus"},
		direct: []string{"github.com/nats-io/nats.go/..."},
		tests:  true,
		why:    "one package is a terminal's connection and one the hub's: who may say what, and whose message it was, is decided there; claims live in JetStream",
	},
	{
		who:    []string{"./..."},
		except: []string{"./hub/bus", "./sync/claims/claimer"}, // whose tests claim at a real one
		direct: []string{"github.com/nats-io/nats-server/..."},
		tests:  true,
		why:    "the server is the hub's",
	},
	{
		who:  []string{"./sync/...", "./terminal/...", "./cmd/gate-agent"},
		deps: []string{"github.com/nats-io/nats-server/..."},
		why:  "a terminal is a client",
	},
	{
		who:    []string{"./hub/..."},
		direct: []string{"./nfc/pcsc", "./terminal/..."},
		deps:   []string{"./nfc/pcsc", "./terminal/..."},
		why:    "a server has neither reader nor gate",
	},
	{
		who:    []string{"./hub/registry"},
		direct: join(network, logging, []string{"./nfc/...", "./sync/...", "./whitelist/listdb", "./crypto/keystore"}),
		deps:   []string{"./nfc/...", "./sync/...", "./whitelist/listdb", "./crypto/keystore"},
		why:    "the registry knows people and tickets, and neither secrets nor lists: whoever publishes has those (a driver reaches its database)",
	},
	{
		who:    []string{"./hub/ingest"},
		direct: join(network, logging, []string{"./nfc/...", "./hub/...", "./crypto/keystore"}),
		deps:   []string{"./nfc/...", "./hub/registry", "./crypto/keystore", "github.com/nats-io/..."},
		why:    "what keeps events knows neither who may send nor how they came, and no ticket: both are handed in",
	},
	{
		who:    []string{"./sync/upload"},
		direct: join(network, sqlite),
		deps:   join(sqlite, []string{"github.com/nats-io/...", "./whitelist/..."}),
		why:    "what goes up is bytes that nobody reads on the way; journal and connection are handed in",
	},
	{
		who:    []string{"./hub"},
		direct: join(sqlite, []string{"./hub/...", "./crypto/...", "./whitelist/..."}),
		deps:   join(sqlite, []string{"./hub/authority", "./hub/registry", "./hub/publish", "./crypto/...", "./whitelist/..."}),
		why:    "what serves files to the world has no key and no registry behind it, and nothing to look into a file with",
	},
	{
		who:    []string{"./hub/authority"},
		direct: join(sqlite, logging, []string{"net/http/...", "./hub/...", "./crypto/...", "./whitelist/..."}),
		deps:   join(sqlite, logging, []string{"net/http/...", "./hub/...", "./crypto/...", "./whitelist/..."}),
		why:    "what issues certificates has its own key alone, and answers nobody (crypto/tls pairs a key with its certificate)",
	},
	{
		who:    []string{"./sync/enrol"},
		direct: join(sqlite, []string{"./hub/...", "./sync/...", "./whitelist/...", "./crypto/..."}),
		deps:   join(sqlite, []string{"./hub/...", "./sync/...", "./whitelist/...", "./crypto/...", "github.com/nats-io/..."}),
		why:    "what enrols and shows certificates has the standard library's X.509 and TLS, and a key that is handed in: fetch, link and hub build on it",
	},
	{
		who:    []string{"./hub/enrol"},
		direct: join(sqlite, logging, []string{"./hub/publish", "./hub/terminals", "./whitelist/...", "./crypto/..."}),
		why:    "what answers terminals has the authority and the registry behind it, and neither lists nor scope keys",
	},
	{
		who:    []string{"./hub/publish", "./hub/registry", "./hub/terminals"},
		direct: []string{"net", "net/http/...", "crypto/tls", "./hub"},
		why:    "what makes lists, leases and commands answers nobody",
	},

	// programs
	{
		who:  []string{"./cmd/gate-hub"},
		deps: join(virtual, []string{"./nfc/pcsc", "./terminal/gate", "./terminal/api", "testing/..."}),
		why:  "a hub has neither reader nor gate, and contains nothing that can pretend to be a card; its bench has a terminal's list and journal",
	},
	{
		who:  []string{"./cmd/gate-agent"},
		deps: join(virtual, []string{"./hub/...", "testing/...", "github.com/rogpeppe/go-internal/..."}),
		why:  "a production terminal contains nothing that can pretend to be a card, a world or a hub",
	},
	{
		who:    []string{"./..."},
		except: []string{"./cmd/gate-sim", "./nfc/vcard/...", "./nfc/nfctest", "./internal/world", "./internal/pcscd/...", "./internal/smalldisk", "./internal/swtpm", "./internal/nginx", "./internal/halt", "./internal/postgres"},
		deps:   virtual,
		why:    "virtual cards and worlds are for the simulator and for tests",
	},
	{
		who:    []string{"./..."},
		except: []string{"./cmd/...", "./internal/cli/..."}, // what the programs share
		direct: join(logging, []string{"github.com/spf13/...", "./cmd/...", "./internal/words"}),
		why:    "a library returns its errors; logging, flags and sentences for people belong to the programs",
	},
	{
		who:    []string{"./..."},
		except: []string{"./terminal/journal", "./whitelist/listdb", "./hub/registry", "./hub/ingest", "./sync/claims/claimer"},
		direct: sqlite,
		why:    "five packages hold durable state, each with a file or a database that is its own",
	},
	{
		who:    []string{"./terminal/journal", "./whitelist/listdb", "./sync/claims/claimer"},
		direct: []string{"github.com/jackc/..."},
		deps:   []string{"github.com/jackc/..."},
		why:    "a terminal keeps its state in files: PostgreSQL is the hub's",
	},
	{
		who:    []string{"./..."},
		except: []string{"./internal/stricttoml"},
		direct: []string{"github.com/pelletier/go-toml/..."},
		tests:  true,
		why:    "TOML is read strictly, with the line in the error, or not at all",
	},
	{
		who:    []string{"./..."},
		except: []string{"./internal/strictcbor"},
		direct: []string{"github.com/fxamacker/cbor/..."},
		why:    "CBOR is read strictly, in one form, or not at all",
	},
	{
		who:    []string{"./..."},
		direct: []string{"unsafe", "plugin", "C"},
		why:    "cgo stays in the three dependencies that need it (scard, go-sqlite3, pkcs11)",
	},
}
