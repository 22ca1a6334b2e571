package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring/cmd/internal/version"
	"github.com/mooring-sh/mooring/internal/admin"
)

// exitFindings is the status of a doctor who found something that wants a cure.
const exitFindings = 3

// errFindings says that something was found. What it is stands on standard output already.
var errFindings = errors.New("something was found")

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what would keep volumes from outliving a failure",
		Long: `Look for what would keep volumes from outliving a failure: in this virtual machine's settings, in vSphere's, in systemd's and in Docker's, each finding with its cure.
Nothing is changed. What the plugin's account may not read is "unknown", and no finding.

RESULTS
  ok       as it should be
  note     as it should be, and worth knowing before something is done to this machine
  unknown  nobody here may or can say
  warning  everything works, and will not always
  failing  something does not work

EXIT STATUS
  0   no check is a warning or failing
  3   at least one is
  75  the plugin cannot be reached

ENVIRONMENT
  ` + admin.SocketEnv + `  the plugin's admin socket, if not ` + admin.DefaultSocket,
		Args: exactly(),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := newAdminClient()
		client.http.Timeout = doctorTimeout
		var found admin.Doctor
		if err := client.get(cmd.Context(), admin.DoctorPath, &found); err != nil {
			return err
		}
		found.Checks = append([]admin.Check{sameVersion(version.String(), found.Version)}, found.Checks...)
		if err := printDoctor(cmd.OutOrStdout(), *output, found); err != nil {
			return err
		}
		if slices.ContainsFunc(found.Checks, func(c admin.Check) bool { return c.Result.Wants() }) {
			return errFindings
		}
		return nil
	}
	return cmd
}

func printDoctor(w io.Writer, f format, found admin.Doctor) error {
	if f == jsonish {
		return printJSON(w, found)
	}
	rows := make([][]string, len(found.Checks))
	for i, c := range found.Checks {
		rows[i] = []string{string(c.Result), c.Title, c.Text}
	}
	if err := printRows(w, []string{"RESULT", "CHECK", "FOUND"}, rows); err != nil {
		return err
	}
	for _, c := range found.Checks {
		if c.Cure == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s\n  cure: %s\n", cell(string(c.Result)), cell(c.Title), cell(c.Cure)); err != nil {
			return err
		}
	}
	return nil
}

// sameVersion compares the command with the plugin that runs: after an upgrade an old one may still be running.
func sameVersion(ours, theirs string) admin.Check {
	c := admin.Check{Code: "version", Result: admin.Fine, Title: "command and plugin are of one version", Text: ours}
	if ours != theirs {
		c.Result = admin.Warns
		c.Text = fmt.Sprintf("this command is %s, the plugin that runs is %s", cmp.Or(ours, "of no version"), cmp.Or(theirs, "of no version"))
		c.Cure = "systemctl restart mooring-plugin (no volume is unmounted); or install the two from one package"
	}
	return c
}
