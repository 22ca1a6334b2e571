// Command mooring-lab is vSphere and the volume plugin for a machine that has neither: a simulated vCenter with a real
// one's rules, and as its virtual machines either this one, with the plugin run as systemd would run it and with Docker, or QEMU's, which boot and die.
//
// It promises that the machine is afterwards as it was before, however a run ends short of SIGKILL, that a Docker Engine which
// is there is used and never replaced, and that the exit status of run, and of vm exec, is that of the command which was run. QEMU's machines end
// with it even then.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/cmd/internal/version"
	"github.com/mooring-sh/mooring/integration/lab/agent"
)

// exitInterrupted is the status of a command that was interrupted from the keyboard or told to end.
const exitInterrupted = 130

// statusError is the exit status of the command that run has run. There is nothing to say about it.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if filepath.Base(os.Args[0]) == agent.Program { // in a guest, see agentProgram
		if err := agent.Serve(context.Background(), agent.Guest{Report: os.Stderr}); err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", agent.Program, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command and returns its exit status.
func execute(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var status statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case ctx.Err() != nil:
		_, _ = fmt.Fprintf(stderr, "mooring-lab: interrupted: %v\n", err)
		return exitInterrupted
	}
	_, _ = fmt.Fprintf(stderr, "mooring-lab: %v\n", err)
	if hint := new(mooring.HintError); errors.As(err, &hint) {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", hint.Hint)
	}
	return mooring.ExitCode(err)
}

const rootHelp = `A vSphere for a machine that has none: a simulated vCenter with hosts and a vsanDatastore. Needs root.

  mooring-lab run -- COMMAND    lab up, COMMAND, everything down again
  mooring-lab up                lab in the background, until mooring-lab down

With --guest local, the default, this machine is the virtual machine docker1, and the plugin runs on it: volumes of the driver vmdk become loop
devices, with real filesystems. With --guest qemu the virtual machines are QEMU's, with Debian and Docker inside, which boot and die with their
hosts: see mooring-lab vm and mooring-lab host.

Volumes last as long as the lab: nothing of them survives down.`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "mooring-lab", Short: "A simulated vSphere with the volume plugin", Long: rootHelp, Version: version.String(),
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &mooring.HintError{Err: fmt.Errorf("%w: %w", err, mooring.ErrInvalid), Hint: cmd.CommandPath() + " --help"}
	})
	root.AddCommand(newRun(), newUp(), newServe(), newDown(), newStatus(), newVCenter(), newPlugin(), newMachine(), newHost(), newDrill(), newDisk(), newEvents())
	return root
}
