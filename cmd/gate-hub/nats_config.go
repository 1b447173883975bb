package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/authority"
	"github.com/gate-agent/gate-agent/hub/bus"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/smallfile"
	"github.com/gate-agent/gate-agent/internal/wholefile"
)

func natsCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "nats", Short: "A nats-server of its own, and leaf nodes of venues"}, natsConfigCommand())
}

// Files that nats config makes.
const (
	natsFile     = "nats.conf"
	natsCertFile = "server.pem"
	natsKeyFile  = "server.key"
	natsStore    = "jetstream"
)

func natsConfigCommand() *cobra.Command {
	var o natsOptions
	cmd := &cobra.Command{
		Use:   "config DIR --host NAME --config FILE [--venue SCOPE --remote URL]",
		Short: "Make the configuration of a nats-server from the registry, with its certificate",
		Long: `Config makes all that a nats-server (2.11 or newer) needs, in a folder: nats.conf, with
each terminal in force and what it may say and hear, a certificate for the server by the
hub's authority, and its key. Bring the folder to the server's machine, to the place that
--dir names, and run nats-server -c nats.conf.

Without --venue it is the server that nats.url of hub.toml names. With it, it is the leaf
node of that scope's venue, which keeps the venue's claims: nats.venues has its domain, and
--remote is where the hub's server takes leaf nodes.

Run it again when a terminal was added, retired or swapped, and once a year for the
certificate; then nats-server --signal reload. Who is not in force is cut off by that.
外部の nats-server や会場のリーフノードの設定を、台帳から作ります。`,
		Example: `  gate-hub nats config nats --host nats.example.jp --leaves :7422 --config /var/lib/gate-hub
  gate-hub nats config leaf --host gates.arena.example.jp --venue arena-2026 --remote tls://hub.example.jp:7422 --config /var/lib/gate-hub`,
		Args: cli.Args(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.hosts, "host", nil, "name or address by which terminals reach the server; may be given again")
	require(cmd, "host")
	f.StringVar(&o.listen, "listen", "0.0.0.0:4222", "address at which it listens")
	f.StringVar(&o.leaves, "leaves", "", "address at which it takes leaf nodes of venues; empty for none")
	f.StringVar(&o.dir, "dir", "", "the folder on the server's machine (default DIR)")
	f.StringVar(&o.venue, "venue", "", "scope whose leaf node it is")
	f.StringVar(&o.remote, "remote", "", "tls://HOST:PORT to which the leaf node connects")
	cmd.RunE = withSite(func(cmd *cobra.Command, s *site, a []string) error { return o.make(cmd, s, a[0]) })
	return cmd
}

type natsOptions struct {
	hosts                              []string
	listen, leaves, dir, venue, remote string
}

func (o *natsOptions) check() error {
	switch {
	case (o.venue == "") != (o.remote == ""):
		return cli.UsageError("--venue and --remote go together")
	case o.venue != "" && o.leaves != "":
		return cli.UsageError("--leaves and --venue: a leaf node takes none")
	case o.remote != "" && !isNATS(o.remote):
		return cli.UsageError(fmt.Sprintf("--remote is %q: write tls://HOST:PORT", o.remote))
	}
	for _, h := range o.hosts {
		if !isHost(h) {
			return cli.UsageError(fmt.Sprintf("--host %q: write a name such as nats.example.jp or an IP address, without a port", h))
		}
	}
	for name, addr := range map[string]string{"--listen": o.listen, "--leaves": o.leaves} {
		if _, _, err := net.SplitHostPort(addr); addr != "" && err != nil {
			return cli.UsageError(fmt.Sprintf("%s is %q: write HOST:PORT or :PORT", name, addr))
		}
	}
	return nil
}

func (o *natsOptions) make(cmd *cobra.Command, s *site, folder string) error {
	if err := o.check(); err != nil {
		return err
	}
	own, err := s.authority()
	if err != nil {
		return err
	}
	there := o.dir
	if there == "" {
		if there, err = filepath.Abs(folder); err != nil {
			return err
		}
	}
	in := func(name string) string { return filepath.Join(there, name) }
	n := bus.Node{
		Listen: o.listen, Leaves: o.leaves, Store: in(natsStore), Remote: o.remote,
		Certificate: in(natsCertFile), Key: in(natsKeyFile), Authority: in(authority.RootFile),
	}
	name := "nats-server"
	if o.venue == "" {
		n.Venues = s.domains()
	} else {
		v, ok := s.NATS.venue(o.venue)
		if !ok {
			return cli.ConfigError{Err: fmt.Errorf("nats.venues has no scope %q: name it there, with its domain and address", o.venue)}
		}
		n.Scope, n.Domain, name = v.Scope, v.Domain, bus.LeafName(v.Scope)
	}
	if n.Terminals, err = bus.Of(s.registry).InForce(cmd.Context()); err != nil {
		return err
	}
	text, err := n.Text()
	if err != nil {
		return err
	}
	certificate, key, err := own.Node(name, o.hosts, time.Now())
	if err != nil {
		return err
	}
	root, err := smallfile.Read(filepath.Join(s.folder, tlsFolder, authority.RootFile), maxFile, 0)
	if err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{natsKeyFile, key}, {natsCertFile, certificate}, {authority.RootFile, root}, {natsFile, text}} {
		if err := wholefile.Replace(filepath.Join(folder, file.name), file.content); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is made. On the server's machine / サーバーで:\n  nats-server -c %s                    (the first time / 初回)\n  nats-server --signal reload          (when it runs / 実行中のとき)\n",
		filepath.Join(folder, natsFile), in(natsFile))
	return err
}
