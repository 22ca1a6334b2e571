package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring/internal/admin"
)

func newLedger() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "ledger",
		Short: "The plugin's record of volumes and of who holds them",
	})
	cmd.AddCommand(&cobra.Command{
		Use:   "rebuild",
		Short: "Make the ledger anew when it cannot be read",
		Long: `Make the ledger anew, from what lies on the datastore and what is mounted here, when neither of its two generations can be read.

Until then the plugin leaves Docker's requests without an answer, so that Docker keeps what it knows. vCenter must be reachable. What is mounted
counts as held until Docker says that no running container uses it. The unreadable files are kept beside the new ones. A ledger that can be read is refused.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var made admin.Rebuilt
			if err := newAdminClient().post(cmd.Context(), admin.RebuildPath, nil, &made); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "the ledger was made anew with %d volume(s); the plugin starts again with it\n", made.Volumes)
			return err
		},
	})
	return cmd
}
