package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/cmd/internal/version"
)

const rootHelp = `Mooring gives Docker hosts on vSphere volumes that outlive the machine they are mounted on, and brings the compose stack on them back.

Volumes are made, used and removed with docker volume and the driver vmdk. This command is for what Docker has no words
for: the storage policies that volumes can ask for, how the volumes of this machine are doing, how its stack came back, and
whether a registry's images are there.

Results go to standard output, everything else to standard error. Listings have -o json for scripts.`

const rootExits = `EXIT STATUS
  0    done
  1    an error that was not foreseen
  2    invalid: a wrong option, name, policy or configuration
  3    doctor found something that wants a cure, not all of the stack is up, or images are not whole
  10   not found
  11   exists already, and differs
  12   in use: the message names by whom
  13   fenced: another host or virtual machine may still write to the disk
  14   storage policy: there is none of that name, or no datastore can take it
  15   no capacity: no space on the datastore, or no free place on the controllers
  16   corrupt: nothing repairs it by itself
  75   unavailable: the plugin, the supervisor, vCenter or a registry cannot be reached; it may work later
  130  interrupted`

// newRoot returns the whole tree of commands.
func newRoot() *cobra.Command {
	root := group(&cobra.Command{
		Use:     "mooring",
		Short:   "Storage policies, volumes and recoveries of Docker hosts on vSphere",
		Long:    rootHelp + "\n\n" + rootExits,
		Version: version.String(),
	})
	root.SilenceErrors = true // run reports them
	root.SilenceUsage = true
	root.SetVersionTemplate("mooring {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	root.AddCommand(ofVSphere()...)
	root.AddCommand(newVolume(), newImages(), newStack(), newRecovery(), newDrill(), newStatus(), newDoctor(), newLedger(), newVersion(), newManual())
	return root
}

// group makes cmd a command that only holds others: alone it prints its help, an unknown word after it is an error.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf(", did you mean %q?", near[0])
		}
		return usage(cmd, "%s", text)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// exactly refuses any other number of arguments, naming those that it wants.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(cmd, "%s lacks its %s", cmd.CommandPath(), names[len(args)])
		}
		if len(args) > len(names) {
			return usage(cmd, "%s has no use for %q", cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// usage returns an error about how cmd was called, with a hint to its help.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &mooring.HintError{
		Err:  &usageError{text: fmt.Sprintf(format, args...)},
		Hint: cmd.CommandPath() + " --help",
	}
}

// usageError is an [mooring.ErrInvalid] whose text says so without the word.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func (e *usageError) Unwrap() error { return mooring.ErrInvalid }

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this command",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "mooring %s\n", version.String())
			return err
		},
	}
}
