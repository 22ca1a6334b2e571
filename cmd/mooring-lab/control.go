package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

// stateFlag gives cmd the flag that says which lab is meant.
func stateFlag(cmd *cobra.Command, state *string) {
	cmd.PersistentFlags().StringVar(state, "state", defaultState(), "state directory of the lab; also from "+stateEnv)
}

// order returns a command that tells the lab to do one thing.
func order(use, short string, state *string, args int, parse func(args []string) (control.Order, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, got []string) error {
			if len(got) < args || len(got) > args+strings.Count(use, "[") {
				return &mooring.HintError{
					Err:  fmt.Errorf("%s takes %d arguments, got %d: %w", cmd.CommandPath(), args, len(got), mooring.ErrInvalid),
					Hint: cmd.CommandPath() + strings.TrimPrefix(use, cmd.Name()),
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := parse(args)
			if err != nil {
				return err
			}
			return control.Dial(*state).Do(cmd.Context(), o)
		},
	}
}

func plain(verb string) func([]string) (control.Order, error) {
	return func([]string) (control.Order, error) { return control.Order{Verb: verb}, nil }
}

func newVCenter() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "vcenter", Short: "Stop, slow down or break the vCenter of a lab that is up"}
	stateFlag(cmd, &state)
	cmd.AddCommand(
		order("stop", "Refuse connections", &state, 0, plain("vcenter-stop")),
		order("start", "Serve again", &state, 0, plain("vcenter-start")),
		order("hang", "Accept requests and never answer", &state, 0, plain("vcenter-hang")),
		order("clear", "Serve again, without delays and faults", &state, 0, plain("vcenter-clear")),
		order("logout", "End the plugin's sessions", &state, 0, plain("vcenter-logout")),
		order("delay METHOD DURATION", "Make a method take longer (ReconfigVM_Task 5s); 0s ends it", &state, 2, func(args []string) (control.Order, error) {
			d, err := time.ParseDuration(args[1])
			if err != nil {
				return control.Order{}, fmt.Errorf("duration %q: want something like 5s: %w", args[1], mooring.ErrInvalid)
			}
			return control.Order{Verb: "vcenter-delay", Method: args[0], Duration: d}, nil
		}),
		order("fail METHOD FAULT [TIMES]", "Make the next call of a method, or the next TIMES, or all, fail with a fault", &state, 2, parseFail),
	)
	return cmd
}

func parseFail(args []string) (control.Order, error) {
	o := control.Order{Verb: "vcenter-fail", Method: args[0], Fault: args[1], Times: 1}
	if len(args) < 3 {
		return o, nil
	}
	if args[2] == "all" {
		o.Times = -1
		return o, nil
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 1 {
		return o, fmt.Errorf("times %q: want a number from 1 on, or all: %w", args[2], mooring.ErrInvalid)
	}
	o.Times = n
	return o, nil
}

func newPlugin() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "plugin", Short: "Kill or restart the plugin of a lab that is up"}
	stateFlag(cmd, &state)
	cmd.AddCommand(
		order("kill", "End it with SIGKILL; it is started again at once", &state, 0, plain("plugin-kill")),
		order("restart", "End it with SIGTERM; it is started again at once", &state, 0, plain("plugin-restart")),
		order("stop", "End it with SIGTERM; its sockets stay", &state, 0, plain("plugin-stop")),
		order("start", "Start it again", &state, 0, plain("plugin-start")),
	)
	return cmd
}
