package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring/internal/admin"
)

// statusOfAll is what scripts are given. The plugin's own keys are at the top, where they were before there was a supervisor.
type statusOfAll struct {
	admin.Status

	Plugin     presence `json:"plugin"`
	Supervisor struct {
		presence
		*admin.Stack
	} `json:"supervisor"`
}

// presence says whether a program is there, and answers.
type presence struct {
	Installed bool   `json:"installed"`
	Error     string `json:"error"` // why it does not answer; empty when it does, or is not installed
}

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how plugin and supervisor on this machine are doing, and what is wrong",
		Long: `Say how the plugin and the supervisor on this machine are doing, and what is wrong, each with its cure.

The exit status is 0 when those that are installed answer, whatever they answer; scripts look at the conditions in -o json.

ENVIRONMENT
  ` + admin.SocketEnv + `  the plugin's admin socket, if not ` + admin.DefaultSocket + `
  ` + admin.SupervisorSocketEnv + `  the supervisor's admin socket, if not ` + admin.SupervisorSocket,
		Args: exactly(),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s statusOfAll
		s.Conditions = []admin.Condition{} // [] and not null
		var plugin, supervisor error
		s.Plugin, plugin = ask(cmd.Context(), newAdminClient(), admin.StatusPath, &s.Status)
		var stack admin.Stack
		if s.Supervisor.presence, supervisor = ask(cmd.Context(), newSupervisorClient(), admin.StackPath, &stack); s.Supervisor.answers() {
			s.Supervisor.Stack = &stack
		}
		if plugin != nil && supervisor != nil {
			return fmt.Errorf("%w; %w", plugin, supervisor)
		}
		if err := printStatus(cmd.OutOrStdout(), *output, s); err != nil {
			return err
		}
		return cmp.Or(plugin, supervisor)
	}
	return cmd
}

// ask asks a program that may not be installed, which is no error.
func ask(ctx context.Context, client *adminClient, path string, v any) (presence, error) {
	err := client.get(ctx, path, v)
	switch {
	case err == nil:
		return presence{Installed: true}, nil
	case !client.installed():
		return presence{}, nil
	default:
		return presence{Installed: true, Error: err.Error()}, err
	}
}

func printStatus(w io.Writer, f format, s statusOfAll) error {
	if f == jsonish {
		return printJSON(w, s)
	}
	rows := [][]string{{"plugin", s.Plugin.text(s.Version)}}
	if s.Plugin.answers() {
		rows = append(rows, [][]string{
			{"machine", s.VM},
			{"vcenter", vcenter(s.VCenter)},
			{"volumes", strconv.Itoa(s.Volumes)},
			{"mounted", strconv.Itoa(s.Mounted)},
			{"held", strconv.Itoa(s.Held)},
		}...)
	}
	wrong := s.Conditions
	if stack := s.Supervisor.Stack; stack != nil {
		rows = append(rows, []string{"supervisor", stack.Version}, []string{"stack", stackLine(*stack, time.Now())})
		if stack.Images != nil {
			rows = append(rows, []string{"images", imagesLine(*stack.Images, time.Now())})
		}
		wrong = append(wrong, stack.Conditions...)
	} else {
		rows = append(rows, []string{"supervisor", s.Supervisor.text("")})
	}
	if err := printRows(w, nil, append(rows, []string{"conditions", strconv.Itoa(len(wrong))})); err != nil {
		return err
	}
	return printConditions(w, wrong)
}

func (p presence) answers() bool { return p.Installed && p.Error == "" }

// text is the version of a program that answers, or why there is none.
func (p presence) text(version string) string {
	switch {
	case !p.Installed:
		return "not installed"
	case p.Error != "":
		return "does not answer"
	default:
		return version
	}
}

// imagesLine says in a line how far the images are proved.
func imagesLine(i admin.Images, now time.Time) string {
	line := i.Headline()
	if i.Verified.IsZero() {
		return line
	}
	line += ", at " + since(i.Verified, now)
	switch {
	case i.Progress != nil:
		line += "; " + i.Progress.Sentence()
	case i.Rehashed.After(i.Verified):
		line += "; all hashed by " + since(i.Rehashed, now)
	}
	return line
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
