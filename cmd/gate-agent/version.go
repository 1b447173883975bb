package main

import (
	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func versionCommand() *cobra.Command { return cli.VersionCommand("gate-agent") }

func version() string { return cli.Version() }
