// Package pcscdtest gives all tests of a process one private pcscd: the client library
// remembers the first socket that it was told.
package pcscdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/gate-agent/gate-agent/internal/pcscd"
)

// A Daemon runs from the first Need to the end of Main. Its zero value is ready.
type Daemon struct {
	*pcscd.Daemon // nil before Need

	once sync.Once
	err  error
}

// Need starts the daemon, of two slots, for the first test that needs it. Where pcscd is
// not installed the test fails in CI, and is skipped elsewhere.
func (d *Daemon) Need(t testing.TB) {
	t.Helper()
	d.once.Do(func() {
		if d.Daemon, d.err = pcscd.Start(context.Background(), pcscd.Options{}); d.err == nil {
			d.err = d.Setenv()
		}
	})
	if errors.Is(d.err, pcscd.ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skip(d.err)
	}
	if d.err != nil {
		t.Fatal(d.err)
	}
}

// Main is TestMain. Of a daemon whose tests failed it shows the log.
func (d *Daemon) Main(m *testing.M) {
	code := m.Run()
	if d.Daemon != nil {
		if code != 0 {
			fmt.Println(d.Log())
		}
		if err := d.Stop(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}
