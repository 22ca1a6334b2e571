//go:build !laptop

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/policies"
)

const policyHelp = `Make, look at and remove the storage policies that volumes can ask for:

  mooring policy create --name SW=2 --content '(("stripeWidth" i2))'
  docker volume create --driver=vmdk --name=db -o size=20gb -o vsan-policy-name=SW=2

The content is vSAN's own grammar. Its rules:

  "hostFailuresToTolerate" i0 to i3     hosts that may fail (i1)
  "stripeWidth" i1 to i12               capacity devices under each copy (i1)
  "forceProvisioning" i0, i1            place the disk even where the policy cannot be kept (i0)
  "proportionalCapacity" i0 to i100     percent of the size that is reserved (i0)
  "cacheReservation" i0 to i1000000     flash read cache that is reserved, in percent × 10000 (i0)
  "checksumDisabled" i0, i1             no checksums (i0)
  "replicaPreference"                   "Performance" mirrors, "Capacity" codes as RAID-5 or RAID-6 ("Performance")
  "iopsLimit" i0 and more               operations per second, i0 for no limit (i0)`

func newPolicy() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "policy",
		Short: "Make, look at and remove storage policies",
		Long:  policyHelp + "\n\n" + accountHelp,
	})
	var c credentials
	c.register(cmd)
	cmd.AddCommand(newPolicyCreate(&c), newPolicyList(&c), newPolicyShow(&c), newPolicyRemove(&c))
	return cmd
}

func newPolicyCreate(c *credentials) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --name NAME --content POLICY",
		Short: "Make a storage policy in vCenter and print its profile ID",
		Args:  exactly(),
	}
	var name, content, description string
	cmd.Flags().StringVar(&name, "name", "", "what volumes ask for with -o vsan-policy-name")
	cmd.Flags().StringVar(&content, "content", "", `the rules, such as (("stripeWidth" i2))`)
	cmd.Flags().StringVar(&description, "description", "", "what others read in the vSphere client")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, flag := range []string{"name", "content"} {
			if !cmd.Flags().Changed(flag) {
				return usage(cmd, "%s lacks --%s", cmd.CommandPath(), flag)
			}
		}
		policy, err := policies.Parse(content)
		if err != nil {
			return err // before anybody is asked for a password
		}
		return c.withSession(cmd, func(ctx context.Context, s *esx.Session) error {
			id, err := s.CreateProfile(ctx, mooring.PolicyName(name), description, policy.Capabilities())
			if errors.Is(err, mooring.ErrExists) {
				return &mooring.HintError{Err: err, Hint: "mooring policy show " + name}
			}
			if err != nil {
				return err
			}
			demand, _ := policy.Demands() // Parse refuses what cannot be
			cmd.PrintErrf("made storage policy %q, which demands %s\n", name, demand)
			cmd.PrintErrln(placement(ctx, s, id))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		})
	}
	return cmd
}

// placement says where disks with a profile can be made. The profile is there whether or not vCenter answers this.
func placement(ctx context.Context, s *esx.Session, id mooring.ProfileID) string {
	datastores, err := s.CompatibleDatastores(ctx, id)
	switch {
	case err != nil:
		return fmt.Sprintf("which datastores can take it is not known: %v", err)
	case len(datastores) == 0:
		return "no datastore can take it: volumes that ask for it will be refused"
	default:
		return "datastores that can take it: " + strings.Join(datastores, ", ")
	}
}

func newPolicyList(c *credentials) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the storage policies in vCenter",
		Args:    exactly(),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.withSession(cmd, func(ctx context.Context, s *esx.Session) error {
			profiles, err := s.Profiles(ctx)
			if err != nil {
				return err
			}
			views := make([]policyView, len(profiles))
			rows := make([][]string, len(profiles))
			for i, p := range profiles {
				views[i] = viewPolicy(p)
				rows[i] = []string{string(p.Name), views[i].Content, listRules(views[i].Others), string(p.ID)}
			}
			if *output == jsonish {
				return printJSON(cmd.OutOrStdout(), map[string]any{"policies": views})
			}
			return printRows(cmd.OutOrStdout(), []string{"NAME", "CONTENT", "OTHER RULES", "PROFILE"}, rows)
		})
	}
	return cmd
}

func newPolicyShow(c *credentials) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a storage policy, what it demands, and which datastores can take it",
		Args:  exactly("NAME"),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.withSession(cmd, func(ctx context.Context, s *esx.Session) error {
			profile, err := s.FindProfile(ctx, mooring.PolicyName(args[0]))
			if err != nil {
				return err
			}
			view := viewPolicy(profile)
			if view.Datastores, err = s.CompatibleDatastores(ctx, profile.ID); err != nil {
				return err
			}
			if *output == jsonish {
				return printJSON(cmd.OutOrStdout(), view)
			}
			return printRows(cmd.OutOrStdout(), nil, view.rows())
		})
	}
	return cmd
}

func newPolicyRemove(c *credentials) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"remove"},
		Short:   "Remove a storage policy from vCenter",
		Long: `Remove a storage policy from vCenter.

vCenter refuses as long as a disk with the policy is attached to a virtual machine; it knows nothing of detached ones. On a
Docker host the command therefore asks the plugin first, and refuses when one of the volumes that it knows asks for the policy.`,
		Args: exactly("NAME"),
	}
	force := cmd.Flags().Bool("force", false, "do not ask the plugin whether volumes ask for the policy")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := mooring.PolicyName(args[0])
		if !*force {
			if err := unused(cmd, name); err != nil {
				return err
			}
		}
		return c.withSession(cmd, func(ctx context.Context, s *esx.Session) error {
			if err := s.DeleteProfile(ctx, name); err != nil {
				return err
			}
			cmd.PrintErrf("removed storage policy %q\n", name)
			return nil
		})
	}
	return cmd
}

// unused returns nil if no volume that the plugin on this machine knows asks for the policy, or if there is no plugin here.
func unused(cmd *cobra.Command, policy mooring.PolicyName) error {
	plugin := newAdminClient()
	if _, err := os.Stat(plugin.socket); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var answer admin.Volumes
	if err := plugin.get(cmd.Context(), admin.VolumesPath, &answer); err != nil {
		return fmt.Errorf("remove storage policy %q: whether volumes use it is not known (--force does without): %w", policy, err)
	}
	var users []string
	for _, v := range answer.Volumes {
		if v.Policy == policy {
			users = append(users, string(v.Name))
		}
	}
	if len(users) == 0 {
		return nil
	}
	return &mooring.HintError{
		Err: fmt.Errorf("remove storage policy %q: %w by volumes (%s)", policy, mooring.ErrInUse, strings.Join(users, ", ")),
		Hint: "docker volume rm them first, or give --force: the volumes keep their data and placement, " +
			"and are attached without the policy from then on",
	}
}

// withSession logs in to vCenter, does do, and logs out.
func (c *credentials) withSession(cmd *cobra.Command, do func(context.Context, *esx.Session) error) (err error) {
	account, err := c.account(cmd)
	if err != nil {
		return err
	}
	session, err := esx.NewSession(account, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close(context.WithoutCancel(cmd.Context()))) }()
	return trust(do(cmd.Context(), session))
}
