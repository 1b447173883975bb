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
	"time"

	"github.com/gate-agent/gate-agent/hub"
	"github.com/gate-agent/gate-agent/internal/cli"
	"github.com/spf13/cobra"
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

// cpu is the processor time that the hub has taken.
func (h *fleetHub) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which ends with the last ")", utime and stime are the
	// 12th and 13th field, in hundredths of a second (proc(5)).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("unreadable /proc/PID/stat")
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, err
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// peak is the most memory that the hub has had, in MB.
func (h *fleetHub) peak() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var kb float64
	_, behind, ok := strings.Cut(string(status), "VmHWM:")
	if !ok {
		return 0, errors.New("no VmHWM in /proc/PID/status")
	}
	_, err = fmt.Sscan(behind, &kb)
	return kb * 1024 / 1e6, err
}
