package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/internal/procfs"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/sync/fetch"
	"github.com/gate-agent/gate-agent/whitelist"
)

func fleetCommand() *cobra.Command {
	var f fleet
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Let a fleet of terminals ask one hub for its manifest",
		Long: `Fleet starts the file server of a hub in a process of its own, over plain HTTP on
this machine, and has each terminal ask it for the manifest three times: when it has
none, when nothing has changed, and when there is a new one. Each asks with the code
of the agent, over a connection of its own. They come as fast as the hub answers, so
that requests_per_s is what it can do beside the fleet on this machine's cores.`,
		Example: "  gate-sim fleet --terminals 10000",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().IntVar(&f.terminals, "terminals", 10000, "how many, 1 to 1000000")
	cmd.Flags().IntVar(&f.atOnce, "at-once", 64, "how many ask at one time")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.terminals < 1 || f.terminals > 1000000 || f.atOnce < 1 || f.atOnce > 10000 {
			return cli.UsageError("--terminals wants 1 to 1000000, and --at-once 1 to 10000")
		}
		f.program, f.progress = itself, cmd.ErrOrStderr()
		r, err := f.run(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		} else {
			r.print(cmd.OutOrStdout())
		}
		if err == nil && r.Errors > 0 {
			err = fmt.Errorf("%d of %d requests failed, the first with: %w", r.Errors, r.requests, f.first)
		}
		return err
	}
	return cmd
}

// A fleet is terminals that poll.
type fleet struct {
	terminals, atOnce int
	program           func(args ...string) *exec.Cmd // gate-sim, for the hub
	progress          io.Writer

	errors atomic.Int64
	once   sync.Once
	first  error // why the first request failed
}

// A fleetReport is what came of it.
type fleetReport struct {
	Terminals   int     `json:"terminals"`
	RequestsPS  float64 `json:"requests_per_s"`
	Errors      int64   `json:"errors"`
	HubRSSMB    float64 `json:"hub_rss_mb"` // the most it ever had
	HubCPUS     float64 `json:"hub_cpu_s"`
	requests    int
	elapsed     time.Duration
	manifestLen int
}

func (r fleetReport) print(w io.Writer) {
	each := r.HubCPUS / float64(r.requests)
	fmt.Fprintf(w, `%d terminals, %d requests in %.1f s: %.0f a second; %d failed
the hub had %.1f MB of memory at most, and took %.1f s of processor time: %.0f µs a request
a terminal that asks once a minute: %.0f a second for this fleet, %.2f of one core
one core of the hub would answer %.0f terminals
a manifest of %d bytes that has changed: %.1f MB for the whole fleet
`, r.Terminals, r.requests, r.elapsed.Seconds(), r.RequestsPS, r.Errors,
		r.HubRSSMB, r.HubCPUS, each*1e6,
		float64(r.Terminals)/60, float64(r.Terminals)/60*each, 60/each,
		r.manifestLen, float64(r.manifestLen)*float64(r.Terminals)/1e6)
}

func (f *fleet) run(ctx context.Context) (r fleetReport, err error) {
	folder, err := os.MkdirTemp("", "gate-sim-fleet")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	manifests, err := fleetManifests()
	if err != nil {
		return r, err
	}
	path := filepath.Join(folder, world.Scope, "manifest")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		return r, err
	}
	publish := func(b []byte) error {
		if err := os.WriteFile(path+".new", b, 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	h, err := startFleetHub(f.program("fleet-hub", folder))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()

	terminals := make([]*fetch.Source, f.terminals)
	for i := range terminals {
		if terminals[i], err = fetch.New("http://"+h.addr+"/"+world.Scope, fetch.Options{Dial: dialFrom(i)}); err != nil {
			return r, err
		}
	}
	before, err := procfs.CPUTime(h.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	begun := time.Now()
	for _, round := range []struct {
		name     string
		manifest []byte
		want     error
	}{
		{"first manifest", manifests[0], nil},
		{"unchanged", manifests[0], fetch.ErrUnchanged},
		{"new manifest", manifests[1], nil},
	} {
		if err := publish(round.manifest); err != nil {
			return r, err
		}
		at := time.Now()
		f.round(ctx, terminals, round.manifest, round.want)
		if err := ctx.Err(); err != nil {
			return r, err
		}
		fmt.Fprintf(f.progress, "%-14s %d requests, %.0f a second\n", round.name, len(terminals), float64(len(terminals))/time.Since(at).Seconds())
		r.requests += len(terminals)
	}
	r.elapsed = time.Since(begun)
	after, err := procfs.CPUTime(h.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	r.Terminals, r.Errors, r.manifestLen = f.terminals, f.errors.Load(), len(manifests[1])
	r.RequestsPS, r.HubCPUS = float64(r.requests)/r.elapsed.Seconds(), (after - before).Seconds()
	peak, err := procfs.PeakRSS(h.cmd.Process.Pid)
	r.HubRSSMB = float64(peak) / 1e6
	return r, err
}

// round has every terminal ask once.
func (f *fleet) round(ctx context.Context, terminals []*fetch.Source, manifest []byte, want error) {
	next := make(chan *fetch.Source)
	var wg sync.WaitGroup
	for range f.atOnce {
		wg.Go(func() {
			for t := range next {
				a, err := t.Get(ctx, "manifest", whitelist.MaxHead)
				switch {
				case !errors.Is(err, want):
					f.fail(err)
				case err == nil && string(a.Body) != string(manifest):
					f.fail(errors.New("another manifest came"))
				case err == nil:
					a.Keep()
				}
				t.Close() // a minute later the hub has closed it too
			}
		})
	}
	for _, t := range terminals {
		select {
		case next <- t:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
}

func (f *fleet) fail(err error) {
	f.errors.Add(1)
	f.once.Do(func() { f.first = err })
}

// dialFrom gives terminal i an address of its own in 127.0.0.0/8: one address has
// not ports enough for as many connections as a fleet makes in a minute.
func dialFrom(i int) func(context.Context, string, string) (net.Conn, error) {
	from := net.IPv4(127, 1, byte(i>>6), byte(1+i&63))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctrl := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		})
		return errors.Join(ctrl, err)
	}}
	return d.DialContext
}

// fleetManifests are two manifests, one after the other, of a list that has been
// published for a while: with as many deltas as a hub names.
func fleetManifests() (two [2][]byte, err error) {
	w, err := world.New(time.Now())
	if err != nil {
		return two, err
	}
	m := w.Manifest
	m.Seq, m.Rows, m.ScopeKeyCheck = 1000, 1000000, w.ScopeKey.Check()
	m.Set.Seq, m.Snapshot = 1000, whitelist.Snapshot{Seq: 900, Size: 800 << 20}
	for i := range uint64(48) {
		m.Deltas = append(m.Deltas, whitelist.Delta{From: 952 + i, To: 953 + i, Size: 8 << 20})
	}
	m.Deltas[0].From = 900
	for i := range two {
		if two[i], err = m.Sign(w.ListKey, nil); err != nil {
			return two, err
		}
		m.Seq++
	}
	return two, nil
}
