package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring/internal/admin"
)

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the plugin on this machine is doing, and what is wrong",
		Long: `Say how the plugin on this machine is doing, and what is wrong, each with its cure.

The exit status is 0 when the plugin answers, whatever it answers; scripts look at the conditions in -o json.

ENVIRONMENT
  ` + admin.SocketEnv + `  the plugin's admin socket, if not ` + admin.DefaultSocket,
		Args: exactly(),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var status admin.Status
		if err := newAdminClient().get(cmd.Context(), admin.StatusPath, &status); err != nil {
			return err
		}
		if *output == jsonish {
			return printJSON(cmd.OutOrStdout(), status)
		}
		if err := printRows(cmd.OutOrStdout(), nil, [][]string{
			{"plugin", status.Version},
			{"machine", status.VM},
			{"vcenter", vcenter(status.VCenter)},
			{"volumes", strconv.Itoa(status.Volumes)},
			{"mounted", strconv.Itoa(status.Mounted)},
			{"held", strconv.Itoa(status.Held)},
			{"conditions", strconv.Itoa(len(status.Conditions))},
		}); err != nil {
			return err
		}
		return printConditions(cmd.OutOrStdout(), status.Conditions)
	}
	return cmd
}

func vcenter(v admin.VCenter) string {
	switch {
	case v.Reachable:
		return v.URL + ", reachable"
	case v.Error != "":
		return v.URL + ", not reachable: " + v.Error
	default:
		return v.URL + ", not reachable"
	}
}
