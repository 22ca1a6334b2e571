// Command mooring is what people type: storage policies in vCenter, and what the plugin on this machine says of its volumes.
//
// It promises that standard output is data and standard error is talk, that a failure is one line with its cure below it,
// and that its exit status says what kind of failure it was. It changes nothing on this machine: volumes are made, attached
// and removed by the plugin, when Docker asks; what Docker has no word for (a release, a ledger made anew) the plugin is asked for.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/policies"
)

// exitInterrupted is the status of a command that was interrupted from the keyboard or told to end.
const exitInterrupted = 130

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run runs one command and returns its exit status. Only the environment and the file system reach it otherwise.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot() //nolint:contextcheck // ExecuteContext hands it to the commands
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		_, _ = io.WriteString(stderr, "mooring: interrupted\n")
		return exitInterrupted
	case errors.Is(err, errFindings):
		return exitFindings
	}
	_, _ = io.WriteString(stderr, report(err))
	return mooring.ExitCode(err)
}

// report returns what a person reads of err: a line, the place in a policy where there is one, and the hint.
func report(err error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "mooring: %v\n", err)
	if syntax, ok := errors.AsType[*policies.SyntaxError](err); ok {
		for line := range strings.SplitSeq(syntax.Caret(), "\n") {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	if hint, ok := errors.AsType[*mooring.HintError](err); ok {
		fmt.Fprintf(&b, "hint: %s\n", hint.Hint)
	}
	return b.String()
}
