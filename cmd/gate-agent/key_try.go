package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// How many signatures key test makes where nobody says: so many, or as many as
// there are in that time. A card takes 600 ms for one.
const (
	testCount = 50
	testTime  = 3 * time.Second
)

func keyTestCommand() *cobra.Command {
	var (
		uri, purpose    string
		count           int
		retryPIN, plain bool
	)
	cmd := &cobra.Command{
		Use:   "test (URI | --key URI) [--purpose PURPOSE] [--count N] [--retry-pin] [--json]",
		Short: "Try a key: sign, verify, measure, and try to take it out of its medium",
		Long: `Test opens a key, has it sign fresh random challenges, verifies each signature with
the public half, and tells how long they took. Then it tries to take the private key
out of the medium, by every way that the medium's interface has. A medium that
promises to keep its keys and gives one out fails the test (exit code 4).

A medium that has seen a wrong PIN is sent no other by itself. --retry-pin sends the
PIN once more, whatever it is: use it after you have corrected the file that
pin-source names, and never in a script, or the token is locked in the end.
鍵で署名を試し、所要時間と、鍵を取り出せるかどうかを表示します。`,
		Example: `  gate-agent key test --json --key 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=gate-1;object=external-auth?pin-source=/etc/gate-agent/pin'
  gate-agent key test --retry-pin 'scard:reader=SAM%2000%2000;aid=D392F000260100000001;key=17?pin-source=/etc/gate-agent/pin'`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&uri, "key", "", "URI of the key, also as an argument")
	cmd.Flags().StringVar(&purpose, "purpose", string(keystore.ExternalAuth), purposeUsage)
	cmd.Flags().IntVar(&count, "count", testCount, fmt.Sprintf("signatures to make; by default as many as there are in %v, at most %d", testTime, testCount))
	cmd.Flags().BoolVar(&retryPIN, "retry-pin", false, "send the PIN once to a medium that has seen a wrong one: after pin-source was corrected")
	cmd.Flags().BoolVar(&plain, "json", false, "print one JSON object")
	cmd.RunE = withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		switch {
		case (uri != "") == (len(a) == 1):
			return cli.UsageError("give the URI of one key, as an argument or with --key")
		case len(a) == 1:
			uri = a[0]
		}
		u, err := keyURI(uri)
		if err != nil {
			return err
		}
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		if count < 1 || count > 1e6 {
			return cli.UsageError(fmt.Sprintf("--count %d: want 1 to 1000000", count))
		}
		limit := testTime
		if cmd.Flags().Changed("count") {
			limit = math.MaxInt64
		}
		custody, err := keystore.CustodyOf(uri)
		if err != nil {
			return cli.ConfigError{Err: err}
		}
		s.RetryPIN = retryPIN
		k, err := openKey(cmd, s, uri, p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		described, err := describeKey(u, p, k.Public())
		if err != nil {
			return err
		}
		took, total, err := trySigning(cmd.Context(), k, count, limit, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		exportable, err := k.Exportable(cmd.Context())
		if err != nil {
			return err
		}
		r := testReport{
			Medium: described.Medium, SignMSP50: quantileMS(took, 50), Exportable: exportable, Key: described.Key,
			Type: described.Type, Purpose: described.Purpose, Signatures: len(took), SignMSP95: quantileMS(took, 95),
			PerSecond: round(float64(len(took))/total.Seconds(), 1), Custody: custody.Text, DiskOpens: custody.DiskOpens,
		}
		if err := r.print(cmd.OutOrStdout(), plain, custody.Keeps); err != nil {
			return err
		}
		return promiseKept(exportable, custody)
	})
	return cmd
}

// promiseKept compares what was tried with what the medium promises.
func promiseKept(exportable bool, custody keystore.Custody) error {
	if exportable && custody.Keeps {
		return cli.RefusedError{Err: errors.New("the private key could be taken out of the medium, which promises to keep it: somebody may have a copy. Make another key with gate-agent key generate, and destroy this one")}
	}
	return nil
}

// A testReport is what key test prints. docs/cli.md lists its members.
type testReport struct {
	Medium     string  `json:"medium"`
	SignMSP50  float64 `json:"sign_ms_p50"`
	Exportable bool    `json:"exportable"`
	Key        string  `json:"key"` // KCV
	Type       string  `json:"type"`
	Purpose    string  `json:"purpose"`
	Signatures int     `json:"signatures"`
	SignMSP95  float64 `json:"sign_ms_p95"`
	PerSecond  float64 `json:"per_second"`
	Custody    string  `json:"custody"`
	DiskOpens  bool    `json:"disk_opens"`
}

func (r testReport) print(w io.Writer, asJSON, keeps bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	line := func(name, format string, a ...any) { fmt.Fprintf(w, "%-11s%s\n", name, fmt.Sprintf(format, a...)) }
	line("KCV", "%s (%s, %s)", r.Key, r.Purpose, r.Type)
	line("signatures", "%d, each verified", r.Signatures)
	line("time", "p50 %v ms, p95 %v ms, %v in a second", r.SignMSP50, r.SignMSP95, r.PerSecond)
	switch {
	case r.Exportable && keeps:
		line("exportable", "YES, although the medium promises to keep it")
	case r.Exportable:
		line("exportable", "yes: this medium promises nothing else")
	default:
		line("exportable", "no: it was tried")
	}
	line("custody", "%s", r.Custody)
	return nil
}

// trySigning signs challenges until there are so many, or the time is over, at
// least one. Of slow ones it tells progress.
func trySigning(ctx context.Context, k *keystore.Key, count int, limit time.Duration, progress io.Writer) (took []time.Duration, total time.Duration, err error) {
	said := time.Now()
	for len(took) < count && (len(took) == 0 || total < limit) {
		if err := context.Cause(ctx); err != nil {
			return nil, 0, err
		}
		one, err := k.Prove()
		if errors.Is(err, keystore.ErrSignature) {
			return nil, 0, cli.RefusedError{Err: fmt.Errorf("the medium signed what does not verify with its own public half: %w", err)}
		}
		if err != nil {
			return nil, 0, err
		}
		took, total = append(took, one), total+one
		if now := time.Now(); now.Sub(said) > time.Second {
			fmt.Fprintf(progress, "%d of %d signatures, %.0f ms the last\n", len(took), count, one.Seconds()*1000)
			said = now
		}
	}
	return took, total, nil
}

// quantileMS is a quantile in milliseconds.
func quantileMS(took []time.Duration, percent int) float64 {
	return round(quantile(slices.Sorted(slices.Values(took)), percent).Seconds()*1000, 3)
}

// round keeps so many decimals.
func round(f float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(f*scale) / scale
}
