package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// fleetHubCommand is the hub of a fleet: the hub's own handler and server.
func fleetHubCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "fleet-hub DIR", Hidden: true, Args: cli.Args(cobra.ExactArgs(1))}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		root, err := os.OpenRoot(a[0])
		if err != nil {
			return err
		}
		defer root.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), l.Addr())
		return hub.Serve(cmd.Context(), hub.NewServer(hub.NewHandler(root, nil)), l, hub.DefaultConnections)
	}
	return cmd
}

// A fleetHub is the process of a hub.
type fleetHub struct {
	cmd  *exec.Cmd
	addr string
}

func startFleetHub(cmd *exec.Cmd) (*fleetHub, error) {
	h := &fleetHub{cmd: cmd}
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the hub: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the hub did not start: %w", err), h.stop())
	}
	h.addr = strings.TrimSpace(line)
	return h, nil
}

func (h *fleetHub) stop() error {
	h.cmd.Process.Signal(syscall.SIGTERM)
	return h.cmd.Wait()
}
