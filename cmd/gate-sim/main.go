// Gate-sim makes virtual cards and virtual gates: for demonstrations, tests
// and load. It is no part of a production terminal.
package main

import (
	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/internal/cli"
)

func main() { cli.Main(rootCommand(), nil) }

func rootCommand() *cobra.Command {
	return cli.Root(&cobra.Command{
		Use:   "gate-sim",
		Short: "Virtual cards and virtual gates",
		Long:  "Gate-sim makes virtual My Number cards and the small world around them, and runs\na gate against them. Nothing it makes is trusted by a production terminal.",
	}, demoCommand(), adversariesCommand(), afternoonCommand(), crashGateCommand(), crashLaneCommand(), cardCommand(), worldCommand(), readersCommand(), fleetCommand(), fleetHubCommand(), venueCommand())
}
