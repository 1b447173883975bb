package terminal_test

import (
	"testing"

	"github.com/gate-agent/gate-agent/nfc/jpki"
	"github.com/gate-agent/gate-agent/nfc/nfctest"
	"github.com/gate-agent/gate-agent/terminal"
)

// What is missing is found out at the start, and not by the first person.
func TestLaneThatLacksAnythingDoesNotStart(t *testing.T) {
	c, err := earth()
	if err != nil {
		t.Fatal(err)
	}
	site, err := c.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	for name, lack := range map[string]func(*terminal.Config, *terminal.Parts){
		"scope":     func(c *terminal.Config, _ *terminal.Parts) { c.Scope = "" },
		"terminal":  func(c *terminal.Config, _ *terminal.Parts) { c.Terminal = "" },
		"gate name": func(c *terminal.Config, _ *terminal.Parts) { c.GateName = "" },
		"methods":   func(c *terminal.Config, _ *terminal.Parts) { c.Methods = nil },
		"method":    func(c *terminal.Config, _ *terminal.Parts) { c.Methods = []jpki.Method{"tap"} },
		"deadline":  func(c *terminal.Config, _ *terminal.Parts) { c.Deadline = 0 },
		"timeout":   func(c *terminal.Config, _ *terminal.Parts) { c.HolderCheckTimeout = 0 },
		"reader":    func(_ *terminal.Config, p *terminal.Parts) { p.Reader = nil },
		"dialogue":  func(_ *terminal.Config, p *terminal.Parts) { p.Dialogue = nil },
		"list":      func(_ *terminal.Config, p *terminal.Parts) { p.List = nil },
		"journal":   func(_ *terminal.Config, p *terminal.Parts) { p.Journal = nil },
		"gate":      func(_ *terminal.Config, p *terminal.Parts) { p.Gate = nil },
		"rand":      func(_ *terminal.Config, p *terminal.Parts) { p.Rand = nil },
		"observe":   func(_ *terminal.Config, p *terminal.Parts) { p.Observe = nil },
		"now":       func(_ *terminal.Config, p *terminal.Parts) { p.Now = nil },
		"terminal key": func(_ *terminal.Config, p *terminal.Parts) {
			if p.Dialogue, err = jpki.NewDialogue(jpki.DefaultProfile(), nil, p.Rand); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if _, _, err := site.Lane(nfctest.NewField(slotA), lack); err == nil {
			t.Errorf("without its %s a lane is made", name)
		}
	}
	change := func(_ *terminal.Config, p *terminal.Parts) { p.Checker = nil }
	if _, _, err := site.Lane(nfctest.NewField(slotA), change); err != nil {
		t.Errorf("without a checker: %v", err)
	}
}
