package main

import (
	"context"
	"net"

	"github.com/mooring-sh/mooring/internal/config"
)

// Misplaced is misplaced, for the tests.
func Misplaced(broken error, stateDir string) bool { return misplaced(broken, stateDir) }

// Sockets is sockets, for the tests.
func Sockets(ctx context.Context, cfg config.Config) ([2]net.Listener, error) {
	return sockets(ctx, cfg)
}

// GoingDown is goingDown, for the tests.
func GoingDown(jobs string) bool { return goingDown(jobs) }
