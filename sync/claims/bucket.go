package claims

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrTaken says that a number is written already. It may be by whoever asks: an
// acknowledgement can get lost.
var ErrTaken = errors.New("number is taken")

// ErrBucket says that a bucket does not promise what claims need.
var ErrBucket = errors.New("bucket is not one of claims")

// errors of JetStream by their codes: a wrong last sequence of one server, and of a
// replicated stream; and that a subject has its one message.
const (
	codeWrongLast           = jetstream.JSErrCodeStreamWrongLastSequence
	codeWrongLastReplicated = jetstream.JSErrCodeStreamWrongLastSequenceConstant
	codeStoreFailed         = 10077
)

// streamOf is the stream of a bucket, with which the server refuses a second value of a
// key, a deletion and a purge, whoever asks.
func streamOf(bucket string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + bucket, Subjects: []string{"$KV." + bucket + ".>"}, Description: "claims of a scope",
		Storage: jetstream.FileStorage, Replicas: replicas, AllowDirect: true,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		DenyDelete: true, DenyPurge: true,
		MaxMsgSize: MaxRecord + 1024, // headers
		MaxMsgs:    -1, MaxBytes: -1, MaxConsumers: -1, Duplicates: 2 * time.Minute,
	}
}

// MakeBucket makes a bucket where there is none. The error is ErrBucket when there is
// one that promises less. Its server has to sync always (sync_interval: always), or a
// power cut takes back what it acknowledged.
func MakeBucket(ctx context.Context, js jetstream.JetStream, bucket string, replicas int) error {
	_, err := js.CreateStream(ctx, streamOf(bucket, replicas))
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		_, err = Open(ctx, js, bucket)
	}
	if err != nil {
		return fmt.Errorf("making bucket %s: %w", bucket, err)
	}
	return nil
}

// A Bucket has the logs of a scope.
type Bucket struct {
	js      jetstream.JetStream
	kv      jetstream.KeyValue
	stream  jetstream.Stream
	name    string
	created time.Time
}

// Open opens a bucket that the hub has made. The error is ErrBucket when it does not
// promise what claims need.
func Open(ctx context.Context, js jetstream.JetStream, bucket string) (*Bucket, error) {
	fail := func(err error) (*Bucket, error) { return nil, fmt.Errorf("opening bucket %s: %w", bucket, err) }
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return fail(err)
	}
	stream, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return fail(err)
	}
	info := stream.CachedInfo()
	switch c := info.Config; {
	case c.MaxMsgsPerSubject != 1 || c.Discard != jetstream.DiscardNew || !c.DiscardNewPerSubject:
		return fail(fmt.Errorf("%w: its server takes a second value of a key", ErrBucket))
	case !c.DenyDelete || !c.DenyPurge || c.MaxAge != 0 || c.AllowRollup:
		return fail(fmt.Errorf("%w: its server forgets keys", ErrBucket))
	case c.Storage != jetstream.FileStorage:
		return fail(fmt.Errorf("%w: its server keeps it in memory", ErrBucket))
	}
	return &Bucket{js, kv, stream, bucket, info.Created}, nil
}

// Created is when the stream was made. Another instant is another log.
func (b *Bucket) Created() time.Time { return b.created }

// Same reports whether the stream is still the one that was opened. It asks the server.
func (b *Bucket) Same(ctx context.Context) (bool, error) {
	info, err := b.stream.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("asking for bucket %s: %w", b.name, err)
	}
	return info.Created.Equal(b.created), nil
}

// Create writes a value as number n of a log and returns its revision. It decides by
// that alone, never by reading first. The error is ErrTaken when the number is written;
// after any other it is not known whether the value was written.
func (b *Bucket) Create(ctx context.Context, token string, n uint64, value []byte) (revision uint64, err error) {
	msg := nats.NewMsg("$KV." + b.name + "." + Key(token, n))
	msg.Data = value
	ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithExpectStream("KV_"+b.name), jetstream.WithRetryAttempts(0))
	if err == nil {
		return ack.Sequence, nil
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastReplicated || api.ErrorCode == codeStoreFailed && strings.Contains(api.Description, "per subject")) {
		err = ErrTaken
	}
	return 0, fmt.Errorf("writing number %d: %w", n, err)
}

// Get reads number n of a log.
func (b *Bucket) Get(ctx context.Context, token string, n uint64) ([]byte, error) {
	e, err := b.kv.Get(ctx, Key(token, n))
	if err != nil {
		return nil, fmt.Errorf("reading number %d: %w", n, err)
	}
	return e.Value(), nil
}

// Log reads a log from the server, up to the first number that is free, for people to
// look at. No gate decides by it.
func (b *Bucket) Log(ctx context.Context, scope, entitlement string) (log []Numbered, err error) {
	token := Token(scope, entitlement)
	for n := uint64(1); ; n++ {
		value, err := b.Get(ctx, token, n)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return log, nil
		}
		if err != nil {
			return nil, err
		}
		e := Numbered{N: n}
		e.Record, e.Err = Parse(scope, token, value)
		log = append(log, e)
	}
}

// Watch tells of every value from a revision on, in the order in which they were
// written, until ctx ends or the watcher is stopped. A nil entry comes between those
// that there were and those that are new.
func (b *Bucket) Watch(ctx context.Context, from uint64) (jetstream.KeyWatcher, error) {
	w, err := b.kv.WatchAll(ctx, jetstream.ResumeFromRevision(max(from, 1)))
	if err != nil {
		return nil, fmt.Errorf("watching bucket %s: %w", b.name, err)
	}
	return w, nil
}
