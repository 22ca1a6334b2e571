package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/cmd/internal/daemons"
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
		if socks[i], err = daemons.Listen(ctx, path); err != nil {
			return socks, err
		}
	}
	return socks, nil
}

// leaving reads from systemd's jobs whether nobody will want the disks soon: the machine is about to
// be powered off or halted, or the sockets are being stopped, too, as when the package is removed. A reboot stops the sockets as well.
func leaving(jobs map[string]string) bool {
	if daemons.ShuttingDown(jobs) {
		return jobs["poweroff.target"] == "start" || jobs["halt.target"] == "start"
	}
	return jobs["mooring-plugin.socket"] == "stop"
}
