package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/supervisor"
)

// Volume is volume, for the tests.
func Volume(v admin.View) supervisor.Volume { return volume(v) }

// NewNotifier is newNotifier, for the tests.
func NewNotifier(cfg config.Notify) (supervisor.Notifier, error) { return newNotifier(cfg) }

// ThisBoot is thisBoot, for the tests.
func ThisBoot(proc string) (mooring.BootID, time.Time, error) { return thisBoot(proc) }

// NewPlugin is newPlugin, for the tests.
func NewPlugin(socket string) interface {
	supervisor.Volumes
	supervisor.Witness
} {
	return newPlugin(socket)
}

// Journald returns the journal's handler with another end.
func Journald(least slog.Level, send func(string, journal.Priority, map[string]string) error) slog.Handler {
	return &journald{least: least, send: send}
}

// Serve makes the service and runs it until ctx ends.
func Serve(ctx context.Context, cfg config.Supervisor, broken error, log *slog.Logger) error {
	s, err := newService(cfg, broken, log)
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

// NewRegistryImages returns the images whose manifest is kept in records, and which are hashed again at a megabyte a second, with the plugin's view of volumes and the stack that runs commands.
func NewRegistryImages(records string, view func(context.Context, mooring.Name) (admin.View, error), stack interface {
	Exec(ctx context.Context, service supervisor.ServiceName, argv []string, out io.Writer) error
},
) (all supervisor.Images, closeAll func() error) {
	r := newRegistryImages(config.Images{ManifestDir: records, RehashRate: 1}, newPlugin("/nowhere"), stack, slog.New(slog.DiscardHandler))
	r.holders = holders{view: view, every: 50 * time.Millisecond, unheld: 2 * time.Second}
	return r, r.close
}
