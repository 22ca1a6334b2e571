package main

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/plugin"
)

// around looks at what is on this machine beside the volumes. What cannot be asked is unknown.
func (s *service) around(ctx context.Context, dockerd bool) plugin.Surroundings {
	found := plugin.Surroundings{SystemdSocket: mooring.FactOf(s.passed)}
	if unit, err := dockerUnit(ctx); err == nil {
		found.DockerAfter = orderedAfter(unit)
	} else {
		s.log.Debug("ask systemd about docker.service", "err", err)
	}
	if dockerd {
		if on, err := s.engine.LiveRestore(ctx); err == nil {
			found.LiveRestore = mooring.FactOf(on)
		} else {
			s.log.Debug("ask Docker for its settings", "err", err)
		}
	}
	dirs, err := s.guest.Writable()
	if err != nil {
		s.log.Debug("look at the mount directories", "err", err)
		return found
	}
	found.Writable, found.WritableOK = dirs, mooring.FactOf(len(dirs) == 0)
	return found
}

// socketsPassed reads from the environment whether systemd passed both sockets (sd_listen_fds(3)). It is asked before they are taken, which clears it.
func socketsPassed(env func(string) string) bool {
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	return err == nil && n >= 2 && env("LISTEN_PID") == strconv.Itoa(os.Getpid())
}

// orderedAfter reads from a unit's properties, one on a line, whether it starts after the plugin. A unit that is not loaded says nothing.
func orderedAfter(properties string) mooring.Fact {
	values := make(map[string]string)
	for line := range strings.Lines(properties) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	if values["LoadState"] != "loaded" {
		return mooring.Unknown
	}
	return mooring.FactOf(slices.Contains(strings.Fields(values["After"]), "mooring-plugin.service"))
}

// dockerUnit returns what systemd says of docker.service.
func dockerUnit(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "docker.service", "--property=LoadState,After").Output()
	return string(out), err
}
