// Package docker is what Mooring needs of Docker's API. The plugin asks which volumes running containers use, and whether those outlive the daemon;
// the supervisor looks at the containers of a compose project, is told of what happens to them, starts and restarts them, and has commands run in them.
//
// It never stops, makes or removes a container. A daemon that cannot be reached is [mooring.ErrUnavailable], a container that is not
// there [mooring.ErrNotFound]; the text is Docker's own.
package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"github.com/mooring-sh/mooring"
)

// Engine is a Docker daemon's API. Its methods may be called at the same time.
type Engine struct {
	host  string
	calls atomic.Int64
	// turn is held while the version of the API is negotiated, which the client does without a lock, and guards api and greeted.
	turn    chan struct{}
	api     *client.Client
	greeted bool
}

// New returns the engine at host (unix:///run/docker.sock). Nothing is contacted yet.
func New(host string) (*Engine, error) {
	api, err := newClient(host)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w: %w", host, err, mooring.ErrInvalid)
	}
	return &Engine{host: host, api: api, turn: make(chan struct{}, 1)}, nil
}

func newClient(host string) (*client.Client, error) {
	return client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
}

// Calls returns how many requests were sent so far.
func (e *Engine) Calls() int64 { return e.calls.Load() }

// begin returns the client for one request, which it counts. The first one asks which version of the API the daemon speaks.
func (e *Engine) begin(ctx context.Context) (*client.Client, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ctx.Err(), mooring.ErrUnavailable)
	}
	if !e.greeted {
		e.calls.Add(1)
		ping, err := e.api.Ping(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, mooring.ErrUnavailable)
		}
		e.api.NegotiateAPIVersionPing(ping)
		e.greeted = true
	}
	e.calls.Add(1)
	return e.api, nil
}

// renew forgets which version of the API was negotiated: the next daemon may be a newer one, which no longer speaks it.
func (e *Engine) renew() {
	api, err := newClient(e.host)
	if err != nil {
		return // the host was good before
	}
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	_ = e.api.Close()
	e.api, e.greeted = api, false
}

// sentinel returns err with the error of ours that a caller can act on.
func sentinel(err error) error {
	switch {
	case err == nil:
		return nil
	case cerrdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", err, mooring.ErrNotFound)
	case client.IsErrConnectionFailed(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", err, mooring.ErrUnavailable)
	default:
		return err
	}
}

// LiveRestore returns whether containers outlive the daemon.
func (e *Engine) LiveRestore(ctx context.Context) (bool, error) {
	info, err := e.info(ctx)
	return info.LiveRestoreEnabled, err
}

// Daemon returns the directory in which the daemon keeps its containers, and whether they outlive it.
func (e *Engine) Daemon(ctx context.Context) (root string, liveRestore bool, err error) {
	info, err := e.info(ctx)
	return info.DockerRootDir, info.LiveRestoreEnabled, err
}

func (e *Engine) info(ctx context.Context) (system.Info, error) {
	api, err := e.begin(ctx)
	if err != nil {
		return system.Info{}, fmt.Errorf("ask Docker for its settings: %w", err)
	}
	info, err := api.Info(ctx)
	if err != nil {
		return system.Info{}, fmt.Errorf("ask Docker for its settings: %w: %w", err, mooring.ErrUnavailable)
	}
	return info, nil
}

// Running returns the names of the containers that run, are paused or restart, by the volumes of our driver that they use.
func (e *Engine) Running(ctx context.Context) (map[mooring.Name][]string, error) {
	api, err := e.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	states := filters.NewArgs(filters.Arg("status", "running"), filters.Arg("status", "paused"), filters.Arg("status", "restarting"))
	list, err := api.ContainerList(ctx, container.ListOptions{Filters: states})
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
func (e *Engine) Close() error {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	return e.api.Close()
}

func containerName(c container.Summary) string {
	if len(c.Names) > 0 {
		return strings.TrimPrefix(c.Names[0], "/")
	}
	return c.ID
}
