package claimer_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/terminal/journal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// newPost opens a terminal without a lane, straight to the hub.
func newPost(t testing.TB, h *hub, name string) (*post, string) {
	t.Helper()
	dir := t.TempDir()
	j := must(journal.Open(filepath.Join(dir, "journal.db"), nil))(t)
	t.Cleanup(func() { check(t, j.Close()) })
	p := h.open(name, dir, h.address(), j)
	p.connected(true)
	return p, dir
}

func admission(p *post, entitlement, id string) terminal.Decision {
	return terminal.Decision{
		Verdict: terminal.Admit, Reason: terminal.OK, Gate: p.name, Zone: "hall", Entitlement: entitlement, People: 1,
		Instant: time.Now(), Claim: terminal.ClaimConfirmed, ClaimID: id,
	}
}

// settled waits until the log of an entitlement has so many records.
func (h *hub) settled(entitlement string, records int) (log []claims.Numbered) {
	h.t.Helper()
	eventually(h.t, "records", func() bool {
		log = h.log(entitlement)
		return len(log) >= records
	})
	return log
}

// put writes what a broken terminal would.
func (h *hub) put(token string, n uint64, value string) {
	h.t.Helper()
	b := must(claims.Open(h.t.Context(), h.admin, bucket))(h.t)
	_, err := b.Create(h.t.Context(), token, n, []byte(value))
	check(h.t, err)
}

// The program dies between the claim and the journal.
func TestAClaimThatCameToNothingIsGivenBack(t *testing.T) {
	h := newHub(t)
	p, dir := newPost(t, h, "north")
	check(t, p.Claim(t.Context(), admission(p, "t", "X"), 1))
	p.stop() // without Done
	if log := h.log("t"); len(log) != 1 {
		t.Fatalf("log %+v", log)
	}
	p.start(dir)
	log := h.settled("t", 2)
	if s := log[1].Record; s.Kind != claims.Settle || s.Of != 1 || s.ID != "X" || s.People != 0 {
		t.Errorf("settled %+v", s)
	}
}

// Nothing is given back under a tap that is still deciding, nor what is in the journal.
func TestAClaimIsHeldUntilItIsInTheJournal(t *testing.T) {
	h := newHub(t)
	p, _ := newPost(t, h, "north")
	d := admission(p, "t", "X")
	check(t, p.Claim(t.Context(), d, 1))
	p.Done("another") // the follower goes round
	check(t, p.journal.Record(t.Context(), terminal.Decision{Reason: terminal.NotListed, Instant: time.Now()}))
	eventually(t, "a round", func() bool { return must(p.Through(t.Context()))(t) == 1 })
	r := must(p.journal.Reserve(t.Context(), d, 0))(t)
	p.Done("X")
	check(t, p.journal.Commit(t.Context(), r, 1))
	log := h.settled("t", 2)
	if s := log[1].Record; len(log) != 2 || s.People != 1 || s.Reservation != uint64(r) {
		t.Errorf("log %+v", log)
	}
}

func TestTheServerChangesNoRecord(t *testing.T) {
	h := newHub(t)
	token := claims.Token(scope, "t")
	h.put(token, 1, "first")
	kv := must(h.admin.KeyValue(t.Context(), bucket))(t)
	if _, err := kv.Put(t.Context(), claims.Key(token, 1), []byte("second")); err == nil {
		t.Error("it was overwritten")
	}
	if err := kv.Delete(t.Context(), claims.Key(token, 1)); err == nil {
		t.Error("it was deleted")
	}
	if err := kv.Purge(t.Context(), claims.Key(token, 1)); err == nil {
		t.Error("it was purged")
	}
	stream := must(h.admin.Stream(t.Context(), "KV_"+bucket))(t)
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("all were purged")
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("its message was deleted")
	}
	b := must(claims.Open(t.Context(), h.admin, bucket))(t)
	if got, err := b.Get(t.Context(), token, 1); err != nil || string(got) != "first" {
		t.Errorf("it is %q, %v", got, err)
	}
}

func TestABucketThatPromisesLessIsRefused(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	_, err := h.admin.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "claims_usual"})
	check(t, err)
	if _, err := claims.Open(ctx, h.admin, "claims_usual"); err == nil {
		t.Error("an ordinary bucket was taken")
	}
	if err := claims.MakeBucket(ctx, h.admin, "claims_usual", 1); err == nil {
		t.Error("it was taken for one that was made")
	}
	if err := claims.MakeBucket(ctx, h.admin, bucket, 1); err != nil {
		t.Errorf("making it twice: %v", err)
	}
}

