package main

import (
	"io"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
)

// Main is the command, for the scripts.
func Main() { main() }

// DrawRecovery draws a report as for a terminal of that width.
func DrawRecovery(w io.Writer, rep admin.Recovery, now time.Time, width int) error {
	c := canvasOf(w)
	c.width = width
	return drawRecovery(w, rep, now, c)
}

// NewProgress is newProgress, for a terminal of that width, or for none if it is 0.
func NewProgress(w io.Writer, width int) interface{ Show(st admin.Stack) } {
	p := newProgress(w)
	p.width = width
	return shown{p}
}

type shown struct{ p *progress }

// Show is show.
func (s shown) Show(st admin.Stack) { s.p.show(st) }
