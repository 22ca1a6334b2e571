package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
)

type flag = pflag.Flag

// stateFlag gives cmd the flag that says which lab is meant.
func stateFlag(cmd *cobra.Command, state *string) {
	cmd.PersistentFlags().StringVar(state, "state", defaultState(), "state directory of the lab; also from "+stateEnv)
}

// order returns a command that tells the lab to do one thing.
func order(use, short string, state *string, args int, parse func(args []string) (lab.Order, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, got []string) error {
			if len(got) < args || len(got) > args && !strings.Contains(use, "[") {
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
			return lab.Dial(*state).Do(cmd.Context(), o)
		},
	}
}

func plain(verb string) func([]string) (lab.Order, error) {
	return func([]string) (lab.Order, error) { return lab.Order{Verb: verb}, nil }
}

func newVCenter() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "vcenter", Short: "Stop, slow down or break the vCenter of a lab that is up"}
	stateFlag(cmd, &state)
	cmd.AddCommand(
		order("stop", "Refuse connections", &state, 0, plain("stop")),
		order("start", "Serve again", &state, 0, plain("start")),
		order("hang", "Accept requests and never answer", &state, 0, plain("hang")),
		order("clear", "Serve again, without delays and faults", &state, 0, plain("clear")),
		order("logout", "End the plugin's sessions", &state, 0, plain("logout")),
		order("delay METHOD DURATION", "Make a method take longer (ReconfigVM_Task 5s); 0s ends it", &state, 2, func(args []string) (lab.Order, error) {
			d, err := time.ParseDuration(args[1])
			if err != nil {
				return lab.Order{}, fmt.Errorf("duration %q: want something like 5s: %w", args[1], mooring.ErrInvalid)
			}
			return lab.Order{Verb: "delay", Method: args[0], Duration: d}, nil
		}),
		order("fail METHOD FAULT [TIMES]", "Make the next call of a method, or the next TIMES, or all, fail with a fault", &state, 2, parseFail),
	)
	return cmd
}

func parseFail(args []string) (lab.Order, error) {
	o := lab.Order{Verb: "fail", Method: args[0], Fault: args[1], Times: 1}
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
		order("kill", "End it with SIGKILL; it is started again at once", &state, 0, plain("kill")),
		order("restart", "End it with SIGTERM; it is started again at once", &state, 0, plain("restart")),
		order("stop", "End it with SIGTERM; its sockets stay", &state, 0, plain("hold")),
		order("start", "Start it again", &state, 0, plain("resume")),
	)
	return cmd
}

func newMachine() *cobra.Command {
	var state string
	cmd := &cobra.Command{Use: "vm", Short: "Power a virtual machine of a lab that is up"}
	stateFlag(cmd, &state)
	power := func(verb string) func([]string) (lab.Order, error) {
		return func(args []string) (lab.Order, error) { return lab.Order{Verb: verb, Name: args[0]}, nil }
	}
	cmd.AddCommand(
		order("poweroff NAME", "Pull its plug", &state, 1, power("poweroff")),
		order("poweron NAME", "Start it", &state, 1, power("poweron")),
	)
	return cmd
}

func newStatus() *cobra.Command {
	var state, format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show hosts, virtual machines, disks, and who has what", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("output %q: allowed are table and json: %w", format, mooring.ErrInvalid)
			}
			st, err := lab.Dial(state).Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("no lab is up in %s: %w", state, err)
			}
			if format == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(st)
			}
			return printStatus(cmd, st)
		},
	}
	stateFlag(cmd, &state)
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	return cmd
}

func printStatus(cmd *cobra.Command, st lab.Status) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintf(w, "vCenter\t%s\t%s\n", st.URL, st.VCenter)
	if st.Plugin != nil {
		_, _ = fmt.Fprintf(w, "plugin\tpid %d\tstarted %d times\n", st.Plugin.PID, st.Plugin.Starts)
	}
	_, _ = fmt.Fprintf(w, "\nVM\tHOST\tPOWER\tDISK\tSIZE\tPLACE\tDEVICE\tBACKING\n")
	for _, m := range st.Machines {
		power := "off"
		if m.PoweredOn {
			power = "on"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Host, power)
		for _, d := range m.Disks {
			dev := ""
			if m.Name == lab.ThisVM {
				dev = st.Devices[d.UUID]
			}
			_, _ = fmt.Fprintf(w, "\t\t\t%s\t%s\t%d:%d\t%s\t%s\n", d.Label, mooring.Size(d.Capacity), d.Controller, d.Unit, dev, d.Backing)
		}
	}
	for _, v := range st.Violations {
		_, _ = fmt.Fprintf(w, "\nviolation\tdisk %s was detached while mounted\t%s\n", v.UUID, strings.Join(v.Mounts, ", "))
	}
	return w.Flush()
}
