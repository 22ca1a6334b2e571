package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/mooring-sh/mooring/internal/config"
)

// The names of the sockets that mooring-plugin.socket passes (FileDescriptorName=).
const (
	pluginSocket = "plugin"
	adminSocket  = "admin"
)

// sockets returns where Docker and administrators ask: the sockets that systemd holds, or ones of our own when it passed none.
// Only root may open those.
func sockets(ctx context.Context, cfg config.Config) ([2]net.Listener, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return [2]net.Listener{}, fmt.Errorf("take sockets from systemd: %w", err)
	}
	var socks [2]net.Listener
	for i, s := range [...]struct{ name, path string }{{pluginSocket, cfg.PluginSocket}, {adminSocket, cfg.AdminSocket}} {
		if ls := passed[s.name]; len(ls) == 1 {
			socks[i] = ls[0]
			continue
		}
		if socks[i], err = listen(ctx, s.path); err != nil {
			return socks, err
		}
	}
	return socks, nil
}

// listen makes the socket, in place of one that nobody answers at.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s is served already: is another mooring-plugin running?", path), conn.Close())
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

// goingDown reads from systemd's jobs (one on a line: ID, unit, kind, state) whether the machine is about to be powered off or halted.
func goingDown(jobs string) bool {
	for line := range strings.Lines(jobs) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[2] == "start" && (f[1] == "poweroff.target" || f[1] == "halt.target") {
			return true
		}
	}
	return false
}

// systemdJobs returns what systemd is about to start and stop.
func systemdJobs(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--plain", "--no-legend").Output()
	return string(out), err
}
