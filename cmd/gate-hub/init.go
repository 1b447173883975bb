package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/crypto/sign1"
	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/registry"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/filename"
	"github.com/gate-agent/gate-agent/internal/stricttoml"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

func initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init DIR --name NAME --scope SCOPE [--host HOST]... [--db URL] [--listen ADDR] [--tls-cert FILE --tls-key FILE]",
		Short: "Make a working hub in a new folder, with nothing else",
		Long: `Init makes a folder with all that a hub needs: its configuration, a registry, a
scope with its keys, an authority for HTTPS, and the folder that is served. It
overwrites nothing: a folder that holds anything is refused.

With --db the registry is a database of PostgreSQL; put its password into a file
(PGPASSFILE) rather than into the URL.
空のフォルダーに、そのまま動くハブを作ります。既にあるものは上書きしません。`,
		Example: `  gate-hub init /var/lib/gate-hub --name Arena --scope arena-2026 --host hub.example.jp
  gate-hub init /var/lib/gate-hub --name Arena --scope arena-2026 --host hub.example.jp --db postgres://gatehub@db.example.jp/gatehub`,
		Args: cli.Args(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "what people call the hub, and its authority for HTTPS")
	f.StringVar(&o.scope, "scope", "", "the first scope: a venue or an event")
	hierarchyFlag(cmd, &o.hierarchy)
	f.StringArrayVar(&o.hosts, "host", nil, "name or address by which terminals reach the hub; may be given again (default this machine's name, localhost and 127.0.0.1)")
	f.StringVar(&o.db, "db", "", "registry in PostgreSQL, postgres://USER@HOST/DATABASE (default SQLite in DIR)")
	f.StringVar(&o.listen, "listen", ":8443", "address to serve at")
	f.StringVar(&o.nats, "nats-listen", ":4222", "address at which terminals connect live; empty for none")
	f.StringVar(&o.certificate, "tls-cert", "", "certificate of another authority, PEM with its chain (default one of the hub's own)")
	f.StringVar(&o.key, "tls-key", "", "its key, PEM")
	o.by.flags(cmd)
	require(cmd, "name", "scope")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if (o.certificate == "") != (o.key == "") {
			return cli.UsageError("--tls-cert and --tls-key go together")
		}
		if err := checkHierarchy(o.hierarchy); err != nil {
			return err
		}
		dir, err := filepath.Abs(a[0])
		if err != nil {
			return err
		}
		s, err := o.init(cmd.Context(), dir)
		if err != nil {
			return err
		}
		return errors.Join(o.next(cmd.OutOrStdout(), s.config), s.Close())
	}
	return cmd
}

type initOptions struct {
	name, scope, hierarchy, db, listen, nats string
	hosts                                    []string
	certificate, key                         string
	by                                       doer
}

