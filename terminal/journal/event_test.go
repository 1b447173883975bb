package journal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
)

var update = flag.Bool("update", false, "write testdata/vectors/journal anew")

// vector is the form of testdata/vectors/journal/chain.json.
type vector struct {
	Incarnation   string        `json:"incarnation"`
	FirstPrevious string        `json:"first_previous"`
	Events        []vectorEvent `json:"events"`
	Carried       []string      `json:"carried,omitempty"` // CBOR of what outlives the events that the last one records as deleted
}

// vectorKey signs the checkpoint of the vector: Ed25519, from a seed of zeros.
var vectorKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// carriedRows are the items under the digest, one by one.
func carriedRows(t testing.TB, j *Journal) (rows []string) {
	t.Helper()
	check(t, eachCarried(t.Context(), j.db, func(item []byte) { rows = append(rows, hex.EncodeToString(item)) }))
	return rows
}

type vectorEvent struct {
	Bytes string `json:"bytes"`
	Hash  string `json:"hash"`
}

var vectorIncarnation = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// everyKind writes an event of every kind: one of each member is in one of them.
func everyKind(t testing.TB, j *Journal) {
	t.Helper()
	ctx := t.Context()
	fill(t, j)
	traced := denial()
	traced.Method, traced.Gate, traced.TerminalSignatures = "external-auth", "gate-1", 1
	traced.CardID, traced.BirthDateRefused = strings.Repeat("d1", 32), true
	check(t, j.Traced(ctx, traced))
	d := party("ticket-4", 4)
	d.Reentry, d.Until, d.HolderCheck, d.Staff = 1, noon.Add(time.Hour), terminal.Confirmed, steward
	d.Claim, d.ClaimID = terminal.ClaimUnconfirmed, "CLAIMCLAIMCLAIMCLAIMCLAIM2"
	r := admit(t, j, d)
	check(t, j.Passed(ctx, r, 2), j.Doubt(ctx, r, terminal.GateFault), j.Commit(ctx, r, 3), j.Commit(ctx, 8, 1))
	r = admit(t, j, leaving("ticket-1"))
	check(t, j.Commit(ctx, r, 1), j.SettleBy(ctx, r, 0, steward, "<did> not & leave"))
	check(t, j.Incident(ctx, terminal.Incident{At: noon, Gate: "gate-1", Reason: terminal.EmergencyOpen, State: terminal.Begins,
		Staff: terminal.Staff{Name: "Suzuki", Role: terminal.Supervisor}, Note: "地震"}))
	_, err := j.Checkpoint(ctx, noon, vectorKey, "gate-1-left", "venue")
	check(t, err, j.Commanded(ctx, noon, "gate-1-left", "venue", 7, "out_of_order", "改札を閉じます"))
}

