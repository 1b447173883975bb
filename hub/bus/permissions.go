package bus

import "github.com/gate-agent/gate-agent/sync/link"

// leafPrefix stands before the token of a scope in the name of its venue's leaf node.
const leafPrefix = "leaf-"

// LeafName is CN of the certificate of a venue's leaf node.
func LeafName(scope string) string { return leafPrefix + link.Token(scope) }

// IsDomain says whether a name can be one of a JetStream domain.
func IsDomain(s string) bool { return s == link.Token(s) }

// permissions are the subjects that somebody may publish to and hear.
type permissions struct{ publish, subscribe []string }

// leafPermissions are what passes between the hub and the leaf node of a venue: what the
// venue's terminals say and are told, and the hub's way to the claims that are kept there.
func leafPermissions(scope, domain string) permissions {
	s := link.Token(scope)
	return permissions{
		publish: []string{
			"gate." + s + ".*.events", "gate." + s + ".*.health", "gate." + s + ".*.live",
			hubInbox + ".>",
		},
		subscribe: []string{
			link.PokeOf(scope), "_INBOX." + s + ".>",
			"$JS." + domain + ".API.>", "$JS.FC.KV_claims_" + s + ".>",
		},
	}
}
