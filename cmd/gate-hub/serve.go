package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/hub/publish"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func serveCommand() *cobra.Command {
	var plain string
	cmd := &cobra.Command{
		Use:   "serve [DIR] [--config FILE] [--plain-http ADDR]",
		Short: "Publish what changes, and serve it over HTTPS",
		Long: `Serve asks the registry every few seconds what changed, publishes it, and serves the
files to terminals over HTTPS, until SIGINT or SIGTERM. A list without changes is
renewed when half of its life is over.

With --plain-http it serves no HTTPS: for a proxy on this machine that does. What
terminals fetch is signed, but whoever stands between could withhold it.
台帳の変更を数秒ごとに公開し、HTTPS で配ります。`,
		Example: "  gate-hub serve --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&plain, "plain-http", "", "serve plain HTTP at this address, behind a proxy, and no HTTPS")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if len(a) == 1 {
			if cmd.Flags().Changed("config") {
				return cli.UsageError("DIR and --config are the same: give one")
			}
			if err := cmd.Flags().Set("config", a[0]); err != nil {
				return err
			}
		}
		return withSite(func(cmd *cobra.Command, s *site, _ []string) error {
			if plain != "" {
				s.Serve.PlainHTTP = plain
			}
			return s.serve(cmd.Context(), newLogger())
		})(cmd, nil)
	}
	return cmd
}

// newLogger logs to standard error: text on a terminal, JSON elsewhere.
func newLogger() *slog.Logger {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, nil))
}

// serve runs publisher and server until ctx ends, or one of them cannot go on.
func (s *site) serve(ctx context.Context, log *slog.Logger) (err error) {
	root, err := os.OpenRoot(s.path(s.Files))
	if err != nil {
		return cli.ConfigError{Err: fmt.Errorf("files: %w", err)}
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	state := &health{scopes: make(map[string]string)}
	handler := http.Handler(hub.NewHandler(root, state.err))
	server := hub.NewServer(handler)
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	addr := s.Serve.PlainHTTP
	var certificates *certificates
	if addr == "" {
		addr = s.Serve.Listen
		if certificates, err = s.openCertificates(time.Now()); err != nil {
			return cli.ConfigError{Err: err}
		}
		own, err := s.authority()
		if err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: certificates.get,
			ClientAuth: tls.RequestClientCert, ClientCAs: own.Pool(), // whose, package hub/enrol says
		}
		server.Handler = s.known(handler, own, log)
	}
	if err := s.checkBus(); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if s.bus, err = s.openBus(ctx, log); err != nil {
		return errors.Join(err, l.Close())
	}
	if s.bus != nil {
		defer func() { err = errors.Join(err, s.bus.Close()) }()
		log.Info("terminals are connected live", "nats", s.bus.Address(), "url", s.NATS.URL)
	}
	in, err := s.openIntake(ctx, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if in != nil {
		defer func() { err = errors.Join(err, in.Close()) }()
	}
	log.Info("starting", "version", cli.Version(), "hub", s.Name, "address", l.Addr().String(), "https", server.TLSConfig != nil, "files", s.path(s.Files))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.publishAll(ctx, log, state) })
	if s.bus != nil {
		var events *ingest.Store
		if in != nil {
			events = in.Store
		}
		wg.Go(func() { s.followBus(ctx, log, events) })
	}
	if in != nil {
		wg.Go(func() { s.takeIn(ctx, log, in) })
	}
	if certificates != nil {
		wg.Go(func() { certificates.follow(ctx, log) })
	}
	err = hub.Serve(ctx, server, l, s.Serve.MaxConnections)
	cancel(err)
	log.Info("stopped")
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// health is what is wrong with each scope, "" for nothing.
type health struct {
	mu     sync.Mutex
	scopes map[string]string
}

func (h *health) set(scope, problem string) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.scopes[scope] != problem
	h.scopes[scope] = problem
	return changed
}

func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for name, problem := range h.scopes {
		if problem != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("not published: %q; see the log", names) // the reason is for those who run the hub
}

