package main

import "io"

// Execute is execute, for the tests.
var Execute = execute

// Progress is progress, for the tests.
type Progress struct{ *progress }

// NewProgress is newProgress.
func NewProgress(out io.Writer) Progress { return Progress{newProgress(out)} }

// Steps is where lines become steps.
func (p Progress) Steps() io.Writer { return stepsOf(p.progress) }

// Relay is relay.
func (p Progress) Relay(line string) { p.relay(line) }

// Close is close.
func (p Progress) Close() { p.close() }
