package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mooring-sh/mooring/internal/admin"
)

const supervisorEnvironment = `ENVIRONMENT
  ` + admin.SupervisorSocketEnv + `  the supervisor's admin socket, if not ` + admin.SupervisorSocket

func newRecovery() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "recovery",
		Short: "Look at how the stack came back after restarts of this machine",
		Long: `Look at how the stack came back after restarts of this machine: of the last ones the supervisor keeps a report.

` + supervisorEnvironment,
	})
	cmd.AddCommand(newRecoveryList(), newRecoveryShow())
	return cmd
}

func newRecoveryList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the recoveries, the newest first",
		Args:    exactly(),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var answer admin.Recoveries
		if err := newSupervisorClient().get(cmd.Context(), admin.RecoveriesPath, &answer); err != nil {
			return err
		}
		if *output == jsonish {
			if answer.Recoveries == nil {
				answer.Recoveries = []admin.Recovery{} // [] and not null
			}
			return printJSON(cmd.OutOrStdout(), answer)
		}
		rows := make([][]string, 0, len(answer.Recoveries))
		for _, r := range answer.Recoveries {
			rows = append(rows, []string{r.ID, r.Began.Local().Format("2006-01-02 15:04:05"), r.Origin, outcome(r), took(r), provedOf(r), strings.Join(notUp(r), ", ")})
		}
		return printRows(cmd.OutOrStdout(), []string{"ID", "BEGAN", "CAUSE", "OUTCOME", "TOOK", "IMAGES", "NOT UP"}, rows)
	}
	return cmd
}

func newRecoveryShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [ID|last]",
		Short: "Show what happened in a recovery, and when",
		Long: `Show what happened in a recovery, and when: first what is not back and what to do about it, then the phases with their durations, when each service
was ready, the volumes, what was proved of the registry's images, and what vCenter saw. Without an ID it is the last one; that may be still under way.

Times are this machine's; those with a sign count from the moment at which the machine was last seen to run before, or from the
beginning of the recovery where nobody knows that.

PHASES
  fencing    until no other machine may write to a disk that is needed
  attaching  until what is needed is attached and mounted
  starting   until all services but the door are ready
  verifying  until the images are proved, the door is open and answers right
  settled    all that can be up is; what is not is named
  failed     the stack does not answer as it should

` + supervisorEnvironment,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly("ID")(cmd, args)
		},
		ValidArgsFunction: completeRecovery,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id := admin.LastRecovery
		if len(args) > 0 {
			id = args[0]
		}
		var rep admin.Recovery
		if err := newSupervisorClient().get(cmd.Context(), admin.RecoveryPath(id), &rep); err != nil {
			return err
		}
		if *output == jsonish {
			return printJSON(cmd.OutOrStdout(), rep)
		}
		return drawRecovery(cmd.OutOrStdout(), rep, time.Now(), canvasOf(cmd.OutOrStdout()))
	}
	return cmd
}

// completeRecovery offers the IDs of the recoveries to the shell; without an answer it offers the last.
func completeRecovery(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ids := []cobra.Completion{admin.LastRecovery}
	var answer admin.Recoveries
	if newSupervisorClient().get(cmd.Context(), admin.RecoveriesPath, &answer) == nil {
		for _, r := range answer.Recoveries {
			ids = append(ids, r.ID)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// outcome says in a word or three how the recovery ended.
func outcome(r admin.Recovery) string {
	switch {
	case r.Ended.IsZero():
		return "under way: " + r.Phase
	case r.Damaged && r.Phase == "settled":
		return "settled with damage"
	default:
		return r.Phase
	}
}

// took says how long it took, from when the machine died where that is known; empty: it has not settled.
func took(r admin.Recovery) string {
	if r.Ended.IsZero() || r.Phase == "failed" {
		return ""
	}
	return span(r.Ended.Sub(zeroOf(r)))
}

// provedOf says how many of the images were proved; empty: none were to be.
func provedOf(r admin.Recovery) string {
	switch i := r.Images; {
	case i == nil:
		return ""
	case i.Verified.IsZero():
		return i.State
	default:
		return fmt.Sprintf("%d of %d", i.Proved, i.Images)
	}
}

// notUp names the services that are not ready, but for those that a person stopped.
func notUp(r admin.Recovery) []string {
	var names []string
	for _, s := range r.Services {
		if !s.Ready && !s.Stopped {
			names = append(names, s.Name)
		}
	}
	return names
}

// ill says whether something about the volume kept services down.
func ill(v admin.RecoveryVolume) bool {
	return slices.Contains([]string{"fetching", "fenced", "taken", "damaged"}, v.State)
}

// canvas is what is drawn on.
type canvas struct {
	width int
	// The signs of which bars are made.
	dead, boot, work, wait, ready, never, moment string
}

const (
	plainWidth = 80
	minWidth   = 60
	maxWidth   = 120
)

// canvasOf returns the canvas of a terminal, or one that reads well in a file. What is no ASCII is drawn only where the environment says that it can be.
func canvasOf(out any) canvas {
	c := canvas{plainWidth, ".", "-", "#", "-", "*", "x", "|"}
	if isUTF8(os.Getenv) {
		c = canvas{plainWidth, "░", "▒", "█", "─", "●", "×", "│"}
	}
	f, ok := out.(*os.File)
	if !ok {
		return c
	}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil {
		c.width = min(max(w, minWidth), maxWidth)
	}
	return c
}

// isUTF8 says whether the locale is one of UTF-8.
func isUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(env(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
