package main

import (
	"context"
	"io"
	"time"
)

// Run is run, for the tests.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return run(ctx, args, stdout, stderr)
}

// Name is name, for the tests.
func Name(kind, version, arch string) string { return name(kind, version, arch) }

// Fold is fold, for the tests.
func Fold(first, other, text string) string { return fold(first, other, text) }

// Version returns the version of a commit so many commits after the tag.
func Version(tag, since, hash string, when time.Time, dirty bool) string {
	return commit{tag: tag, since: since, hash: hash, when: when, dirty: dirty}.version()
}

// Look returns the version of the tree in dir, and the time of its commit.
func Look(ctx context.Context, dir string) (string, time.Time, error) {
	c, err := look(ctx, dir)
	return c.version(), c.when, err
}
