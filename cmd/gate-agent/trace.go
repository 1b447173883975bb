package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/cardauth"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/gate-agent/gate-agent/nfc"
	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/pcsc"
	"github.com/gate-agent/gate-agent/nfc/trace"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
	"github.com/gate-agent/gate-agent/whitelist/listdb"
)

// sessionLimit bounds a session that is read or traced. The gate's deadline does
// not: a trace is to show how slow a card is.
const sessionLimit = 30 * time.Second

func cardTraceCommand() *cobra.Command {
	var (
		dialogue, out string
		readers       []string
		wait          time.Duration
	)
	cmd := &cobra.Command{
		Use:   "trace --out FILE [--dialogue read|tap-use|external-auth] [--config FILE] [--reader NAME]...",
		Short: "Record a session with a card as text, to report a card that fails",
		Long: `Trace waits for a card, has one dialogue with it, and writes down every command
and answer while it happens. PINs and what the terminal's key signs are masked.
Nothing is opened or decided. "card replay" runs the file again, without a card.

  read           what "card read" does; needs no configuration
  tap-use        method B as at the gate. The answer is checked where the list of
                 --config has the card, and only said to be there elsewhere
  external-auth  method A as at the gate; only for a card on the list of --config

The file names a credential of a person: treat it as personal data.
カードの証明書を含む個人情報です。取扱いに注意してください。`,
		Example: "  gate-agent card trace --dialogue tap-use --out card.trace",
		Args:    cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&out, "out", "", "write the trace to this new file, or - for standard output")
	cmd.Flags().StringVar(&dialogue, "dialogue", dialogueRead, "which dialogue: read, tap-use or external-auth")
	cmd.Flags().StringArrayVar(&readers, "reader", nil, "PC/SC reader, a name or a pattern; default every reader")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a card")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		path, _ := cmd.Flags().GetString("config")
		switch {
		case out == "":
			return cli.UsageError("--out is missing: name a new file, or - for standard output")
		case !slices.Contains(dialogues, dialogue):
			return cli.UsageError(fmt.Sprintf("--dialogue %q: want one of %q", dialogue, dialogues))
		case dialogue == string(jpki.ExternalAuth) && path == "":
			return cli.UsageError("--dialogue external-auth needs --config: the terminal's key signs only for cards on its list")
		case wait <= 0:
			return cli.UsageError(fmt.Sprintf("--wait %v: want more than 0", wait))
		}
		t, err := newTracer(path, dialogue)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.close()) }()
		if len(readers) > 0 {
			t.slots = readers
		}
		file, err := createTrace(out, cmd.OutOrStdout())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.finish()) }()

		fmt.Fprintln(cmd.ErrOrStderr(), "Waiting for a card … / カードをかざしてください")
		said, err := t.record(cmd.Context(), wait, file)
		if err != nil {
			return err
		}
		report := cmd.OutOrStdout()
		if out == "-" {
			report = cmd.ErrOrStderr()
		}
		line := func(name, value string) { fmt.Fprintf(report, "%-9s %s\n", name, shown(value)) }
		line("dialogue", dialogue)
		line("outcome", string(said.reason)+": "+said.detail)
		line("exchange", fmt.Sprintf("%d commands, %d bytes", said.stats.Commands, said.stats.Bytes))
		if out != "-" {
			line("trace", out)
		}
		if said.reason != terminal.OK {
			return cli.RefusedError{Err: fmt.Errorf("the card did not do it: %s", said.reason)}
		}
		return nil
	}
	return cmd
}

// A traceFile is the new file of a trace, or standard output.
type traceFile struct {
	io.Writer
	f    *os.File // nil: standard output
	used bool
}