// Records that nobody can read make a gate do as it does when nobody answers: the ticket
// may be used.
func TestWhatCannotBeReadIsNotPassedOver(t *testing.T) {
	h := newHub(t)
	img, row := ticket(t, "t", nil)
	north, south := pair(t, h, whitelist.AwayAttend, row)
	for name, value := range map[string]string{
		"malformed": "{", "of an unknown version": `{"version":2,"kind":"entry"}`, "a deletion": "",
	} {
		entitlement := "t"
		if name != "malformed" {
			entitlement = name
		}
		h.put(claims.Token(scope, entitlement), 1, value)
		eventually(t, "north hears of it", func() bool {
			l := must(north.Log(t.Context(), entitlement))(t)
			return l.Apart && l.Next == 2
		})
	}
	d := south.tap(t, img)
	want(t, d, terminal.Attend, terminal.Attention)
	if !slices.Equal(d.Warnings, []terminal.Reason{terminal.HubAway}) {
		t.Errorf("staff is told %v", d.Warnings)
	}
}

// A key that no program of ours writes is nothing to a log, and stops nothing.
func TestAForeignKeyStopsNothing(t *testing.T) {
	h := newHub(t)
	p, _ := newPost(t, h, "north")
	for _, key := range []string{"x", "x.y", claims.Token(scope, "t") + ".01", claims.Token(scope, "t") + ".x"} {
		_, err := h.admin.Publish(t.Context(), "$KV."+bucket+"."+key, []byte("x"))
		check(t, err)
	}
	check(t, p.Claim(t.Context(), admission(p, "t", "X"), 1))
	p.Done("X")
	h.settled("t", 2)
}

// A number was lost: who comes next writes it, and what is behind it counts.
func TestAHoleIsFilledAndHidesNothing(t *testing.T) {
	h := newHub(t)
	south, _ := newPost(t, h, "south")
	value := must(claims.Record{
		Kind: claims.Entry, Entitlement: "t", Writer: claims.Writer{Terminal: "north", Incarnation: "000102030405060708090a0b0c0d0e0f"},
		ID: "X", Gate: "north", Zone: "hall", At: time.Now(), People: 1,
	}.Encode())(t)
	h.put(claims.Token(scope, "t"), 2, string(value))
	eventually(t, "south hears of it", func() bool {
		l := must(south.Log(t.Context(), "t"))(t)
		return l.Apart && l.Next == 1 && len(l.Passages) == 1
	})
	check(t, south.Claim(t.Context(), admission(south, "t", "Y"), 1))
	if l := must(south.Log(t.Context(), "t"))(t); l.Apart || l.Next != 3 {
		t.Errorf("filled, it is %+v", l)
	}
	south.Done("Y")
}

// A server that lost its promise, or an older copy of its folder.
func TestAKeyThatIsWrittenTwiceIsFound(t *testing.T) {
	h := newHub(t)
	p, _ := newPost(t, h, "north")
	token := claims.Token(scope, "t")
	value := func(id string) []byte {
		return must(claims.Record{
			Kind: claims.Entry, Entitlement: "t", Writer: claims.Writer{Terminal: "south", Incarnation: "000102030405060708090a0b0c0d0e0f"},
			ID: id, At: time.Now(), People: 1,
		}.Encode())(t)
	}
	h.put(token, 1, string(value("X")))
	eventually(t, "north hears of it", func() bool { return must(p.Log(t.Context(), "t"))(t).Next == 2 })
	c := must(h.admin.Stream(t.Context(), "KV_"+bucket))(t).CachedInfo().Config
	c.DiscardNewPerSubject, c.MaxMsgsPerSubject, c.Discard = false, 2, jetstream.DiscardOld
	_, err := h.admin.UpdateStream(t.Context(), c)
	check(t, err)
	_, err = h.admin.PublishMsg(t.Context(), &nats.Msg{Subject: "$KV." + bucket + "." + claims.Key(token, 1), Data: value("Y")})
	check(t, err)
	eventually(t, "north finds it", func() bool {
		l := must(p.Log(t.Context(), "t"))(t)
		return l.Apart && len(l.Passages) == 1 && !must(p.Status(t.Context()))(t).Apart
	})
}

