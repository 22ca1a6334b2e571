package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/internal/admin"
)

const readyWait = 30 * time.Second // for the plugin

// local is a lab whose guest is this machine.
type local struct {
	lab     *lab.Lab
	unit    *lab.Unit
	engine  *lab.Engine
	control *control.Server
	say     io.Writer
}

// findPlugin returns the plugin's binary: the one that was named, the one beside this binary, the one in PATH.
func findPlugin(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "mooring-plugin")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	if p, err := exec.LookPath("mooring-plugin"); err == nil {
		return p, nil
	}
	return "", &mooring.HintError{
		Err:  fmt.Errorf("mooring-plugin is neither beside mooring-lab nor in PATH: %w", mooring.ErrNotFound),
		Hint: "name it with --plugin, or run no plugin with --no-plugin",
	}
}

// openLocal brings up a lab whose guest is this machine.
func openLocal(ctx context.Context, s settings, say io.Writer, log *slog.Logger, down context.CancelCauseFunc) (_ house, err error) {
	binary := ""
	if !s.noPlugin {
		if binary, err = findPlugin(s.plugin); err != nil {
			return nil, err
		}
	}
	h := &local{say: say}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close(context.WithoutCancel(ctx)))
		}
	}()
	l, err := lab.Start(ctx, lab.Options{Dir: s.state, Listen: s.listen, Log: log, Busy: s.busy, Hosts: s.hosts})
	if err != nil {
		return h, err
	}
	h.lab = l
	dockerHost := lab.DefaultDockerHost
	if v := os.Getenv("DOCKER_HOST"); v != "" {
		dockerHost = v
	}
	if !s.noPlugin {
		h.unit, err = l.StartUnit(lab.UnitOptions{Binary: binary, PluginSocket: s.socket, AdminSocket: s.admin, DockerHost: dockerHost})
		if err != nil {
			return h, fmt.Errorf("start plugin: %w", err)
		}
	}
	if !s.noEngine {
		if err := h.useEngine(ctx, lab.EngineOptions{Host: dockerHost, Dir: s.state, Log: log}); err != nil {
			return h, err
		}
	}
	if h.unit != nil {
		wait, cancel := context.WithTimeout(ctx, readyWait)
		defer cancel()
		if err := h.unit.Ready(wait); err != nil {
			return h, err
		}
	}
	h.control, err = l.Serve(ctx, h.unit, down)
	return h, err
}

// useEngine finds a Docker Engine, and installs one where there is none.
func (h *local) useEngine(ctx context.Context, opts lab.EngineOptions) error {
	e, err := lab.UseEngine(ctx, opts)
	if errors.Is(err, lab.ErrNoEngine) {
		h.printf("mooring-lab: no Docker Engine is installed: installing the package docker.io with apt-get\n")
		if err := lab.InstallEngine(ctx, h.say); err != nil {
			return err
		}
		e, err = lab.UseEngine(ctx, opts)
	}
	if err != nil {
		return err
	}
	h.engine = e
	if e.Ours() {
		h.printf("mooring-lab: dockerd was not running: started for the time being\n")
	}
	return nil
}

func (h *local) printf(format string, args ...any) { _, _ = fmt.Fprintf(h.say, format, args...) }

// close takes everything down: dockerd first if it is ours, because it unmounts through the plugin; then the plugin, the mounts that are
// left, this machine's disks, and the vCenter.
func (h *local) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	var errs []error
	if h.control != nil {
		errs = append(errs, h.control.Close(ctx))
	}
	if h.engine != nil {
		h.warnUsers(ctx)
		errs = append(errs, h.engine.Close(ctx))
	}
	if h.unit != nil {
		errs = append(errs, h.unit.Close(ctx))
	}
	if h.lab != nil {
		errs = append(errs, h.lab.UnmountVolumes())
		for _, v := range h.lab.Violations() {
			h.printf("mooring-lab: disk %s was detached while it was mounted (%s)\n", v.UUID, strings.Join(v.Mounts, ", "))
		}
		errs = append(errs, h.lab.Close())
	}
	return errors.Join(errs...)
}

// warnUsers names the containers that still use a volume: they are the user's, and with an engine that goes on they keep running.
func (h *local) warnUsers(ctx context.Context) {
	if h.engine.Ours() {
		return // it ends, and its containers with it
	}
	users, err := h.engine.VolumeUsers(ctx)
	if err == nil && len(users) > 0 {
		h.printf("mooring-lab: containers still use volumes of the lab, which stay mounted for them: %s\n", strings.Join(users, ", "))
	}
}

func (h *local) env() []string {
	out := append(h.lab.Env(), stateEnv+"="+h.lab.Dir())
	if h.unit != nil {
		out = append(out, admin.SocketEnv+"="+h.unit.AdminSocket(), "MOORING_LAB_PLUGIN_LOG="+h.unit.LogFile())
	}
	if h.engine != nil && h.engine.Host() != lab.DefaultDockerHost {
		out = append(out, "DOCKER_HOST="+h.engine.Host())
	}
	return append(out, pathEnv()...)
}
