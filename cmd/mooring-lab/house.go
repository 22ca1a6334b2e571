package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/control"
)

const closeWait = 60 * time.Second // for the plugin, dockerd and the control socket to end

// house is everything that is up.
type house interface {
	// close takes it down.
	close(ctx context.Context) error
	// env is the environment of a command that is run in the lab.
	env() []string
}

// open brings everything up. down is called when somebody tells the lab to go down. What was up before a failure is down after it.
func open(ctx context.Context, s settings, say io.Writer, down context.CancelCauseFunc) (house, error) {
	if err := needRoot(); err != nil {
		return nil, err
	}
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(say, &slog.HandlerOptions{Level: level}))
	if s.guest == control.QEMU {
		return openMachines(ctx, s, say, log, down)
	}
	return openLocal(ctx, s, say, log, down)
}

// pathEnv puts the directory of this binary first, where the others lie.
func pathEnv() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{"PATH=" + filepath.Dir(self) + string(os.PathListSeparator) + os.Getenv("PATH")}
}
