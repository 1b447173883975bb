package registry

import (
	"context"
	"sync"
	"testing"
)

// However many scopes wait to be published, who reads waits for none of them.
func TestWritersWhoWaitTakeNoConnectionFromReaders(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		held, release := make(chan struct{}), make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.Publish(ctx, hall, false, func(*Publication) error { close(held); <-release; return nil }); err != nil {
				t.Errorf("the publication that is held: %v", err)
			}
		})
		<-held
		for range 40 {
			wg.Go(func() { // waits until the test stops it
				if err := r.Publish(ctx, hall, false, func(*Publication) error { return nil }); err == nil {
					t.Error("two wrote at once")
				}
			})
		}
		for range 200 {
			if _, err := r.Scope(ctx, hall); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		close(release)
		wg.Wait()
	})
}
