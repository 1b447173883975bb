package claimer_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gate-agent/gate-agent/sync/claims"
	"github.com/gate-agent/gate-agent/sync/link"
	"github.com/gate-agent/gate-agent/terminal/journal"
)

// All that claims need is among what a terminal may say and hear, and no more: it cannot
// change or delete the log, nor hear those of another scope.
func TestClaimsNeedNoMoreThanATerminalMay(t *testing.T) {
	subjects := link.SubjectsOf(scope, "north", []byte("key of north"))
	publish, subscribe := subjects.Permissions()
	h := newHubFor(t, &server.User{Username: "hub", Password: "hub"}, &server.User{Username: "north", Password: "north", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
	}})
	if subjects.Bucket != bucket {
		t.Fatalf("bucket %s", subjects.Bucket)
	}
	var mu sync.Mutex
	var refused []error
	may := []nats.Option{nats.UserInfo("north", "north"), nats.CustomInboxPrefix(subjects.Inbox), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, err)
	})}
	dir := t.TempDir()
	j := must(journal.Open(filepath.Join(dir, "journal.db"), nil))(t)
	t.Cleanup(func() { check(t, j.Close()) })
	p := h.open("north", dir, h.address(), j, may...)
	p.connected(true)

	d := admission(p, "t", "X")
	check(t, p.Claim(t.Context(), d, 1))
	r := must(j.Reserve(t.Context(), d, 0))(t)
	check(t, j.Commit(t.Context(), r, 1))
	p.Done("X")
	h.settled("t", 2)
	h.put(claims.Token(scope, "u"), 1, "taken")
	if err := p.Claim(t.Context(), admission(p, "u", "Y"), 1); err == nil {
		t.Error("number 1 was taken")
	}
	p.Done("Y")
	eventually(t, "north hears of it", func() bool { return must(p.Log(t.Context(), "u"))(t).Next == 2 })
	mu.Lock()
	if len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	mu.Unlock()

	js := must(jetstream.New(h.connect(h.address(), may...)))(t)
	short := func(what string, err error) {
		if err == nil {
			t.Errorf("it could %s", what)
		}
	}
	ctx, cancel := contextOf(t)
	defer cancel()
	short("delete the log", js.DeleteStream(ctx, "KV_"+bucket))
	_, err := js.UpdateStream(ctx, jetstream.StreamConfig{Name: "KV_" + bucket, Subjects: []string{"$KV." + bucket + ".>"}})
	short("change the log", err)
	_, err = claims.Open(ctx, js, "claims_other")
	short("open another scope's", err)
}

// contextOf is for what has no answer.
func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 300*time.Millisecond)
}
