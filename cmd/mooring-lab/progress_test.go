package main_test

import (
	"fmt"
	"strings"
	"testing"

	main "github.com/mooring-sh/mooring/cmd/mooring-lab"
)

// Where there is no terminal each step is a plain line with how long the work has taken, and what is no step passes as it is.
func TestStepsArePlainLinesWithoutATerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := main.NewProgress(&out)
	_, _ = fmt.Fprint(p.Steps(), "building an image\nbooting ")
	_, _ = fmt.Fprintln(p, "warning: the disk is nearly full")
	_, _ = fmt.Fprint(p.Steps(), "half a line is no step")
	p.Close()
	if got, want := out.String(), "mooring-lab: 0:00 building an image\nwarning: the disk is nearly full\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The steps of a lab in the background are those of who waits for it; its complaints stay complaints.
func TestStepsOfAnotherAreRelayed(t *testing.T) {
	t.Parallel()
	var theirs, ours strings.Builder
	p := main.NewProgress(&theirs)
	_, _ = fmt.Fprintln(p.Steps(), "booting docker1")
	_, _ = fmt.Fprintln(p, "mooring-lab: no image")
	p.Close()
	q := main.NewProgress(&ours)
	for line := range strings.Lines(theirs.String()) {
		q.Relay(strings.TrimSuffix(line, "\n"))
	}
	q.Close()
	if ours.String() != theirs.String() {
		t.Errorf("got %q, want %q", ours.String(), theirs.String())
	}
}
