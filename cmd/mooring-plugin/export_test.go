package main

import (
	"context"
	"log/slog"
	"net"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/config"
)

// Misplaced is misplaced, for the tests.
func Misplaced(broken error, stateDir string) bool { return misplaced(broken, stateDir) }

// Sockets is sockets, for the tests.
func Sockets(ctx context.Context, cfg config.Config) ([2]net.Listener, error) {
	return sockets(ctx, cfg)
}

// Assign is assign, for the tests.
func Assign(ctx context.Context, cfg config.Config, passed []net.Listener) ([2]net.Listener, error) {
	return assign(ctx, cfg, passed)
}

// Watch is watch with the probes that the service has.
func Watch(ctx context.Context, socks [2]net.Listener, log *slog.Logger) {
	watch(ctx, []probe{listing(socks[0]), status(socks[1])}, log)
}

// Leaving is leaving, for the tests.
func Leaving(jobs map[string]string) bool { return leaving(jobs) }

// OrderedAfter is orderedAfter, for the tests.
func OrderedAfter(properties string) mooring.Fact { return orderedAfter(properties) }

// SocketsPassed is socketsPassed, for the tests.
func SocketsPassed(env func(string) string) bool { return socketsPassed(env) }
