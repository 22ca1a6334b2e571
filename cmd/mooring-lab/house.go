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

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	readyWait = 30 * time.Second // for the plugin
	closeWait = 60 * time.Second // for the plugin, dockerd and the control socket to end
	stateEnv  = "MOORING_LAB_STATE"
)

// settings are the flags of the commands that bring a lab up.
type settings struct {
	state    string
	listen   string
	plugin   string
	noPlugin bool
	noEngine bool
	socket   string
	admin    string
	busy     bool
	verbose  bool
}

// flags gives cmd the flags. The state directory of a background lab has a default, that of a run is temporary.
func (s *settings) flags(cmd *cobra.Command, state string) {
	f := cmd.Flags()
	f.StringVar(&s.state, "state", state, "state directory")
	f.StringVar(&s.listen, "listen", "127.0.0.1:0", "host and port of the vCenter")
	f.StringVar(&s.plugin, "plugin", "", "the plugin's binary (default: mooring-plugin beside this one, or in PATH)")
	f.BoolVar(&s.noPlugin, "no-plugin", false, "run no plugin")
	f.BoolVar(&s.noEngine, "no-engine", false, "do not look for a Docker Engine")
	f.StringVar(&s.socket, "plugin-socket", lab.PluginSocket, "socket of the plugin for dockerd")
	f.StringVar(&s.admin, "admin-socket", lab.AdminSocket, "socket of the plugin for mooring")
	f.BoolVar(&s.busy, "busy", false, "a second operation on a virtual machine fails with TaskInProgress, as on a host")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log what the lab does")
}

// defaultState is where a background lab keeps its state, unless the environment names another place.
func defaultState() string {
	if dir := os.Getenv(stateEnv); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "mooring-lab")
	}
	return "/var/lib/mooring-lab"
}

// house is everything that is up.
type house struct {
	lab     *lab.Lab
	unit    *lab.Unit
	engine  *lab.Engine
	control *lab.Control
	say     io.Writer
}

func needRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &mooring.HintError{
		Err:  fmt.Errorf("needs root, for loop devices and mounts: %w", mooring.ErrInvalid),
		Hint: "sudo mooring-lab " + strings.Join(os.Args[1:], " "),
	}
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

// open brings everything up. down is called when somebody tells the lab to go down. What was up before a failure is down after it.
func open(ctx context.Context, s settings, say io.Writer, down context.CancelCauseFunc) (h *house, err error) {
	if err := needRoot(); err != nil {
		return nil, err
	}
	binary := ""
	if !s.noPlugin {
		if binary, err = findPlugin(s.plugin); err != nil {
			return nil, err
		}
	}
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(say, &slog.HandlerOptions{Level: level}))
	h = &house{say: say}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close(context.WithoutCancel(ctx)))
		}
	}()
	l, err := lab.Start(ctx, lab.Options{Dir: s.state, Listen: s.listen, Log: log, Busy: s.busy})
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
func (h *house) useEngine(ctx context.Context, opts lab.EngineOptions) error {
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

func (h *house) printf(format string, args ...any) { _, _ = fmt.Fprintf(h.say, format, args...) }

// close takes everything down: dockerd first if it is ours, because it unmounts through the plugin; then the plugin, the mounts that are
// left, this machine's disks, and the vCenter.
func (h *house) close(ctx context.Context) error {
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
func (h *house) warnUsers(ctx context.Context) {
	if h.engine.Ours() {
		return // it ends, and its containers with it
	}
	users, err := h.engine.VolumeUsers(ctx)
	if err == nil && len(users) > 0 {
		h.printf("mooring-lab: containers still use volumes of the lab, which stay mounted for them: %s\n", strings.Join(users, ", "))
	}
}

// env is the environment of a command that is run in the lab.
func (h *house) env() []string {
	out := append(h.lab.Env(), stateEnv+"="+h.lab.Dir())
	if h.unit != nil {
		out = append(out, admin.SocketEnv+"="+h.unit.AdminSocket(), "MOORING_LAB_PLUGIN_LOG="+h.unit.LogFile())
	}
	if h.engine != nil && h.engine.Host() != lab.DefaultDockerHost {
		out = append(out, "DOCKER_HOST="+h.engine.Host())
	}
	if self, err := os.Executable(); err == nil {
		out = append(out, "PATH="+filepath.Dir(self)+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	return out
}
