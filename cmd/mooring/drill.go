package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

const drillHelp = `Reset this virtual machine, to see whether its stack comes back. vSphere is asked to press its reset button: nothing in the machine is told, its
containers die where they are, and what they had not yet written to disk is lost, as when a host dies. Everybody who uses the stack
notices. It takes as long as a boot and the start of the stack; afterwards mooring recovery show last says how it went.

It is refused while a recovery is under way, and while the plugin has no ledger in order. The plugin's account in vCenter needs the
privilege VirtualMachine.Interact.Reset on this machine, which nothing else needs.

A RESET IS NO FAILOVER
The machine stays on its host, and vSphere HA takes no part. Not exercised are: that HA notices a dead host and has room for the machine on
another one; that the disks' locks, which the dead host leaves behind, are waited for; that vSAN or the datastore serves the disks while a
host is missing; that another machine has taken a volume meanwhile. For those, cut the power of a host that runs nothing that may not
stop, while the machine is on it. In the lab, where hosts are free, mooring-lab drill does that.`

func newDrill() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Reset this machine on purpose, to see whether its stack comes back",
		Long: drillHelp + `

EXIT STATUS
  0   the machine is about to end
  12  a recovery is under way
  75  the plugin, the supervisor or vCenter cannot be reached

ENVIRONMENT
  ` + admin.SocketEnv + `  the plugin's admin socket, if not ` + admin.DefaultSocket + `
  ` + admin.SupervisorSocketEnv + `  the supervisor's admin socket, if not ` + admin.SupervisorSocket,
		Args: exactly(),
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask before this machine is reset")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var plugin admin.Status
		if err := newAdminClient().get(cmd.Context(), admin.StatusPath, &plugin); err != nil {
			return err
		}
		st, err := askStack(cmd.Context(), newSupervisorClient())
		if err != nil {
			return err
		}
		if !settled(st) {
			return &mooring.HintError{
				Err:  fmt.Errorf("a recovery is under way (%s): %w", st.Phase, mooring.ErrInUse),
				Hint: "wait until it has settled: mooring stack ps",
			}
		}
		if _, err := io.WriteString(cmd.ErrOrStderr(), forewarning(plugin, st, time.Now())); err != nil {
			return err
		}
		if !*yes {
			if err := confirm(cmd, "Reset "+plugin.VM+" now? [y/N] "); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(cmd.ErrOrStderr(), "resetting "+plugin.VM+"; after its boot: mooring recovery show last\n"); err != nil {
			return err
		}
		return newAdminClient().post(cmd.Context(), admin.ResetPath, nil, &struct{}{})
	}
	return cmd
}

// forewarning says what is about to happen, to what, and what it proves.
func forewarning(plugin admin.Status, st admin.Stack, now time.Time) string {
	var b strings.Builder
	printf := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	printf("This resets the virtual machine %s. Nothing in it is told; all its containers die where they are.\n", cell(plugin.VM))
	printf("  stack     %s\n", cell(stackLine(st, now)))
	printf("  volumes   %d, of which %d are held\n", plugin.Volumes, plugin.Held)
	wrong := append(plugin.Conditions, st.Conditions...)
	for _, c := range wrong {
		printf("  wrong     %s: %s\n", cell(c.Title), cell(c.Text))
	}
	if len(wrong) > 0 {
		printf("What is wrong now will be wrong afterwards.\n")
	}
	printf("It is no failover: the machine stays on its host, and neither HA nor the disks' locks are exercised (mooring drill --help).\n")
	printf("This command dies with the machine. When it has booted again, the report is in: mooring recovery show last\n")
	return b.String()
}
