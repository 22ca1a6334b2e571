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

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/config"
)

// sockets returns where Docker and administrators ask: the sockets that systemd holds, or ones of our own when it passed none.
// Only root may open those.
func sockets(ctx context.Context, cfg config.Config) ([2]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return [2]net.Listener{}, fmt.Errorf("take sockets from systemd: %w", err)
	}
	return assign(ctx, cfg, passed)
}

// assign gives each of the passed sockets its part, and makes those that are missing. A socket unit has one name for all its sockets, so that
// they are told apart by their paths: dockerd finds a driver by the name of the file, whatever the configuration says.
func assign(ctx context.Context, cfg config.Config, passed []net.Listener) ([2]net.Listener, error) {
	var socks [2]net.Listener
	for _, l := range passed {
		part := 1
		if l == nil { // not one to listen at
			continue
		}
		if filepath.Base(l.Addr().String()) == mooring.DriverName+".sock" {
			part = 0
		}
		if socks[part] != nil {
			return socks, fmt.Errorf("take sockets from systemd: both %s and %s", socks[part].Addr(), l.Addr())
		}
		socks[part] = l
	}
	var err error
	for i, path := range [...]string{cfg.PluginSocket, cfg.AdminSocket} {
		if socks[i] != nil {
			continue
		}
		if socks[i], err = listen(ctx, path); err != nil {
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

// leaving reads from systemd's jobs (one on a line: ID, unit, kind, state) whether nobody will want the disks soon: the machine is about to
// be powered off or halted, or the sockets are being stopped, too, as when the package is removed. A reboot stops the sockets as well.
func leaving(jobs string) bool {
	about := make(map[string]string) // unit to kind
	for line := range strings.Lines(jobs) {
		if f := strings.Fields(line); len(f) >= 3 {
			about[f[1]] = f[2]
		}
	}
	if about["shutdown.target"] == "start" {
		return about["poweroff.target"] == "start" || about["halt.target"] == "start"
	}
	return about["mooring-plugin.socket"] == "stop"
}

// systemdJobs returns what systemd is about to start and stop.
func systemdJobs(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--plain", "--no-legend").Output()
	return string(out), err
}
