package ingest

import (
	"path/filepath"
	"testing"
)

// What a power cut takes is what was not synced: every commit is, on both engines.
func TestEveryCommitIsSynced(t *testing.T) {
	lite := newHub(t, "sqlite:"+filepath.Join(t.TempDir(), "events.db")).Store
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal"} {
		var got string
		if err := lite.w.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", pragma, got, want, err)
		}
	}
	var got string
	if err := newHub(t, server.Database(t)).Store.w.QueryRow(`SHOW synchronous_commit`).Scan(&got); err != nil || got != "on" {
		t.Errorf("synchronous_commit is %s (%v)", got, err)
	}
}
