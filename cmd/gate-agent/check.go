package main

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/anchor"
)

func checkConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check-config --config FILE",
		Short:   "Check a configuration and open every key and file that it names",
		Example: "  gate-agent check-config --config /etc/gate-agent/config.toml",
		Args:    args(cobra.NoArgs),
	}
	cmd.RunE = withConfig(func(cmd *cobra.Command, c *config) error {
		key, err := c.openScopeKey()
		if err != nil {
			return err
		}
		anchors, err := c.openAnchors()
		if err != nil {
			return err
		}
		if _, err := c.openDialogue(); err != nil {
			return err
		}
		store, err := c.openList(key)
		if err != nil {
			return err
		}
		list := "none yet: run gate-agent list import"
		if view, err := store.Current(); err == nil {
			m := view.Manifest()
			list = fmt.Sprintf("epoch %d, seq %d, %d rows, not after %s", m.Epoch, m.Seq, m.Rows, m.NotAfter.Local().Format("2006-01-02 15:04"))
			view.Release()
		}
		custody, err := c.custody()
		if err != nil {
			return errors.Join(configError{err}, store.Close())
		}
		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "terminal   %s at gate %s, scope %s, mode %s\n", c.Terminal, c.Gate.Name, c.Scope, c.Mode)
		fmt.Fprintf(w, "methods    %q, deadline %v\n", c.Methods, c.Deadline.Duration)
		fmt.Fprintf(w, "anchors    %d\n", len(anchors.Certificates()))
		fmt.Fprintf(w, "list       %s\n", list)
		for _, s := range custody {
			fmt.Fprintf(w, "custody    %s\n", s)
		}
		if c.Mode == anchor.Test {
			fmt.Fprintln(w, "This is a TEST terminal: it trusts test cards and test lists, and no real ones.")
		}
		fmt.Fprintln(w, "configuration is good")
		return store.Close()
	})
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  gate-agent version",
		Args:    args(cobra.NoArgs),
		Run:     func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "gate-agent", version()) },
	}
}

// version is the module's version or, for a build of a checkout, its commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}