// createTrace makes the file before a card comes. One that is there stays: it
// may be the only trace of another card.
func createTrace(path string, stdout io.Writer) (*traceFile, error) {
	if path == "-" {
		return &traceFile{Writer: stdout}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return &traceFile{Writer: f, f: f}, nil
}

// finish makes the file last, or removes it when no card came.
func (t *traceFile) finish() error {
	switch {
	case t.f == nil:
		return nil
	case !t.used:
		return errors.Join(t.f.Close(), os.Remove(t.f.Name()))
	}
	return errors.Join(t.f.Sync(), t.f.Close())
}

// A tracer is what card trace works with.
type tracer struct {
	speaker
	slots   []string
	profile jpki.Profile
	keys    *terminalKeys  // nil without method A
	ring    *keyring       // nil without a configuration
	store   *listdb.Store  // nil without a configuration, and for read
	view    whitelist.View // the list in force, nil without one
	log     *logbook       // nil where nothing can be used up
	rec     *trace.Recorder
}

// newTracer opens what a dialogue needs, and no more of the configuration.
func newTracer(path, dialogue string) (_ *tracer, err error) {
	t := &tracer{profile: jpki.DefaultProfile()}
	t.dialogue = dialogue
	t.Methods = []jpki.Method{jpki.Method(dialogue)}
	t.Scope, t.Terminal = "trace", "trace" // of a challenge for nobody
	t.list = &sheet{find: t.find, tapUse: dialogue == string(jpki.TapUse)}
	if path == "" {
		t.Dialogue, err = jpki.NewDialogue(t.profile, nil, rand.Reader)
		return t, err
	}
	c, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	if err := t.configure(c); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *tracer) configure(c *config) (err error) {
	t.ring = c.keys
	t.slots = c.Reader.Slots
	if t.profile, err = c.openProfile(); err != nil {
		return err
	}
	if t.dialogue == string(jpki.ExternalAuth) {
		if !c.withMethodA() {
			return cli.ConfigError{Err: fmt.Errorf("methods does not name %q", jpki.ExternalAuth)}
		}
		if t.keys, err = c.openTerminalKeys(t.profile); err != nil {
			return err
		}
	}
	if t.Dialogue, err = newDialogue(t.profile, t.keys); err != nil {
		return cli.ConfigError{Err: err}
	}
	if t.dialogue == dialogueRead {
		return nil
	}
	t.Scope, t.Terminal = c.Scope, c.Terminal
	anchors, err := c.openAnchors()
	if err != nil {
		return err
	}
	t.Anchors = anchors.Certificates()
	if err := t.openList(c); err != nil {
		return err
	}
	if t.view != nil {
		t.log = &logbook{config: c, list: t.view.Manifest()}
	}
	if t.dialogue == string(jpki.ExternalAuth) {
		return t.log.open() // before a card comes
	}
	if !c.TapUse.FirstUse {
		return nil
	}
	if t.SurfaceAuthorities, err = c.openSurfaceKeys(); err != nil {
		return err
	}
	t.FirstUse, t.Refusals = true, t.log // without a list nobody has a birth date
	return c.checkFirstUse(t.Dialogue, anchors, t.SurfaceAuthorities)
}

// openList opens the list in force. Tap-use goes without one.
func (t *tracer) openList(c *config) (err error) {
	if t.store, err = c.openStore(); err != nil {
		return err
	}
	view, err := t.store.Current()
	switch {
	case errors.Is(err, listdb.ErrNoList) && t.dialogue == string(jpki.TapUse):
		return nil
	case err != nil:
		return cli.RefusedError{Err: fmt.Errorf("the list in %s: %w", c.path(c.State), err)}
	}
	t.view, t.list.cardID = view, view.CardID
	return nil
}

func (t *tracer) close() error {
	err := t.log.close()
	if t.ring != nil {
		err = errors.Join(err, t.ring.close())
	}
	if t.view != nil {
		t.view.Release()
	}
	if t.store != nil {
		err = errors.Join(err, t.store.Close())
	}
	return err
}

// record waits for a card and speaks with it. An error means that there is no
// trace, or not a whole one.
func (t *tracer) record(ctx context.Context, wait time.Duration, file *traceFile) (said spoken, err error) {
	lane, err := pcsc.Open(pcsc.Options{Readers: t.slots, Present: true})
	if err != nil {
		return said, cli.UsageError(err.Error())
	}
	defer func() { err = errors.Join(err, lane.Close()) }()
	waiting, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w within %v", errNoCard, wait))
	defer cancel()
	card, err := nextCard(waiting, lane, t.slots)
	bad, mute := errors.AsType[*nfc.CardError](err)
	if err != nil && !mute {
		return said, err
	}
	file.used = true
	if mute {
		return t.unconnected(ctx, bad, file)
	}
	said, err = t.session(ctx, card, file)
	if released := card.Release(); !errors.Is(released, nfc.ErrRemoved) {
		err = errors.Join(err, released)
	}
	return said, err
}

// session records a session with a card that has just been powered.
func (t *tracer) session(ctx context.Context, card nfc.Card, w io.Writer) (said spoken, err error) {
	limited, cancel := context.WithTimeout(ctx, sessionLimit)
	defer cancel()
	t.start(card, card.Slot(), w)
	said = t.speak(limited, card.Slot(), t.rec)
	err = t.log.record(said, t.at)
	// What a replay cannot see of a birth date that is not written down.
	switch {
	case t.log != nil && t.log.before:
		t.rec.BirthDate(trace.BirthDateRefused)
	case errors.Is(said.err, cardauth.ErrOtherBirthDate):
		t.rec.BirthDate(trace.BirthDateOther)
	}
	return said, errors.Join(err, t.rec.End(string(said.reason), said.detail), ctx.Err())
}

// unconnected records a card that could not be powered.
func (t *tracer) unconnected(ctx context.Context, bad *nfc.CardError, w io.Writer) (said spoken, err error) {
	t.start(nil, bad.Slot, w)
	t.rec.Unconnected(ctx, bad.Err)
	said.err, said.reason, said.detail = bad, reasonOf(bad), bad.Error()
	return said, t.rec.End(string(said.reason), said.detail)
}

// start begins the trace of a session with card.
func (t *tracer) start(card nfc.Transmitter, slot string, w io.Writer) {
	t.at = time.Now().UTC().Truncate(time.Second)
	h := trace.Header{Agent: version(), Recorded: t.at, Reader: slot, Dialogue: t.dialogue, Profile: t.profile.Name}
	if t.dialogue != dialogueRead {
		h.Scope, h.Terminal, h.Nonce = t.Scope, t.Terminal, make([]byte, len(cardauth.Challenge{}.Nonce))
		rand.Read(h.Nonce)
		t.Rand = bytes.NewReader(h.Nonce)
	}
	if t.keys != nil {
		for _, c := range t.keys.At(t.at).Certificates() {
			h.TerminalCertificates = append(h.TerminalCertificates, c.Bytes())
		}
	}
	t.rec = trace.NewRecorder(card, w, h, t.profile.IsTerminalSignature)
}

// find asks the list, and records what a replay needs of the answer.
func (t *tracer) find(ctx context.Context, head []byte) (whitelist.Row, trace.RowState, error) {
	row, state, err := t.lookup(ctx, head)
	known := trace.Known{Row: state}
	chain := false // the whole certificate is checked
	switch {
	case state != trace.RowListed:
	case t.dialogue == string(jpki.ExternalAuth):
		known.AuthenticationKey = row.AuthKey.SPKI()
		chain = row.AuthKey.IsZero()
	default:
		known.CardKey = row.CardKey.SPKI()
		known.FirstUse = t.FirstUse && row.CardKey.IsZero() && row.BirthDate != ""
		chain = known.FirstUse
	}
	if chain {
		for _, a := range t.Anchors {
			known.Anchors = append(known.Anchors, a.Raw)
		}
	}
	if known.FirstUse {
		for _, a := range t.SurfaceAuthorities {
			known.SurfaceAuthorities = append(known.SurfaceAuthorities, slices.Concat(a.ID[:], a.Key.SPKI()))
		}
	}
	t.rec.Know(known)
	return row, state, err
}

// lookup asks the list in force, if there is one.
func (t *tracer) lookup(ctx context.Context, head []byte) (row whitelist.Row, state trace.RowState, err error) {
	if t.view == nil {
		return row, trace.RowNoList, nil
	}
	row, err = t.view.Lookup(ctx, head)
	switch {
	case errors.Is(err, whitelist.ErrNotListed):
		return row, trace.RowNone, nil
	case err != nil:
		return row, trace.RowUnreadable, err
	}
	return row, trace.RowListed, nil
}

// A logbook is the terminal's journal, for what a traced session uses up: a card
// that refuses its birth date is never given it again, whoever gave it (card-facts
// §3, PIN rule), and every signature of the terminal's key counts (§6, step 6).
type logbook struct {
	config  *config
	list    whitelist.Manifest
	journal *journal.Journal // nil until it is needed
	before  bool             // the card refused the birth date before
}

// open opens the journal, which one program at a time may write.
func (l *logbook) open() (err error) {
	if l.journal != nil {
		return nil
	}
	if l.journal, err = l.config.openJournal(nil); err != nil {
		return fmt.Errorf("what this session uses up has to be recorded, stop the agent before: %w", err)
	}
	return nil
}

// BirthDateRefused implements terminal.Refusals.
func (l *logbook) BirthDateRefused(ctx context.Context, cardID string) (refused bool, err error) {
	if err := l.open(); err != nil {
		return false, err
	}
	l.before, err = l.journal.BirthDateRefused(ctx, cardID)
	return l.before, err
}

// record writes what the session used up, if it did.
func (l *logbook) record(said spoken, at time.Time) error {
	e := said.proved.Evidence
	if l == nil || e.TerminalSignatures == 0 && !e.BirthDateRefused {
		return nil
	}
	return l.journal.Traced(context.Background(), terminal.Decision{
		Reason: said.reason, Method: e.Method, Gate: l.config.Gate.Name, CardID: said.proved.CardID, Instant: at,
		ListEpoch: l.list.Epoch, ListSeq: l.list.Seq,
		TerminalSignatures: e.TerminalSignatures, BirthDateRefused: e.BirthDateRefused,
	})
}

func (l *logbook) close() error {
	if l == nil || l.journal == nil {
		return nil
	}
	return l.journal.Close()
}