// The copy is gone, with the disk or by hand.
func TestTheCopyIsMadeAgain(t *testing.T) {
	h := newHub(t)
	north, dir := newPost(t, h, "north")
	south, _ := newPost(t, h, "south")
	check(t, south.Claim(t.Context(), admission(south, "t", "Y"), 1))
	d := admission(north, "u", "X")
	check(t, north.Claim(t.Context(), d, 1))
	r := must(north.journal.Reserve(t.Context(), d, 0))(t)
	check(t, north.journal.Commit(t.Context(), r, 1))
	north.Done("X")
	h.settled("u", 2)
	north.stop()
	north.wipe(dir)
	north.start(dir)
	eventually(t, "north hears of all", func() bool {
		mine, other := must(north.Log(t.Context(), "u"))(t), must(north.Log(t.Context(), "t"))(t)
		return len(mine.Passages) == 1 && mine.Passages[0].Reservation == r && len(other.Passages) == 1
	})
	eventually(t, "north tells all", func() bool { return must(north.Through(t.Context()))(t) == 2 })
	if log := h.log("u"); len(log) != 2 {
		t.Errorf("it told again: %+v", log)
	}
	south.Done("Y")
}

// The stream is lost: the terminals write it again from their journals.
func TestALogThatIsGoneComesBackFromTheJournals(t *testing.T) {
	h := newHub(t)
	p, _ := newPost(t, h, "north")
	d := admission(p, "t", "X")
	check(t, p.Claim(t.Context(), d, 1))
	r := must(p.journal.Reserve(t.Context(), d, 0))(t)
	check(t, p.journal.Commit(t.Context(), r, 1))
	p.Done("X")
	h.settled("t", 2)
	check(t, h.admin.DeleteStream(t.Context(), "KV_"+bucket))
	h.makeBucket()
	// The next claim finds out at once, else a question does from time to time.
	if err := p.Claim(t.Context(), admission(p, "t", "Y"), 3); err == nil {
		t.Error("a claim was confirmed by another log")
	}
	p.Done("Y")
	var log []claims.Numbered
	eventually(t, "all is told again", func() bool {
		log = h.log("t")
		return slices.ContainsFunc(log, func(l claims.Numbered) bool { return l.Record.Kind == claims.Settle && l.Record.ID == "X" })
	})
	if !log[0].Record.Late || log[0].Record.ID != "X" {
		t.Errorf("log %+v", log)
	}
}

// Two lanes of one agent share its journal and its claims.
func TestTwoLanesOfOneTerminalClaimApart(t *testing.T) {
	h := newHub(t)
	p, _ := newPost(t, h, "north")
	check(t, p.Claim(t.Context(), admission(p, "t", "X"), 1))
	if err := p.Claim(t.Context(), admission(p, "t", "Y"), 1); err != terminal.ErrUsesChanged {
		t.Errorf("both have number 1: %v", err)
	}
	if l := must(p.Log(t.Context(), "t"))(t); l.Next != 2 || len(l.Passages) != 0 {
		t.Errorf("%+v", l)
	}
	p.Done("X")
	p.Done("Y")
}

// Another scope's entries are nothing to this one.
func TestEntriesOfAnotherScopeAreNotTold(t *testing.T) {
	h := newHub(t)
	dir := t.TempDir()
	j := must(journal.Open(filepath.Join(dir, "journal.db"), nil))(t)
	t.Cleanup(func() { check(t, j.Close()) })
	write := func(scope, entitlement string) {
		check(t, j.Started(t.Context(), time.Now(), "north", scope, "test"))
		d := admission(&post{name: "north"}, entitlement, "")
		d.Claim = ""
		must(j.Reserve(t.Context(), d, 0))(t)
	}
	write("other", "t")
	write(scope, "u")
	p := h.open("north", dir, h.address(), j)
	eventually(t, "all is told", func() bool { return must(p.Through(t.Context()))(t) == 4 })
	if foreign, own := h.log("t"), h.log("u"); len(foreign) != 0 || len(own) != 1 {
		t.Errorf("told %+v, %+v", foreign, own)
	}
}

// A damaged copy, or one of another terminal, is no copy.
func TestACopyOfAnotherTerminalIsNotUsed(t *testing.T) {
	h := newHub(t)
	south, dir := newPost(t, h, "south")
	check(t, south.Claim(t.Context(), admission(south, "t", "X"), 1))
	south.stop()
	south.name = "north"
	south.start(dir)
	eventually(t, "it hears of another's entry", func() bool {
		l := must(south.Log(context.Background(), "t"))(t)
		return len(l.Passages) == 1 && l.Passages[0].Terminal == "south"
	})
}