// The journal of the vector has an event of every kind. The hashes are computed
// here once more, from the words of docs/journal.md.
func TestChainVector(t *testing.T) {
	path := temp(t)
	check(t, create(path, vectorIncarnation))
	j := open(t, path)
	first := firstHash(vectorIncarnation)
	got := vector{Incarnation: hex.EncodeToString(vectorIncarnation[:]), FirstPrevious: hex.EncodeToString(first[:])}
	take := func(after uint64) {
		for e, err := range j.List(t.Context(), Filter{After: after}) {
			check(t, err)
			got.Events = append(got.Events, vectorEvent{string(e.Bytes), hex.EncodeToString(e.Hash[:])})
		}
	}
	everyKind(t, j)
	take(0)
	j.now = func() time.Time { return noon.Add(26 * time.Hour) }
	_, err := j.Prune(t.Context(), noon.Add(2*time.Hour), Everything, nil, steward)
	check(t, err)
	take(uint64(len(got.Events))) // the record of the deletion
	got.Carried = carriedRows(t, j)
	kinds := map[Kind]bool{}
	for _, e := range got.Events {
		parsed, err := parseEvent([]byte(e.Bytes))
		check(t, err)
		kinds[parsed.Kind] = true
	}
	if len(kinds) != 13 {
		t.Errorf("%d kinds of 13: %v", len(kinds), kinds)
	}

	file := filepath.Join("..", "..", "testdata", "vectors", "journal", "chain.json")
	if *update {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := readVector(t, "chain.json")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	id, err := hex.DecodeString(want.Incarnation)
	if err != nil {
		t.Fatal(err)
	}
	prev := sha256.Sum256([]byte("gate-agent journal start v1\x00" + string(id)))
	if hex.EncodeToString(prev[:]) != want.FirstPrevious {
		t.Errorf("first previous hash is %x", prev)
	}
	for i, e := range want.Events {
		prev = sha256.Sum256([]byte("gate-agent journal event v1\x00" + string(prev[:]) + e.Bytes))
		if hex.EncodeToString(prev[:]) != e.Hash {
			t.Errorf("hash of event %d is %x", i+1, prev)
		}
	}
	digest := "gate-agent journal carried v1\x00" + string(id)
	for _, item := range want.Carried {
		b, err := hex.DecodeString(item)
		check(t, err)
		digest += string(b)
	}
	last := want.Events[len(want.Events)-1]
	if sum := sha256.Sum256([]byte(digest)); len(want.Carried) == 0 || !strings.Contains(last.Bytes, `"carried_sha256":"`+hex.EncodeToString(sum[:])+`"`) {
		t.Errorf("digest of what is carried is %x, the record is %s", sum, last.Bytes)
	}
}

func TestDocumentShowsTheVector(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "journal.md"))
	if err != nil {
		t.Fatal(err)
	}
	v := readVector(t, "chain.json")
	for _, s := range []string{v.Incarnation, v.FirstPrevious, v.Events[0].Bytes, v.Events[0].Hash} {
		if !strings.Contains(string(doc), s) {
			t.Errorf("docs/journal.md lacks %s", s)
		}
	}
	for _, k := range Kinds() {
		if !strings.Contains(string(doc), "\n| `"+string(k)+"` |") {
			t.Errorf("docs/journal.md lacks kind %s", k)
		}
	}
	// Every member of an event is documented.
	for f := range reflect.TypeFor[Event]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/journal.md lacks member %s", name)
		}
	}
}

func TestInstantHasOneForm(t *testing.T) {
	for _, s := range []string{
		`"2026-04-01T12:00:00Z"`, `"2026-04-01T12:00:00.1Z"`, `"2026-04-01T12:00:00.0001Z"`, `"2026-04-01T12:00:00.000+00:00"`,
		`"2026-04-01t12:00:00.000z"`, `"2026-04-01T12:00:00,000Z"`, `"2026-02-30T12:00:00.000Z"`, `1`, `null`, `""`,
	} {
		var i Instant
		if err := json.Unmarshal([]byte(s), &i); err == nil && s != `null` {
			t.Errorf("%s is accepted as %v", s, i)
		}
	}
	tokyo := time.FixedZone("JST", 9*60*60)
	got, err := json.Marshal(instant(time.Date(2026, 4, 1, 21, 0, 0, 999_999, tokyo)))
	if err != nil || string(got) != `"2026-04-01T12:00:00.000Z"` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := json.Marshal(instant(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))); err == nil {
		t.Error("a year of five digits is written: it would sort wrongly")
	}
}

// A later program of the same schema version may add members and kinds.
func TestUnknownMembersArePassedOver(t *testing.T) {
	e, err := parseEvent([]byte(`{"seq":1,"kind":"passage","at":"2026-04-01T12:00:00.000Z","direction":"in"}`))
	if err != nil || e.Kind != "passage" {
		t.Errorf("%+v, %v", e, err)
	}
	for _, s := range []string{``, `{}`, `[]`, `{"seq":1}`, `{"seq":-1,"kind":"start","at":"2026-04-01T12:00:00.000Z"}`,
		`{"seq":1,"kind":"start"}`, `{"seq":1,"kind":"start","at":"2026-04-01T12:00:00.000Z"}{}`} {
		if e, err := parseEvent([]byte(s)); err == nil {
			t.Errorf("%s is accepted as %+v", s, e)
		}
	}
}

// Property: what parses encodes, and parses again to the same event.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"seq":1,"kind":"reserve","at":"2026-04-01T12:00:00.000Z","entitlement":"t<&>","warnings":["data_stale"]}`))
	f.Add([]byte(`{"seq":2,"kind":"commit","at":"2026-04-01T12:00:00.000Z","reservation":1}`))
	f.Add([]byte(`{"seq":3,"kind":"x","at":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEvent(b)
		if err != nil {
			return
		}
		text, err := e.encode()
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		again, err := parseEvent(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if second, err := again.encode(); err != nil || !bytes.Equal(text, second) {
			t.Fatalf("%s became %s, %v", text, second, err)
		}
	})
}
