// Package link is the one connection of a terminal to its hub, over NATS: what it
// is called there, and what it may say and hear. docs/link.md describes it.
package link

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// tokenChars may stand in a token of a subject and in the name of a bucket.
const tokenChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// maxToken bounds a token in bytes.
const maxToken = 64

// Token is a name as a token of a subject: the name itself where it has at most 64
// letters and digits of ASCII, hyphens and underscores, and begins with no
// underscore; else an underscore and the first 16 bytes of its SHA-256 in
// hexadecimal. Different names have different tokens.
func Token(name string) string {
	if name != "" && len(name) <= maxToken && name[0] != '_' && strings.Trim(name, tokenChars) == "" {
		return name
	}
	digest := sha256.Sum256([]byte(name))
	return "_" + hex.EncodeToString(digest[:16])
}

// ID is a terminal's name in certificates and inboxes: the first 16 bytes of the
// SHA-256 of its identity key (SubjectPublicKeyInfo in DER), in hexadecimal.
func ID(spki []byte) string {
	digest := sha256.Sum256(spki)
	return hex.EncodeToString(digest[:16])
}

// Subjects of a terminal.
type Subjects struct {
	Events string // requests: a batch of its journal, answered by an acknowledgement
	Health string // heartbeats
	Live   string // each decision at once, at most once
	Poke   string // the hub says that there is a new list, to all of the scope
	Inbox  string // prefix of its inboxes
	Bucket string // claims of its scope, a bucket of keys and values
}

// SubjectsOf are those of a terminal with an identity key in a scope.
func SubjectsOf(scope, terminal string, spki []byte) Subjects {
	s := Token(scope)
	own := "gate." + s + "." + Token(terminal)
	return Subjects{
		Events: own + ".events", Health: own + ".health", Live: own + ".live",
		Poke: PokeOf(scope), Inbox: "_INBOX." + s + "." + ID(spki), Bucket: "claims_" + s,
	}
}

// PokeOf is the subject at which a scope hears that there is a new list.
func PokeOf(scope string) string { return "hub." + Token(scope) + ".poke" }

// Permissions are the subjects that a terminal may publish to and hear, and no
// others: those of its own, and the claims of its scope, of which it may write and
// read but neither make, change nor delete the stream.
func (s Subjects) Permissions() (publish, subscribe []string) {
	stream := "KV_" + s.Bucket
	return []string{
			s.Events, s.Health, s.Live,
			"$KV." + s.Bucket + ".*.*",
			"$JS.API.STREAM.INFO." + stream,
			"$JS.API.CONSUMER.CREATE." + stream + ".>",
			"$JS.API.CONSUMER.DELETE." + stream + ".*",
			"$JS.API.CONSUMER.INFO." + stream + ".*",
			"$JS.API.DIRECT.GET." + stream + ".>",
			"$JS.FC." + stream + ".>",
		}, []string{
			s.Inbox + ".>", s.Poke,
		}
}

// Genuine says whether a message came from the terminal itself: it names an inbox of the
// terminal's to answer to. Permissions bind what a terminal publishes, and not where
// JetStream sends what a terminal asks it for, which may be any subject: with the answer
// to a read, which names no inbox, or as a delivery, which names one of JetStream's.
func (s Subjects) Genuine(reply string) bool { return strings.HasPrefix(reply, s.Inbox+".") }
