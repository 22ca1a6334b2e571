package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

func newVolumeRelease() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release NAME --from VM",
		Short: "Take a volume over from a machine that is powered off",
		Long: `Remove the volume's disk from the configuration of the virtual machine VM, which must be powered off. No file is touched, and nothing is attached here:
this machine attaches the disk when a container wants the volume, and VM can be powered on again, without it.

It is refused as long as VM may still write to the disk: while it is powered on or suspended (exit status 12), and while its host does not
answer, for it may run on there (exit status 13). A machine that does not have the disk is no error.`,
		Example:           "  mooring volume release db --from docker1",
		Args:              exactly("NAME"),
		ValidArgsFunction: completeVolume,
	}
	from := cmd.Flags().String("from", "", "the `VM`'s name in vCenter")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask before the other machine is changed")
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.NoFileCompletions) // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := mooring.ParseName(args[0])
		if err != nil {
			return err
		}
		if *from == "" {
			return usage(cmd, "%s lacks --from, the virtual machine that has the disk", cmd.CommandPath())
		}
		if !*yes {
			if err := confirm(cmd, fmt.Sprintf("Remove the disk of volume %s from the configuration of %s? [y/N] ", name, *from)); err != nil {
				return err
			}
		}
		var done admin.Released
		if err := newAdminClient().post(cmd.Context(), admin.ReleasePath(name), admin.Release{From: *from}, &done); err != nil {
			return err
		}
		text := fmt.Sprintf("%s had nothing to release: it does not have the disk of volume %s\n", *from, name)
		if done.Released {
			text = fmt.Sprintf("volume %s is released from %s\n", name, *from)
		}
		_, err = fmt.Fprint(cmd.ErrOrStderr(), text)
		return err
	}
	return cmd
}

// confirm asks whoever sits at the terminal. Without one, and for any answer but yes, nothing is to be done.
func confirm(cmd *cobra.Command, question string) error {
	answer, err := prompter{in: cmd.InOrStdin(), out: cmd.ErrOrStderr()}.line(cmd.Context(), question)
	if errors.Is(err, errNoTerminal) {
		return &mooring.HintError{Err: fmt.Errorf("nobody is there to agree: %w: %w", err, mooring.ErrInvalid), Hint: "--yes"}
	}
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return &mooring.HintError{Err: fmt.Errorf("nothing was changed: %w", errDeclined), Hint: "answer y, or give --yes"}
}

// errDeclined says that a person said no.
var errDeclined = errors.New("not agreed to")
