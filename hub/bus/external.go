package bus

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"unicode"

	"github.com/gate-agent/gate-agent/sync/link"
)

// A Node is a nats-server of its own process: the one that a hub is a client of, or the
// leaf node of a venue. It has whole paths, as they are on its machine.
type Node struct {
	Listen, Store               string
	Certificate, Key, Authority string // files, PEM

	Terminals []Terminal // in force; those of other scopes connect elsewhere

	// Of the server of a hub.
	Leaves string            // HOST:PORT for leaf nodes, "" for none
	Venues map[string]string // JetStream domain of the leaf node, by scope

	// Of the leaf node of a venue.
	Scope, Domain string
	Remote        string // tls://HOST:PORT where the hub's server takes leaf nodes
}

// Text is the configuration of the node. Its users are those of the registry now: when a
// terminal comes or goes it is written again, and the server told to reload it.
func (n Node) Text() ([]byte, error) {
	b := new(strings.Builder)
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	venue := n.Scope != ""
	domain, name := HubDomain, HubName
	if venue {
		domain, name = n.Domain, LeafName(n.Scope)
	}
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("configuration of a nats-server: %w", err)
	}

	line("# A nats-server, 2.%d or newer, for gate-hub: docs/link.md. Made by gate-hub nats config; made", oldest)
	line("# again when a terminal is added, retired or swapped. Then: nats-server --signal reload")
	line("server_name: %s", quoted(name))
	line("listen: %s", quoted(n.Listen))
	line("max_payload: %d", link.MaxMessage)
	line("max_pending: %d", maxPending)
	line("max_subscriptions: %d", maxSubscriptions)
	line("write_deadline: %s", quoted(writeDeadline.String()))
	line("ping_interval: %s", quoted(pingEvery.String()))
	tls := fmt.Sprintf("tls { cert_file: %s, key_file: %s, ca_file: %s, verify_and_map: true, timeout: %d }",
		quoted(n.Certificate), quoted(n.Key), quoted(n.Authority), int(handshake.Seconds()))
	line("%s", tls)
	line("# Claims are on the disk before they are confirmed.")
	line("jetstream { store_dir: %s, domain: %s, max_mem: %d, sync_interval: always }", quoted(n.Store), quoted(domain), memoryStore)
	if n.Leaves != "" {
		line("leafnodes { listen: %s, %s }", quoted(n.Leaves), tls)
	}
	if venue {
		line("leafnodes { remotes: [ { urls: [ %s ], tls { cert_file: %s, key_file: %s, ca_file: %s, timeout: %d } } ] }",
			quoted(n.Remote), quoted(n.Certificate), quoted(n.Key), quoted(n.Authority), int(handshake.Seconds()))
	}
	line("authorization { users: [")
	if !venue {
		line("  { user: %s, allowed_connection_types: [ STANDARD ] }", quoted("CN="+HubName))
	}
	for _, scope := range slices.Sorted(maps.Keys(n.Venues)) {
		b.WriteString(userLine("CN="+LeafName(scope), "LEAFNODE", leafPermissions(scope, n.Venues[scope])))
	}
	terminals := slices.Clone(n.Terminals)
	slices.SortFunc(terminals, func(a, b Terminal) int {
		return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Name, b.Name))
	})
	for _, t := range terminals {
		if _, elsewhere := n.Venues[t.Scope]; elsewhere || venue && t.Scope != n.Scope {
			continue
		}
		publish, subscribe := t.subjects().Permissions()
		line("  # %s", link.Token(t.Name))
		b.WriteString(userLine("CN="+link.ID(t.Identity), "STANDARD", permissions{publish, subscribe}))
	}
	line("] }")
	return []byte(b.String()), nil
}

func (n Node) check() error {
	addresses := []string{n.Listen}
	if n.Leaves != "" {
		addresses = append(addresses, n.Leaves)
	}
	for _, a := range addresses {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			return fmt.Errorf("%q is no address to listen at: want HOST:PORT", a)
		}
	}
	for _, s := range []string{n.Store, n.Certificate, n.Key, n.Authority, n.Remote, n.Listen, n.Leaves} {
		if strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("%q has a character that no configuration can hold", s)
		}
	}
	if n.Scope == "" {
		return nil
	}
	if !IsDomain(n.Domain) || n.Domain == HubDomain {
		return fmt.Errorf("%q is no domain of a venue", n.Domain)
	}
	if n.Leaves != "" || len(n.Venues) > 0 {
		return errors.New("a leaf node has none of its own")
	}
	return nil
}

func userLine(name, kind string, p permissions) string {
	return fmt.Sprintf("  { user: %s, allowed_connection_types: [ %s ], permissions: { publish: { allow: %s }, subscribe: { allow: %s } } }\n",
		quoted(name), kind, quotedList(p.publish), quotedList(p.subscribe))
}

// quoted is a string of a nats-server's configuration.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func quotedList(all []string) string {
	q := make([]string, len(all))
	for i, s := range all {
		q[i] = quoted(s)
	}
	return "[ " + strings.Join(q, ", ") + " ]"
}
