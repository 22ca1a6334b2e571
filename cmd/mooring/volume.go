package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

func newVolume() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "volume",
		Short: "Look at the volumes that this machine can use, and take them over",
		Long: `Look at the volumes that this machine can use, as its plugin knows them: to list and to inspect, vCenter is not asked, and may be down.

ENVIRONMENT
  ` + admin.SocketEnv + `  the plugin's admin socket, if not ` + admin.DefaultSocket,
	})
	cmd.AddCommand(newVolumeList(), newVolumeInspect(), newVolumeRelease())
	return cmd
}

func newVolumeList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the volumes",
		Args:    exactly(),
	}
	output := outputFlag(cmd)
	held := cmd.Flags().Bool("held", false, "only volumes that Docker has mounted")
	quiet := cmd.Flags().BoolP("quiet", "q", false, "only the names, one on a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *quiet && *output == jsonish {
			return usage(cmd, "--quiet and -o json exclude each other")
		}
		var answer admin.Volumes
		if err := newAdminClient().get(cmd.Context(), admin.VolumesPath, &answer); err != nil {
			return err
		}
		if *held {
			answer.Volumes = slices.DeleteFunc(answer.Volumes, func(v admin.View) bool { return len(v.Holders) == 0 })
		}
		switch {
		case *quiet:
			return printNames(cmd.OutOrStdout(), answer.Volumes)
		case *output == jsonish:
			if answer.Volumes == nil {
				answer.Volumes = []admin.View{} // [] and not null
			}
			return printJSON(cmd.OutOrStdout(), answer)
		}
		rows := make([][]string, 0, len(answer.Volumes))
		for _, v := range answer.Volumes {
			rows = append(rows, []string{
				string(v.Name), size(v), string(v.FSType), string(v.Policy), v.Datastore, state(v), codes(v.Conditions),
			})
		}
		return printRows(cmd.OutOrStdout(), []string{"NAME", "SIZE", "FSTYPE", "POLICY", "DATASTORE", "STATE", "CONDITIONS"}, rows)
	}
	return cmd
}

// printNames prints a name on each line, as it is: no name holds a control character.
func printNames(w io.Writer, views []admin.View) error {
	for _, v := range views {
		if _, err := io.WriteString(w, string(v.Name)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func newVolumeInspect() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "inspect NAME",
		Short:             "Show all that is known of a volume",
		Args:              exactly("NAME"),
		ValidArgsFunction: completeVolume,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := mooring.ParseName(args[0])
		if err != nil {
			return err
		}
		var view admin.View
		if err := newAdminClient().get(cmd.Context(), admin.VolumePath(name), &view); err != nil {
			return err
		}
		if *output == jsonish {
			return printJSON(cmd.OutOrStdout(), view)
		}
		if err := printRows(cmd.OutOrStdout(), nil, properties(view)); err != nil {
			return err
		}
		return printConditions(cmd.OutOrStdout(), view.Conditions)
	}
	return cmd
}

// completeVolume offers the names of the volumes to the shell; without an answer it offers nothing.
func completeVolume(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var answer admin.Volumes
	if len(args) > 0 || newAdminClient().get(cmd.Context(), admin.VolumesPath, &answer) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, len(answer.Volumes))
	for i, v := range answer.Volumes {
		names[i] = cobra.Completion(v.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// properties returns what is known of a volume, as rows of a name and a value.
func properties(v admin.View) [][]string {
	if listed(v) {
		return [][]string{
			{"name", string(v.Name)},
			{"state", "listed: another host made it; more is known once Docker asks for it here"},
			{"backing", string(v.Backing)},
		}
	}
	return [][]string{
		{"name", string(v.Name)},
		{"state", state(v)},
		{"size", size(v)},
		{"filesystem", filesystem(v)},
		{"policy", policy(v)},
		{"backing", string(v.Backing)},
		{"disk", string(v.Disk)},
		{"mountpoint", v.Mountpoint},
		{"holders", holders(v.Holders)},
		{"created", created(v)},
		{"sidecar", string(v.Sidecar)},
	}
}

// listed says that only the volume's name is known, from the datastore: another host made it, and nobody has asked for it here.
func listed(v admin.View) bool { return v.Disk == "" }

// state says in a word where the volume is.
func state(v admin.View) string {
	switch {
	case listed(v):
		return "listed"
	case v.Mounted:
		return "mounted"
	case v.Attached:
		return "attached"
	default:
		return "detached"
	}
}

func size(v admin.View) string {
	if listed(v) {
		return ""
	}
	return v.Size
}

func filesystem(v admin.View) string {
	text := string(v.FSType)
	switch v.Format {
	case mooring.FormatDone:
		return text
	case mooring.FormatUnknown:
		return text + ", made elsewhere: never formatted"
	case mooring.Formatting:
		return text + ", being made"
	default:
		return text + ", to be made at the first mount"
	}
}

// policy says which policy the disk has by vCenter's word, and that it is only Mooring's word where vCenter has none:
// it knows the policies of attached disks only.
func policy(v admin.View) string {
	switch {
	case v.PolicyReported != "":
		text := string(v.PolicyReported)
		if v.Compliance != "" {
			text += ", " + v.Compliance
		}
		if v.PolicyReportedAt.IsZero() {
			return text + ", as vCenter reported"
		}
		return text + ", as vCenter reported at " + stamp(v.PolicyReportedAt)
	case v.PolicyApplied != "":
		return string(v.PolicyApplied) + ", as last applied"
	case v.Policy != "":
		return string(v.Policy) + ", asked for"
	default:
		return "the datastore's default"
	}
}

func holders(all []admin.Holder) string {
	texts := make([]string, len(all))
	for i, h := range all {
		texts[i] = string(h.ID)
		if h.Count > 1 {
			texts[i] += fmt.Sprintf(" (%d times)", h.Count)
		}
	}
	return strings.Join(texts, ", ")
}

func created(v admin.View) string {
	if v.Created.IsZero() {
		return v.CreatedBy
	}
	if v.CreatedBy == "" {
		return stamp(v.Created)
	}
	return stamp(v.Created) + " by " + v.CreatedBy
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// codes names conditions in one cell.
func codes(conditions []admin.Condition) string {
	texts := make([]string, len(conditions))
	for i, c := range conditions {
		texts[i] = c.Code
	}
	return strings.Join(texts, ",")
}

// printConditions prints each condition with its cure, after an empty line.
func printConditions(w io.Writer, conditions []admin.Condition) error {
	for _, c := range conditions {
		text := fmt.Sprintf("\n%s: %s\n", cell(string(c.Severity)), cell(c.Title))
		if c.Text != "" {
			text += "  " + cell(c.Text) + "\n"
		}
		if c.Cure != "" {
			text += "  cure: " + cell(c.Cure) + "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}