func (o *initOptions) init(ctx context.Context, dir string) (_ *site, err error) {
	if len(o.hosts) == 0 {
		o.hosts = []string{"localhost", "127.0.0.1"}
		if name, err := os.Hostname(); err == nil && name != "localhost" {
			o.hosts = append([]string{name}, o.hosts...)
		}
	}
	c, err := o.config(dir)
	if err != nil {
		return nil, err
	}
	// Others pass through it to the files, whatever the umask is; the rest is closed to
	// them. A folder that is there stays as its owner wants it.
	if err := makeFolder(dir, 0o711); err != nil {
		return nil, err
	}
	switch entries, err := os.ReadDir(dir); {
	case err != nil:
		return nil, err
	case len(entries) > 0:
		return nil, cli.RefusedError{Err: fmt.Errorf("%s is not empty: init overwrites nothing; name a new folder", dir)}
	}
	s := &site{config: c, keys: new(keystore.Store)}
	defer func() {
		if err != nil {
			if s.registry != nil {
				err = errors.Join(err, s.Close())
			}
			err = errors.Join(err, empty(dir))
		}
	}()
	if s.registry, err = registry.Open(ctx, c.registryName()); err != nil {
		return nil, cli.ConfigError{Err: err}
	}
	for _, name := range []string{keysFolder, tlsFolder, scopesFolder} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	if err := makeFolder(filepath.Join(dir, "files"), 0o755); err != nil {
		return nil, err
	}
	if err := keystore.GenerateKeySource(filepath.Join(dir, keysFolder, "seal")); err != nil {
		return nil, err
	}
	if err := s.keys.GenerateWrapper(ctx, c.Wrapper); err != nil {
		return nil, err
	}
	if c.AckKey, err = s.makeRoleKey(ctx, filepath.Join(dir, keysFolder), sign1.RoleAck); err != nil {
		return nil, err
	}
	c.AckPublic = []string{filepath.Join(keysFolder, string(sign1.RoleAck)+".pub.pem")}
	if c.Serve.Certificate == "" {
		err = c.makeAuthority(time.Now())
	} else {
		_, err = s.openCertificates(time.Now())
	}
	if err != nil {
		return nil, err
	}
	if err := wholefile.New(filepath.Join(dir, configName), c.text()); err != nil {
		return nil, err
	}
	is := registry.Scope{Name: o.scope, Hierarchy: o.hierarchy}
	usualSettings().apply(&is)
	return s, s.addScope(ctx, o.by.by(), is)
}

// makeFolder makes a folder of a mode, whatever the umask is, where there is none.
func makeFolder(dir string, mode os.FileMode) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

// empty removes what a failed init made in a folder that was empty.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// config is hub.toml of the options.
func (o *initOptions) config(dir string) (_ *config, err error) {
	c := defaults()
	c.folder, c.Name, c.Registry = dir, o.name, o.db
	c.Serve.Listen, c.Serve.Hosts, c.NATS.Listen = o.listen, o.hosts, o.nats
	if c.Registry == "" {
		c.Registry = "sqlite:registry.db"
	}
	for _, p := range []struct{ from, to *string }{{&o.certificate, &c.Serve.Certificate}, {&o.key, &c.Serve.Key}} {
		if *p.from == "" {
			continue
		}
		if *p.to, err = filepath.Abs(*p.from); err != nil {
			return nil, err
		}
	}
	c.Wrapper = "sealed:path=" + escapePath(filepath.Join(dir, keysFolder, "wrap.key")) + ";key-source=" + escapePath(filepath.Join(dir, keysFolder, "seal"))
	if err := c.check(); err != nil {
		return nil, cli.UsageError(err.Error())
	}
	if err := stricttoml.Decode(c.text(), defaults()); err != nil { // a path or a URL with a line break
		return nil, cli.UsageError("the options have characters that no configuration can hold: " + err.Error())
	}
	return c, nil
}

