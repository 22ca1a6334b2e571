package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// Start starts the containers of the service that do not run, through Docker's API, so that they stay the containers that they are; where there are none, compose
// makes them. A container that a person paused stays paused. One that Docker has lost is ended first.
func (s *Stack) Start(ctx context.Context, service supervisor.ServiceName) error {
	list := s.containers(service)
	if len(list) == 0 {
		if err := s.make(ctx, service); err != nil {
			return fmt.Errorf("start %s: %w", service, err)
		}
		return nil
	}
	var errs []error
	for _, c := range list {
		switch {
		case s.isLost(c.ID):
			errs = append(errs, s.restart(ctx, c.ID))
			continue
		case c.State == "running", c.State == "restarting":
			continue
		case c.State == "paused":
			errs = append(errs, &mooring.HintError{Err: fmt.Errorf("%s is paused", c.Name), Hint: "docker unpause " + c.Name})
			continue
		}
		err := s.engine.Start(ctx, c.ID)
		s.stir(c.ID)
		if errors.Is(err, mooring.ErrNotFound) && ctx.Err() == nil && len(list) == 1 {
			err = s.make(ctx, service) // it was removed since it was seen
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("start %s: %w", service, err)
	}
	return nil
}

// make has compose make the service's containers and start them, and nothing else.
func (s *Stack) make(ctx context.Context, service supervisor.ServiceName) error {
	select {
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	r := s.project
	s.mu.Unlock()
	if r.err != nil {
		return fmt.Errorf("there is no container, and none can be made: %w", r.err)
	}
	if _, ok := r.project.Services[service]; !ok {
		return fmt.Errorf("the project has no such service: %w", mooring.ErrNotFound)
	}
	args := append(s.cfg.Files.on(r.project.Name), "up", "-d", "--no-deps", "--no-recreate", string(service))
	_, err := r.compose.output(ctx, s.cfg.Files.Dir, args...)
	s.mu.Lock()
	s.seen.full = true
	s.mu.Unlock()
	s.change()
	return err
}

// Restart stops and starts the containers of the service.
func (s *Stack) Restart(ctx context.Context, service supervisor.ServiceName) error {
	list, err := s.present(service)
	for _, c := range list {
		err = errors.Join(err, s.restart(ctx, c.ID))
	}
	if err != nil {
		return fmt.Errorf("restart %s: %w", service, err)
	}
	return nil
}

// restart stops and starts the container, which must not be taken for a person's stop.
func (s *Stack) restart(ctx context.Context, id string) error {
	s.mu.Lock()
	s.seen.witnessed[id] = witnessed{ours: true}
	s.mu.Unlock()
	defer s.stir(id)
	return s.engine.Restart(ctx, id)
}

// Reload runs the profile's command for that in the service's containers.
func (s *Stack) Reload(ctx context.Context, service supervisor.ServiceName) error {
	return s.command(ctx, "reload", service, s.cfg.Profile.Services[service].Reload)
}

// Flush runs the profile's command for that in the service's containers.
func (s *Stack) Flush(ctx context.Context, service supervisor.ServiceName) error {
	return s.command(ctx, "flush", service, s.cfg.Profile.Services[service].Flush)
}

func (s *Stack) command(ctx context.Context, verb string, service supervisor.ServiceName, c *Command) error {
	if c == nil {
		return fmt.Errorf("%s %s: the profile has no command for that: %w", verb, service, mooring.ErrInvalid)
	}
	list, err := s.present(service)
	for _, one := range list {
		exit, said, xerr := s.engine.Exec(ctx, one.ID, c.User, c.Exec)
		if xerr == nil && exit != 0 {
			xerr = fmt.Errorf("%s: exit code %d: %s", strings.Join(c.Exec, " "), exit, oneLine(said))
		}
		err = errors.Join(err, xerr)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, service, err)
	}
	return nil
}

// present returns the service's containers; none is an error.
func (s *Stack) present(service supervisor.ServiceName) ([]docker.Container, error) {
	list := s.containers(service)
	if len(list) == 0 {
		return nil, fmt.Errorf("it has no container: %w", mooring.ErrNotFound)
	}
	return list, nil
}

// containers returns the service's containers as they were last seen.
func (s *Stack) containers(service supervisor.ServiceName) []docker.Container {
	s.mu.Lock()
	defer s.mu.Unlock()
	return byService(s.seen.containers)[service]
}

// stir has the container looked at again.
func (s *Stack) stir(id string) {
	s.mu.Lock()
	s.seen.dirty[id] = true
	s.mu.Unlock()
	s.change()
}

// entryContainer returns the entry service and its first container.
func (s *Stack) entryContainer() (supervisor.ServiceName, docker.Container, error) {
	s.mu.Lock()
	p := s.project.project
	known := s.project.known
	s.mu.Unlock()
	name := entry(p, s.cfg.Profile, s.cfg.Entry, dependencyGraph(p, s.cfg.Profile))
	if !known {
		name = cmp.Or(s.cfg.Entry, s.cfg.Profile.Entry)
	}
	if name == "" || name == NoEntry {
		return "", docker.Container{}, fmt.Errorf("the stack has no entry service: %w", mooring.ErrNotFound)
	}
	list := s.containers(name)
	if len(list) == 0 {
		return name, docker.Container{}, fmt.Errorf("%s has no container: %w", name, mooring.ErrNotFound)
	}
	return name, list[0], nil
}
