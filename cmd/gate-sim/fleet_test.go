package main

import (
	"os"
	"os/exec"
	"testing"
)

// Every terminal of a fleet gets each manifest once, and no answer twice.
func TestFleetGetsEveryManifest(t *testing.T) {
	f := fleet{terminals: 300, atOnce: 16, progress: t.Output(), program: func(args ...string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), crashEnv+"=hub")
		return cmd
	}}
	r, err := f.run(t.Context())
	if err != nil || r.Terminals != 300 || r.requests != 900 || r.RequestsPS <= 0 || r.Errors != 0 || r.HubRSSMB <= 0 {
		t.Errorf("%+v, %v, %v", r, err, f.first)
	}
}