// publishAll does in every scope what is due, until ctx ends. A scope waits for no other
// one: its list may have a million rows, its folder another publisher, its key a card that
// is slow. What writes into the registry goes one after the other there, so that no more
// than one list is built at a time, whatever the number of scopes.
func (s *site) publishAll(ctx context.Context, log *slog.Logger, state *health) {
	scopes := make(map[string]*duty)
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		for _, d := range scopes {
			d.close(log)
		}
	}()
	tick := time.NewTicker(s.Serve.Poll.Duration)
	defer tick.Stop()
	for {
		// A file with a mistake stops its own scope and no other.
		names, err := s.scopes()
		if err != nil && state.set(scopesFolder, err.Error()) {
			log.Error("scopes cannot be read", "error", err)
		} else if err == nil {
			state.set(scopesFolder, "")
		}
		for _, name := range names {
			d := scopes[name]
			if d == nil {
				d = &duty{attempt: attempt{scope: name}}
				scopes[name] = d
			}
			if d.turn.TryLock() { // else it is at it
				wg.Go(func() {
					defer d.turn.Unlock()
					d.do(ctx, s, log.With("scope", name), state)
				})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// A duty is what is to be done in one scope, one thing after the other: a lease of a new
// scope key comes behind the list that is sealed with it.
type duty struct {
	turn sync.Mutex
	attempt
	leases leasing
	ended  cleaning
}

func (d *duty) do(ctx context.Context, s *site, log *slog.Logger, state *health) {
	d.ended.run(ctx, s, log, d.scope)
	if now := time.Now(); !now.Before(d.next) {
		d.run(ctx, s, log, state)
	}
	if ctx.Err() == nil {
		d.leases.run(ctx, s, log, d.scope)
	}
}

// An attempt is how publishing one scope goes. One that cannot be published is told once,
// and tried again, ever less often.
type attempt struct {
	scope  string
	open   *publisher
	failed int       // in a row
	next   time.Time // not before
	told   string    // what was said last of who signs
}

const (
	maxBackoff  = time.Minute
	logProgress = 10 * time.Second // of a long publication
)

func (a *attempt) run(ctx context.Context, s *site, log *slog.Logger, state *health) {
	err := a.publish(ctx, s, log)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if state.set(a.scope, err.Error()) {
			log.Error("publishing failed", "error", err)
		}
		a.failed++
		a.next = time.Now().Add(min(maxBackoff, s.Serve.Poll.Duration<<min(a.failed, 10)))
		a.close(log) // a key or a disk may be there again when it is opened anew
	default:
		if a.failed > 0 {
			log.Info("publishing works again")
		}
		a.failed, a.next = 0, time.Time{}
		state.set(a.scope, "")
	}
}

func (a *attempt) close(log *slog.Logger) {
	if a.open == nil {
		return
	}
	if err := a.open.Close(); err != nil {
		log.Error("closing", "scope", a.scope, "error", err)
	}
	a.open = nil
}

func (a *attempt) publish(ctx context.Context, s *site, log *slog.Logger) error {
	// The files of a scope are changed by people while the hub runs.
	c, err := s.loadScope(a.scope)
	if err != nil {
		return err
	}
	if a.open != nil && a.open.config.text != c.text {
		a.close(log)
	}
	if a.open == nil {
		if a.open, err = s.openPublisher(ctx, a.scope, true); err != nil {
			return err
		}
	}
	p := a.open
	if p.Signers, err = c.signers(); err != nil {
		return err
	}
	now := time.Now()
	if p.key == nil {
		due, err := p.Due(ctx, now)
		if due != "" {
			a.tell(log, "list is due, and signed elsewhere: gate-hub list export", "why", due)
		}
		return err
	}
	p.Progress = every(logProgress, func(doing publish.Doing, rows uint64) { log.Info("publishing", "rows", rows, "done", string(doing)) })
	d, why, err := p.PublishDue(ctx, p.key, now)
	if err != nil || why == "" {
		return err
	}
	m := d.Manifest
	log.Info("published", "why", why, "epoch", m.Epoch, "seq", m.Seq, "rows", m.Rows, "added", d.Added, "changed", d.Changed, "gone", d.Gone,
		"bytes", d.Written, "not_after", m.NotAfter)
	s.poke(m.Scope, log)
	end, err := warnEnd(p, m.Scope, m.Hierarchy, m)
	if end != "" {
		a.tell(log, end)
	}
	return err
}

// tell warns once of one thing.
func (a *attempt) tell(log *slog.Logger, what string, args ...any) {
	if said := fmt.Sprint(what, args); said != a.told {
		a.told = said
		log.Warn(what, args...)
	}
}
