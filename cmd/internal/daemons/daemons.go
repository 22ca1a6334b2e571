// Package daemons is what Mooring's daemons have in common: sockets that only root can open, and what they tell systemd and ask it.
package daemons

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Listen makes the socket, in place of one that nobody answers at. Only root may open it.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s is served already: is another %s running?", path, filepath.Base(os.Args[0])), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove dead socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket: %w", err), l.Close())
	}
	return l, nil
}

// Notify tells systemd how the service is, if systemd wants to know.
func Notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("notify systemd", "err", err)
	}
}

// Jobs returns what systemd is about to do, by unit: start, stop, restart, reload.
func Jobs(ctx context.Context) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--plain", "--no-legend").Output()
	return parseJobs(string(out)), err
}

// parseJobs reads systemd's jobs, one on a line: ID, unit, kind, state.
func parseJobs(list string) map[string]string {
	about := make(map[string]string)
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) >= 3 {
			about[f[1]] = f[2]
		}
	}
	return about
}

// ShuttingDown says whether the machine is about to go down in order: to be powered off, halted or booted again.
func ShuttingDown(jobs map[string]string) bool { return jobs["shutdown.target"] == "start" }
