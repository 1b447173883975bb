package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub/ingest"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/sync/link"
)

func claimsCommand() *cobra.Command {
	return cli.Group(&cobra.Command{Use: "claims", Short: "The log by which one ticket goes through one gate"}, claimsShowCommand(), claimsRebuildCommand())
}

// claimsPath is where the running hub answers about claims.
const claimsPath = "/claims"

func claimsShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show TICKET --config FILE [--scope NAME] [--json]",
		Short: "Show the log of a ticket: who came in and went out, at which gate",
		Long: `Show asks the running hub for the log that the gates of the venue share
(docs/claims.md), of one ticket: who came in and went out, in the order in which the gates
wrote it. 券の入退場の記録 (会場の各ゲートで共有) を表示します。`,
		Example: "  gate-hub claims show T-1 --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, a []string) error {
		var log claimsLog
		if err := s.ask(cmd.Context(), http.MethodGet, claimsPath+"?"+url.Values{"scope": {scope}, "entitlement": {a[0]}}.Encode(), &log); err != nil {
			return err
		}
		return printReport(cmd.OutOrStdout(), log, *asJSON, false)
	})
	return cmd
}

func claimsRebuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rebuild --config FILE [--scope NAME] [--json]",
		Short: "Make the log of a scope again, from what its terminals have sent",
		Long: `Rebuild has the running hub make the log that the gates of a venue share again, in a new
stream, from the events that it holds. What the log had is lost, and what terminals have not
sent yet they tell by themselves afterwards. Meanwhile every gate is apart, and does as the
policy of its zone says (docs/claims.md); it takes about a second for 500 entries.

For a stream that is lost or damaged, or that a certificate in wrong hands has written to.
共有の入退場記録を、受信済みのイベントから作り直します。その間、各ゲートは単独で判断します。`,
		Example: "  gate-hub claims rebuild --config /var/lib/gate-hub",
		Args:    cli.Args(cobra.NoArgs),
	}
	asJSON := jsonFlag(cmd)
	withScope(cmd, func(cmd *cobra.Command, s *site, scope string, _ []string) error {
		var r rebuilt
		if err := s.ask(cmd.Context(), http.MethodPost, claimsPath+"?"+url.Values{"scope": {scope}}.Encode(), &r); err != nil {
			return err
		}
		return answer(cmd.OutOrStdout(), *asJSON, r, [2]string{"scope", r.Scope}, [2]string{"written", fmt.Sprintf("%d records", r.Records)})
	})
	return cmd
}

// A claimsLog is the log of a ticket, as claims show prints it.
type claimsLog struct {
	Scope       string        `json:"scope"`
	Entitlement string        `json:"entitlement"`
	Records     []claimsEntry `json:"records"`
}

// A claimsEntry is one number of it.
type claimsEntry struct {
	N uint64 `json:"n"`
	claims.Record
	Problem string `json:"problem,omitempty"` // why it cannot be read
}

func (l claimsLog) table() table {
	t := table{head: []string{"n", "kind", "gate", "terminal", "at", "people", "of", "note"}}
	for _, e := range l.Records {
		note := e.Problem
		switch {
		case e.Late:
			note = "late"
		case e.Doubt:
			note = "doubt"
		}
		of := ""
		if e.Of > 0 {
			of = strconv.FormatUint(e.Of, 10)
		}
		t.rows = append(t.rows, []string{
			strconv.FormatUint(e.N, 10), string(e.Kind), e.Gate, e.Terminal, rfc3339(e.At), strconv.FormatUint(uint64(e.People), 10), of, note,
		})
	}
	return t
}

type rebuilt struct {
	Scope   string `json:"scope"`
	Records int    `json:"records"`
}

// bucket is the name of a scope's claims.
func bucket(scope string) string { return link.SubjectsOf(scope, "", nil).Bucket }

// claimsOf reads the log of a ticket. It is the running hub that does.
func (s *site) claimsOf(ctx context.Context, scope, entitlement string) (claimsLog, error) {
	l := claimsLog{Scope: scope, Entitlement: entitlement, Records: []claimsEntry{}}
	js, err := s.bus.JetStream(scope)
	if err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := claims.Open(ctx, js, bucket(scope))
	if err != nil {
		return l, err
	}
	log, err := b.Log(ctx, scope, entitlement)
	for _, e := range log {
		entry := claimsEntry{N: e.N, Record: e.Record}
		if e.Err != nil {
			entry.Problem = e.Err.Error()
		}
		l.Records = append(l.Records, entry)
	}
	return l, err
}

// rebuildClaims makes the logs of a scope again. It is the running hub that does.
func (s *site) rebuildClaims(ctx context.Context, events *ingest.Store, scope string) (rebuilt, error) {
	if events == nil {
		return rebuilt{}, errors.New("this hub takes no events in: ack_key of hub.toml is empty")
	}
	js, err := s.bus.JetStream(scope)
	if err != nil {
		return rebuilt{}, err
	}
	s.buckets.Lock()
	defer s.buckets.Unlock()
	n, err := claims.Rebuild(ctx, js, bucket(scope), scope, s.NATS.Replicas, recordsOf(events.Told(ctx, scope)))
	return rebuilt{scope, n}, err
}

// recordsOf are the records that terminals would have written of passages.
func recordsOf(told iter.Seq2[ingest.Told, error]) iter.Seq2[claims.Record, error] {
	return func(yield func(claims.Record, error) bool) {
		for t, err := range told {
			if err != nil {
				yield(claims.Record{}, err)
				return
			}
			r := claims.Record{
				Kind: claims.Entry, Entitlement: t.Entitlement, Writer: claims.Writer{Terminal: t.Terminal, Incarnation: t.Incarnation}, ID: t.ClaimID,
				Gate: t.Gate, Zone: t.Zone, At: t.At, People: t.People, Reentry: t.Reentry, Late: true, Reservation: t.Seq,
			}
			if r.ID == "" {
				r.ID = fmt.Sprint("r", t.Seq)
			}
			if t.Exit {
				r.Kind = claims.Exit
			}
			if !yield(r, nil) {
				return
			}
			if !t.Settled {
				continue
			}
			settle := claims.Record{
				Kind: claims.Settle, Entitlement: r.Entitlement, Writer: r.Writer, ID: r.ID, At: t.At, People: t.Passed, Doubt: t.Doubt, Reservation: t.Seq,
			}
			if !yield(settle, nil) {
				return
			}
		}
	}
}

// keepBuckets makes the bucket of each scope where there is none, until ctx ends. Whatever
// is wrong with one is told once.
func (s *site) keepBuckets(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(s.Serve.Poll.Duration)
	defer tick.Stop()
	made, said := make(map[string]bool), make(map[string]string)
	for {
		scopes, _ := s.scopes() // publishAll tells what is wrong with the others
		for _, scope := range scopes {
			if made[scope] { // one that is lost later is not made again, empty, behind the gates' backs
				continue
			}
			if err := s.makeBucket(ctx, scope); err == nil {
				made[scope] = true
				log.Info("claims are kept", "scope", scope, "bucket", bucket(scope))
			} else if ctx.Err() == nil && said[scope] != err.Error() {
				said[scope] = err.Error()
				log.Error("gates of the scope cannot claim entries", "scope", scope, "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *site) makeBucket(ctx context.Context, scope string) error {
	js, err := s.bus.JetStream(scope)
	if err != nil {
		return err
	}
	s.buckets.Lock()
	defer s.buckets.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return claims.MakeBucket(ctx, js, bucket(scope), s.NATS.Replicas)
}
