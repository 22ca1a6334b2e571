// Package docker asks Docker's API what the plugin cannot know: which volumes running containers use, and whether those outlive the daemon.
//
// It only reads. A daemon that cannot be reached is [mooring.ErrUnavailable].
package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"

	"github.com/mooring-sh/mooring"
)

// Engine is a Docker daemon's API. Its methods may be called at the same time.
type Engine struct {
	api *client.Client
	// turn is held by the one call that is under way: the client writes the version that it negotiates without a lock.
	turn chan struct{}
}

// New returns the engine at host (unix:///run/docker.sock). Nothing is contacted yet.
func New(host string) (*Engine, error) {
	api, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w: %w", host, err, mooring.ErrInvalid)
	}
	return &Engine{api: api, turn: make(chan struct{}, 1)}, nil
}

// LiveRestore returns whether containers outlive the daemon.
func (e *Engine) LiveRestore(ctx context.Context) (bool, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return false, fmt.Errorf("ask Docker for its settings: %w: %w", ctx.Err(), mooring.ErrUnavailable)
	}
	info, err := e.api.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("ask Docker for its settings: %w: %w", err, mooring.ErrUnavailable)
	}
	return info.LiveRestoreEnabled, nil
}

// Running returns the names of the containers that run, are paused or restart, by the volumes of our driver that they use.
func (e *Engine) Running(ctx context.Context) (map[mooring.Name][]string, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("list containers: %w: %w", ctx.Err(), mooring.ErrUnavailable)
	}
	states := filters.NewArgs(filters.Arg("status", "running"), filters.Arg("status", "paused"), filters.Arg("status", "restarting"))
	list, err := e.api.ContainerList(ctx, container.ListOptions{Filters: states})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w: %w", err, mooring.ErrUnavailable)
	}
	users := make(map[mooring.Name][]string)
	for _, c := range list {
		for _, m := range c.Mounts {
			if m.Type == mount.TypeVolume && m.Driver == mooring.DriverName {
				users[mooring.Name(m.Name)] = append(users[mooring.Name(m.Name)], containerName(c))
			}
		}
	}
	return users, nil
}

// Close ends idle connections.
func (e *Engine) Close() error { return e.api.Close() }

func containerName(c container.Summary) string {
	if len(c.Names) > 0 {
		return strings.TrimPrefix(c.Names[0], "/")
	}
	return c.ID
}
