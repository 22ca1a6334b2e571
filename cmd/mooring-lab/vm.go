package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

func newMachine() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "vm", Short: "List the virtual machines of a lab that is up, use them and break them"}
	stateFlag(cmd, &state)
	one := func(use, short string) *cobra.Command {
		return order(use+" NAME", short, &state, 1, named("vm-"+use))
	}
	network := func(use, short string) *cobra.Command {
		return order(use+" NAME [vcenter|guests|all]", short, &state, 1, func(args []string) (control.Order, error) {
			o := control.Order{Verb: "vm-" + use, Name: args[0], Network: "all"}
			if len(args) > 1 {
				o.Network = args[1]
			}
			return o, nil
		})
	}
	cmd.AddCommand(
		listing("ls", "List them", &state, listMachines, printMachines),
		newExec(&state),
		newConsole(&state),
		one("poweron", "Start it"),
		one("poweroff", "Pull its plug"),
		one("reset", "Restart it at once, asking nobody"),
		one("kill", "Let its process on the host die (the host lives)"),
		one("freeze", "Stop it where it is, without its knowing"),
		one("thaw", "Let a frozen one go on"),
		network("cut", "Pull its cable to vCenter, to the other machines, or both"),
		network("join", "Plug the cable in again"),
	)
	return cmd
}

// named returns the order for what the first argument names.
func named(verb string) func([]string) (control.Order, error) {
	return func(args []string) (control.Order, error) { return control.Order{Verb: verb, Name: args[0]}, nil }
}

func newExec(state *string) *cobra.Command {
	return &cobra.Command{
		Use: "exec NAME -- COMMAND [ARGUMENT...]", Short: "Run a command in it, with this standard input, output and exit status",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || cmd.ArgsLenAtDash() != 1 {
				return &mooring.HintError{
					Err:  fmt.Errorf("%s wants a virtual machine, -- and a command: %w", cmd.CommandPath(), mooring.ErrInvalid),
					Hint: cmd.CommandPath() + " docker1 -- docker ps",
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			exit, err := control.Dial(*state).Exec(cmd.Context(), args[0], control.Command{
				Args: args[1:], Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
			})
			if err == nil && exit != 0 {
				return statusError(exit)
			}
			return err
		},
	}
}

func newConsole(state *string) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "console NAME", Short: "Show what it has printed on its console, of all boots", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := control.Dial(*state).Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask the lab in %s: %w", *state, err)
			}
			g, ok := st.Guests[args[0]]
			if !ok {
				if st.Guest == control.Local {
					return control.NeedsMachines("console")
				}
				return fmt.Errorf("no virtual machine %q: %w", args[0], mooring.ErrNotFound)
			}
			f, err := os.Open(g.Console)
			if err != nil {
				return fmt.Errorf("open console: %w", err)
			}
			defer func() { _ = f.Close() }()
			return show(cmd.Context(), cmd.OutOrStdout(), f, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it prints, until interrupted")
	return cmd
}

// show writes what a file has, and what it gets until the context ends.
func show(ctx context.Context, w io.Writer, f *os.File, follow bool) error {
	tick := time.NewTicker(upPoll)
	defer tick.Stop()
	for {
		if _, err := io.Copy(w, f); err != nil {
			return fmt.Errorf("show console: %w", err)
		}
		if !follow {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func newHost() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "host", Short: "List the hosts of a lab that is up, and break them"}
	stateFlag(cmd, &state)
	cmd.AddCommand(
		listing("ls", "List them", &state, (*control.Client).Hosts, printHosts),
		order("kill NAME", "Cut its power: every machine on it dies, and HA restarts them elsewhere", &state, 1, named("host-kill")),
		order("isolate NAME", "Cut its network: it cannot be reached, its machines run on", &state, 1, named("host-isolate")),
		order("start NAME", "Bring it back, dead or isolated", &state, 1, named("host-start")),
		order("maintenance NAME [on|off]", "Evacuate it, or take it into service again", &state, 1, parseMaintenance),
	)
	return cmd
}

func parseMaintenance(args []string) (control.Order, error) {
	o := control.Order{Verb: "host-enter", Name: args[0]}
	if len(args) < 2 || args[1] == "on" {
		return o, nil
	}
	if args[1] != "off" {
		return o, fmt.Errorf("maintenance %q: allowed are on and off: %w", args[1], mooring.ErrInvalid)
	}
	o.Verb = "host-exit"
	return o, nil
}

func newDisk() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "disk", Short: "List the virtual disks of a lab that is up"}
	stateFlag(cmd, &state)
	cmd.AddCommand(listing("ls", "List them with the machines that have them; those that nobody has come last", &state, (*control.Client).Disks, printDisks))
	return cmd
}

func newEvents() *cobra.Command {
	var state string
	cmd := listing("events", "Show what vCenter of a lab that is up has written", &state, (*control.Client).Events, printEvents)
	stateFlag(cmd, &state)
	return cmd
}
