// Command mooring-demo shows the main job on this machine: a compose stack with a registry, a database and a job log keeps
// all that it acknowledged while the volume driver and dockerd are killed under it and its disks leave the machine and come back.
//
// It runs in the lab (`bin/mooring-lab run -- bin/mooring-demo`), says each command that a person would type, and ends with a table of what was proved;
// anything that was not makes it exit 1. It never trusts Mooring's own word where vCenter, Docker or the bytes themselves
// can be asked, it takes down what it made whatever happens, and it touches no container, image or volume but its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
)

// result is what became of a step.
type result struct {
	title, proof string
	took         time.Duration
	err          error
	skipped      bool // an earlier step failed
}

func main() {
	cache := flag.String("cache", filepath.Join(".cache", "demo"), "`directory` that keeps the images of the stack's services")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout, *cache))
}

// run plays the story and returns the exit code: 0 if all was proved, 130 if ctx ended before, else 1.
func run(ctx context.Context, out io.Writer, cache string) int {
	t := &talk{out: out}
	if file, ok := out.(*os.File); ok {
		t.terminal = term.IsTerminal(int(file.Fd())) //nolint:gosec // a file descriptor fits
	}
	s, err := newStory(ctx, t, cache)
	if err != nil {
		t.line("mooring-demo: " + err.Error())
		return 1
	}
	defer s.forget()
	t.all = s.steps()
	rows := play(ctx, t)
	t.line(table(rows))
	code := 0
	for _, row := range rows {
		if row.err != nil || row.skipped {
			code = 1
		}
	}
	switch {
	case ctx.Err() != nil:
		t.line("interrupted")
		return 130
	case code == 0:
		t.line(fmt.Sprintf("All %d proved: nothing was lost.", len(rows)))
	default:
		t.line("Not everything was proved.")
	}
	return code
}

// play runs the steps in their order. After one that failed only those that always run do.
func play(ctx context.Context, t *talk) []result {
	var rows []result
	failed := false
	for i, step := range t.all {
		row := result{title: step.title}
		if (failed || ctx.Err() != nil) && !step.always {
			row.skipped = true
			rows = append(rows, row)
			continue
		}
		stepCtx := ctx
		if step.always {
			stepCtx = context.WithoutCancel(ctx)
		}
		stepCtx, cancel := context.WithTimeoutCause(stepCtx, 5*time.Minute, errors.New("no step takes five minutes"))
		end, start := t.begin(i+1), time.Now()
		row.proof, row.err = step.do(stepCtx)
		row.took = time.Since(start)
		end()
		cancel()
		if row.err != nil {
			failed = true
			t.note("FAILED after %s: %v", seconds(row.took), row.err)
		} else {
			t.note("%s (%s)", row.proof, seconds(row.took))
		}
		rows = append(rows, row)
	}
	return rows
}
