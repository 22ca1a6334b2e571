package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

func newRun() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command with a lab up, then take everything down",
		Long: `Brings up the vCenter, and with --guest local the plugin and, if none runs, the installed Docker Engine, with --guest qemu the virtual
machines; runs COMMAND with GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_TLS_CA_CERTS, MOORING_LAB_STATE and, with --guest local,
MOORING_ADMIN_SOCKET and, where needed, DOCKER_HOST in its environment; takes everything down. The exit status is COMMAND's.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &mooring.HintError{Err: fmt.Errorf("run lacks a command: %w", mooring.ErrInvalid), Hint: "mooring-lab run -- docker volume ls"}
			}
			return runIn(cmd, s, args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	s.flags(cmd, "")
	return cmd
}

// runIn runs the command in a lab of its own.
func runIn(cmd *cobra.Command, s settings, args []string) (err error) {
	if err := errors.Join(s.check(cmd), needRoot()); err != nil {
		return err
	}
	keep := s.state != ""
	if !keep {
		if s.state, err = os.MkdirTemp("", tempState); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	ctx, down := context.WithCancelCause(cmd.Context())
	defer down(nil)
	said := newProgress(cmd.ErrOrStderr())
	h, err := open(ctx, s, said, down)
	said.close()
	if err != nil {
		if keep { // a directory that was named may be another lab's
			return err
		}
		return errors.Join(err, leaveLogs(cmd.ErrOrStderr(), s.state))
	}
	err = command(ctx, h, args)
	closed := h.close(context.WithoutCancel(ctx))
	if closed != nil {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "mooring-lab: take down: %v\n", closed)
	}
	switch {
	case keep:
	case err == nil && closed == nil:
		err = os.RemoveAll(s.state)
	default:
		closed = errors.Join(closed, leaveLogs(cmd.ErrOrStderr(), s.state))
	}
	if err == nil {
		return closed
	}
	return err
}

// leaveLogs removes the directory of a lab that failed but for the logs in it, and says where they are.
func leaveLogs(say io.Writer, dir string) error {
	err := os.RemoveAll(filepath.Join(dir, control.Datastores))
	for _, pattern := range [...]string{"*.log", "*/*/*.log"} { // of the lab and of its machines
		if logs, globErr := filepath.Glob(filepath.Join(dir, pattern)); globErr != nil || len(logs) > 0 {
			_, _ = fmt.Fprintf(say, "mooring-lab: logs are in %s\n", dir)
			return errors.Join(err, globErr)
		}
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// command runs the command to its end. Signals are its to handle: ours are passed on, but not Ctrl-C on a terminal, which it gets by itself.
func command(ctx context.Context, h house, args []string) error {
	c := exec.Command(args[0], args[1:]...) //nolint:noctx // it decides itself when it ends
	c.Env = append(os.Environ(), h.env()...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := c.Start(); err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	told := ctx.Done()
	if ctx.Err() != nil {
		told = nil
	}
	for {
		select {
		case err := <-done:
			return exitStatus(err)
		case sig := <-signals:
			if sig != os.Interrupt || !term.IsTerminal(int(os.Stdin.Fd())) {
				_ = c.Process.Signal(sig)
			}
		case <-told: // by mooring-lab down, or by a signal that comes this way too
			told = nil
			if errors.Is(context.Cause(ctx), control.ErrDown) {
				_ = c.Process.Signal(syscall.SIGTERM)
			}
		}
	}
}

// exitStatus returns what a shell would make of how a command ended.
func exitStatus(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return statusError(128 + int(ws.Signal()))
	}
	return statusError(exit.ExitCode())
}
