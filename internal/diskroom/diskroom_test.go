package diskroom_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/gate-agent/gate-agent/internal/diskroom"
	"github.com/gate-agent/gate-agent/internal/smalldisk"
)

func TestRoomIsLeftForWhatCannotWait(t *testing.T) {
	if spare, err := diskroom.Spare(t.TempDir()); err != nil || spare > 16<<20 {
		t.Errorf("of this disk: %d, %v", spare, err)
	}
	dir, inside := smalldisk.Mount(t)
	if !inside {
		return
	}
	if spare, err := diskroom.Spare(dir); err != nil || spare != smalldisk.Size/16 {
		t.Errorf("of a small disk: %d, %v", spare, err)
	}
	smalldisk.Fill(t, dir, smalldisk.Size/8)
	if err := diskroom.Check(dir); err != nil {
		t.Error(err)
	}
	if err := os.Remove(dir + "/ballast"); err != nil {
		t.Fatal(err)
	}
	smalldisk.Fill(t, dir, 0)
	if err := diskroom.Check(dir); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full: %v", err)
	}
	if err := diskroom.Check(dir + "/missing"); err == nil {
		t.Error("a folder that is not there has room")
	}
}
