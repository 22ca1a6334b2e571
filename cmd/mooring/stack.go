package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

func newStack() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "stack",
		Short: "Look at the compose stack that the supervisor looks after, and have it mended",
		Long: `Look at the compose stack that the supervisor on this machine looks after, and have it mended.

` + supervisorEnvironment,
	})
	cmd.AddCommand(
		newStackList(),
		newStackMend("up", true, "Have the whole stack started, what a person stopped, too"),
		newStackMend("heal", false, "Have everything tried again that was given up"),
	)
	return cmd
}

func newStackList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"ls"},
		Short:   "List the services in the order of their start, and what is wrong",
		Args:    exactly(),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		st, err := askStack(cmd.Context(), newSupervisorClient())
		if err != nil {
			return err
		}
		return printStack(cmd.OutOrStdout(), *output, st)
	}
	return cmd
}

// newStackMend returns the command up, or heal.
func newStackMend(name string, stopped bool, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Long: short + `, and wait until the stack has settled: until each service is ready, or given up, or kept down by what only a person can
cure. Then the services are listed as by mooring stack ps.

The supervisor does the work. When this command is interrupted, or its time is over, the supervisor goes on.

EXIT STATUS
  0   all that is not stopped is up, and the doors answer right
  3   something is not: it is listed, with its cure
  75  the supervisor cannot be reached, or the stack had not settled when the time was over`,
		Args: exactly(),
	}
	output := outputFlag(cmd)
	timeout := cmd.Flags().Duration("timeout", 15*time.Minute, "how long to wait for it to settle")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := newSupervisorClient()
		var st admin.Stack
		if err := client.post(cmd.Context(), admin.HealPath, admin.Heal{Stopped: stopped}, &st); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		settled, err := awaitStack(ctx, client, st, newProgress(cmd.ErrOrStderr()))
		if errors.Is(err, context.DeadlineExceeded) {
			err = &mooring.HintError{
				Err:  fmt.Errorf("the stack has not settled within %s: %w", *timeout, mooring.ErrUnavailable),
				Hint: "the supervisor goes on: mooring stack ps",
			}
		}
		if cmd.Context().Err() != nil {
			_, _ = io.WriteString(cmd.ErrOrStderr(), "the supervisor goes on: mooring stack ps\n")
		}
		if err != nil {
			return err
		}
		if err := printStack(cmd.OutOrStdout(), *output, settled); err != nil {
			return err
		}
		if !well(settled) {
			return errFindings
		}
		return nil
	}
	return cmd
}

// askStack asks how the stack is.
func askStack(ctx context.Context, client *adminClient) (admin.Stack, error) {
	var st admin.Stack
	if err := client.get(ctx, admin.StackPath, &st); err != nil {
		return st, err
	}
	if st.Configured {
		return st, nil
	}
	why, cure := mooring.ErrNotFound, "name its directory in /etc/mooring/supervisor.yaml, then: systemctl restart mooring-supervisor"
	for _, c := range st.Conditions {
		if c.Severity == admin.Failing { // as of a stack that is named and cannot be had
			why, cure = fmt.Errorf("%s: %w", c.Text, why), c.Cure
			break
		}
	}
	return st, &mooring.HintError{Err: fmt.Errorf("the supervisor looks after no stack: %w", why), Hint: cure}
}

const stackPause = time.Second // between two questions

// awaitStack asks again and again until the stack has settled after what was answered first, and shows how far it is.
func awaitStack(ctx context.Context, client *adminClient, first admin.Stack, p *progress) (admin.Stack, error) {
	defer p.close()
	tick := time.NewTicker(stackPause)
	defer tick.Stop()
	for {
		st, err := askStack(ctx, client)
		if err != nil {
			return st, cmpCause(ctx, err)
		}
		p.show(st)
		// What was seen before the supervisor was asked says nothing of what it does about it.
		if st.Looked.After(first.Looked) && settled(st) {
			return st, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// cmpCause returns why ctx ended, if it did, and else the error.
func cmpCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// settled says that nothing more is to be expected of the supervisor but what a person has to do first.
func settled(st admin.Stack) bool {
	if st.Phase != "settled" && st.Phase != "failed" {
		return false
	}
	if i := st.Images; i != nil && i.Progress != nil && i.Progress.Tier < 3 { // they are judged anew
		return false
	}
	waiting := func(s admin.Service) bool { return !s.Ready && !s.Stopped && !s.GaveUp && !s.Blocked }
	known := slices.ContainsFunc(st.Conditions, func(c admin.Condition) bool { return c.Code == "doors" })
	return !slices.ContainsFunc(st.Services, waiting) && (st.Doors.Right || st.Doors.Asked.IsZero() || known)
}

// well says that all that nobody stopped is up, and that the doors answer right if they are asked.
func well(st admin.Stack) bool {
	return st.Phase == "settled" && ready(st) == wanted(st) && (st.Doors.Right || st.Doors.Asked.IsZero()) &&
		!slices.ContainsFunc(st.Conditions, func(c admin.Condition) bool { return c.Severity == admin.Failing })
}

// ready counts the services that are.
func ready(st admin.Stack) (n int) {
	for _, s := range st.Services {
		if s.Ready {
			n++
		}
	}
	return n
}

// wanted counts the services that nobody stopped.
func wanted(st admin.Stack) (n int) {
	for _, s := range st.Services {
		if !s.Stopped {
			n++
		}
	}
	return n
}

func printStack(w io.Writer, f format, st admin.Stack) error {
	if f == jsonish {
		return printJSON(w, st)
	}
	rows := make([][]string, 0, len(st.Services))
	for _, s := range st.Services {
		readiness := "no"
		if s.Ready {
			readiness = "yes"
		}
		rows = append(rows, []string{s.Name, s.State, readiness, s.Why})
	}
	if err := printRows(w, []string{"SERVICE", "STATE", "READY", "WHY NOT"}, rows); err != nil {
		return err
	}
	return printConditions(w, st.Conditions)
}

// stackLine says in a line how the stack is.
func stackLine(st admin.Stack, now time.Time) string {
	if !st.Configured {
		return "none is configured"
	}
	line := fmt.Sprintf("%s, %d of %d services ready", st.Phase, ready(st), wanted(st))
	if n := len(st.Services) - wanted(st); n > 0 {
		line += fmt.Sprintf(" (%d stopped by a person)", n)
	}
	switch {
	case len(st.Waits) > 0:
		line += ", waits: " + st.Waits[0]
		if more := len(st.Waits) - 1; more > 0 {
			line += fmt.Sprintf(" (and %d more)", more)
		}
	case st.Doors.Asked.IsZero():
	case st.Doors.Right:
		line += ", answers right"
	default:
		line += ", answers wrong"
	}
	if st.Since.IsZero() {
		return line
	}
	return line + ", since " + since(st.Since, now)
}

// since says when it was, with the date if it was not today.
func since(t, now time.Time) string {
	if t.Local().Format(time.DateOnly) == now.Local().Format(time.DateOnly) {
		return clock(t)
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
