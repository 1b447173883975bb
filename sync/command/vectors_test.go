package command

import (
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/vectors"
)

func TestCommandsOfTheVectorAreRead(t *testing.T) {
	v := vectors.Operator(t)
	terminal := Terminal{Scope: v.Scope, Hierarchy: v.Hierarchy, Name: v.Terminal, Trust: v.Trust, At: v.IssuedAt}
	all, delegation, err := terminal.Read(v.Commands)
	if err != nil || delegation != 2 || len(all) != 4 {
		t.Fatalf("%+v, %d, %v", all, delegation, err)
	}
	for i, want := range []Command{
		{Action: OutOfOrder, Message: "改札を閉じます"}, {Action: InOrder}, {Action: ChangeScope, NewScope: "hall"}, {Action: Wipe, RescueKey: v.RescueKey},
	} {
		want.Scope, want.Hierarchy, want.Terminal, want.Number = v.Scope, v.Hierarchy, v.Terminal, uint64(i+1)
		want.IssuedAt, want.NotAfter = v.IssuedAt, v.IssuedAt.Add(24*time.Hour)
		if all[i].Err != nil || all[i].Command != want {
			t.Errorf("command %d: %+v, %v", i+1, all[i].Command, all[i].Err)
		}
	}
}
