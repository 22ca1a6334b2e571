// Package play shows a demo: its steps in their order, each command that a person would type, how far it is, and in the end a table of what was proved.
//
// It promises that after a step that failed only those run that take something down, and that whoever reads the table can tell proved from failed from
// not run.
package play

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Step is one part of a demo.
type Step struct {
	Title  string
	About  time.Duration // how long it usually takes
	Limit  time.Duration // how long it may take; zero: five minutes
	Always bool          // it runs even after a failure: it takes something down
	// Do returns what it has proved.
	Do func(context.Context) (proof string, err error)
}

// Result is what became of a step.
type Result struct {
	Title, Proof string
	Took         time.Duration
	Err          error
	Skipped      bool // an earlier step failed
}

const usualLimit = 5 * time.Minute

// New returns the talk to whoever reads out. On a terminal its last line is kept alive.
func New(out io.Writer) *Talk {
	t := &Talk{out: out}
	if file, ok := out.(*os.File); ok {
		t.terminal = term.IsTerminal(int(file.Fd())) //nolint:gosec // a file descriptor fits
	}
	return t
}

// Show plays the steps, prints the table, and returns the exit code: 0 if all was proved, 130 if ctx ended before, else 1.
func (t *Talk) Show(ctx context.Context, steps []Step) int {
	rows := t.Play(ctx, steps)
	t.Line(table(rows))
	code := 0
	for _, row := range rows {
		if row.Err != nil || row.Skipped {
			code = 1
		}
	}
	switch {
	case ctx.Err() != nil:
		t.Line("interrupted")
		return 130
	case code == 0:
		t.Line(fmt.Sprintf("All %d proved: nothing was lost.", len(rows)))
	default:
		t.Line("Not everything was proved.")
	}
	return code
}

// Play runs the steps in their order. After one that failed only those that always run do.
func (t *Talk) Play(ctx context.Context, steps []Step) []Result {
	t.all = steps
	var rows []Result
	failed := false
	for i, step := range steps {
		row := Result{Title: step.Title}
		if (failed || ctx.Err() != nil) && !step.Always {
			row.Skipped = true
			rows = append(rows, row)
			continue
		}
		stepCtx := ctx
		if step.Always {
			stepCtx = context.WithoutCancel(ctx)
		}
		limit := step.Limit
		if limit == 0 {
			limit = usualLimit
		}
		stepCtx, cancel := context.WithTimeoutCause(stepCtx, limit, errors.New("no longer than "+limit.String()+" was allowed"))
		end, start := t.begin(i+1), time.Now()
		row.Proof, row.Err = step.Do(stepCtx)
		row.Took = time.Since(start)
		end()
		cancel()
		if row.Err != nil {
			failed = true
			t.Note("FAILED after %s: %v", Seconds(row.Took), row.Err)
		} else {
			t.Note("%s (%s)", row.Proof, Seconds(row.Took))
		}
		rows = append(rows, row)
	}
	return rows
}