// text is hub.toml.
func (c *config) text() []byte {
	return fmt.Appendf(nil, `# A hub. docs/hub.md describes every key.
name = %s

# What the organiser knows: sqlite:PATH, or postgres://USER@HOST/DATABASE.
registry = %s

# What terminals fetch. Any web server can serve this folder instead.
files = "files"

# What wraps the scope keys: a key URI (docs/keystore.md).
wrapper = %s

# What terminals recorded and sent: sqlite:PATH, or postgres://USER@HOST/DATABASE.
# "" is beside the registry: events.db, or the same database.
events = %s
# What acknowledges it: a key URI, and the public keys by which terminals know it.
ack_key = %s
ack_public = [%s]

[serve]
listen = %s
# Names and addresses by which terminals reach this hub, for the certificate of
# the hub's own authority, tls/ca.pem.
hosts = [%s]
# A certificate of another authority, and its key. "" is the hub's own.
certificate = %s
key = %s
# Terminals that have enrolled show a certificate, and then get the files of their own
# scope alone. "required" gives nobody else any.
client_certificates = %s
# Plain HTTP, only for a proxy on this machine that speaks HTTPS: "127.0.0.1:8080".
plain_http = ""
max_connections = %d
# How often the registry is asked for changes, and how long files stay that no
# list names any more.
poll = "%v"
keep = "%v"
# How long cards stay whose certificates have ended; "0s" is until somebody runs
# gate-hub holder clean.
keep_expired = "%v"

# Terminals connect live (docs/link.md): to a server in this hub, or to another one.
[nats]
listen = %s
store = %s
# Leaf nodes of venues connect here: ":7422".
leaves = %s
# Copies of the claims, in a cluster of servers.
replicas = %d
# Another nats-server, tls://HOST:PORT, in the place of the hub's own: then listen = "".
url = %s
`, quote(c.Name), quote(c.Registry), quote(c.Wrapper), quote(c.Events), quote(c.AckKey), quotes(c.AckPublic), quote(c.Serve.Listen), quotes(c.Serve.Hosts),
		quote(c.Serve.Certificate), quote(c.Serve.Key), quote(c.Serve.Clients), c.Serve.MaxConnections, c.Serve.Poll, c.Serve.Keep, c.Serve.KeepExpired,
		quote(c.NATS.Listen), quote(c.NATS.Store), quote(c.NATS.Leaves), c.NATS.Replicas, quote(c.NATS.URL))
}

// quotes are texts as an array of TOML has them.
func quotes(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = quote(s)
	}
	return strings.Join(quoted, ", ")
}

// makeAuthority makes the hub's authority for HTTPS, and its first certificate.
func (c *config) makeAuthority(at time.Time) error {
	a, err := authority.Create(filepath.Join(c.folder, tlsFolder), c.Name, at)
	if err != nil {
		return err
	}
	_, _, err = a.Server(c.Serve.Hosts, at)
	return err
}

// next says what to do next, in both languages: here people look.
func (o *initOptions) next(w io.Writer, c *config) error {
	folder := c.scopeFolder(o.scope)
	_, port, _ := net.SplitHostPort(c.Serve.Listen)
	source := "https://" + net.JoinHostPort(c.Serve.Hosts[0], port) + "/" + filename.Of(o.scope) + "/"
	_, err := fmt.Fprintf(w, `hub       %s
scope     %s (%s)
list key  %s
lease key %s
source    %s

Next / 次にすること:
  1. Start it / 起動する
       gate-hub serve --config %[1]s
  2. Bring in tickets / チケットを取り込む
       gate-hub ticket import tickets.csv --config %[1]s
  3. Enrol each terminal with a token of its own / 端末ごとの登録トークンで登録する
       gate-hub terminal token gate-1 --out gate-1.token --config %[1]s
       gate-agent enrol --token-file gate-1.token --config /etc/gate-agent/config.toml    (there / 端末で)
  4. A terminal that does not enrol: gate-hub terminal add, and give it the public keys
     above, %[7]s and the source (docs/hub.md)
     登録トークンを使わない端末には、上の公開鍵と認証局の証明書と取得元を設定する
  5. Name the authorities of cards in %[9]s, and bring in what they have revoked: until then
     gates warn that nobody knows / カードの認証局を設定し、失効情報を取り込む
       gate-hub revocation import --crl jpki.crl --config %[1]s

Keep a copy of %[8]s in a safe place: without it no list can be made.
鍵の控えを安全な場所に保管してください。失うと名簿を作れません。
`, c.folder, o.scope, o.hierarchy, filepath.Join(folder, "list.pub.pem"), filepath.Join(folder, "lease.pub.pem"), source, c.authorityWords(),
		filepath.Join(c.folder, keysFolder)+" and "+filepath.Join(c.folder, scopesFolder), filepath.Join(folder, scopeName))
	return err
}

func (c *config) authorityWords() string {
	if c.Serve.Certificate != "" {
		return "the certificate of your authority"
	}
	return filepath.Join(c.folder, tlsFolder, authority.RootFile)
}
