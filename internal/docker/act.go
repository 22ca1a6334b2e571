package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/mooring-sh/mooring"
)

// saidLimit is how much of a command's output is kept.
const saidLimit = 4 << 10

// Start starts the container; one that runs is left as it is.
func (e *Engine) Start(ctx context.Context, id string) error {
	api, err := e.begin(ctx)
	if err == nil {
		err = sentinel(api.ContainerStart(ctx, id, container.StartOptions{}))
	}
	if err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	return nil
}

// Restart stops the container, in the time that it was given to end by itself, and starts it again.
func (e *Engine) Restart(ctx context.Context, id string) error {
	api, err := e.begin(ctx)
	if err == nil {
		err = sentinel(api.ContainerRestart(ctx, id, container.StopOptions{}))
	}
	if err != nil {
		return fmt.Errorf("restart container: %w", err)
	}
	return nil
}

// SetPolicy gives the container a restart policy, without touching it otherwise. It stays until the container is made anew.
func (e *Engine) SetPolicy(ctx context.Context, id, policy string) error {
	api, err := e.begin(ctx)
	if err == nil {
		update := container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(policy)}}
		_, err = api.ContainerUpdate(ctx, id, update)
		err = sentinel(err)
	}
	if err != nil {
		return fmt.Errorf("set the container's restart policy: %w", err)
	}
	return nil
}

// Exec runs the command in the running container, as the user or, if that is empty, as the container's own, and returns its exit code and the
// beginning of what it printed. A command that has not ended with ctx is left to end by itself, with an [*UnendedError]: Docker has no way to end it.
func (e *Engine) Exec(ctx context.Context, id, user string, argv []string) (exit int, said string, err error) {
	var out head
	if exit, err = e.exec(ctx, id, user, argv, &out, &out); err != nil {
		return 0, out.String(), fmt.Errorf("run %q in the container: %w", strings.Join(argv, " "), err)
	}
	return exit, out.String(), nil
}

// Tell runs the command as [Engine.Exec] does, for what it prints, which goes to w, all of it. It returns the beginning of what it printed as errors. An error of w ends it.
func (e *Engine) Tell(ctx context.Context, id, user string, argv []string, w io.Writer) (exit int, complaint string, err error) {
	var errs head
	if exit, err = e.exec(ctx, id, user, argv, w, &errs); err != nil {
		return 0, errs.String(), fmt.Errorf("run a command in the container: %w", err)
	}
	return exit, errs.String(), nil
}

func (e *Engine) exec(ctx context.Context, id, user string, argv []string, stdout, stderr io.Writer) (int, error) {
	api, err := e.begin(ctx)
	if err != nil {
		return 0, err
	}
	made, err := api.ContainerExecCreate(ctx, id, container.ExecOptions{User: user, Cmd: argv, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, sentinel(err)
	}
	if api, err = e.begin(ctx); err != nil {
		return 0, err
	}
	stream, err := attach(ctx, api, made.ID)
	switch {
	case err != nil && ctx.Err() != nil: // it may have been started
		return 0, &UnendedError{Command: made.ID, Err: sentinel(err)}
	case err != nil:
		return 0, sentinel(err)
	}
	defer stream.Close()
	// The stream is a connection that knows nothing of ctx.
	release := context.AfterFunc(ctx, stream.Close)
	_, err = stdcopy.StdCopy(stdout, stderr, stream.Reader)
	if !release() {
		return 0, &UnendedError{Command: made.ID, Err: sentinel(ctx.Err())}
	}
	if err != nil {
		return 0, err
	}
	in, err := e.command(ctx, made.ID)
	return in.ExitCode, err
}

// attach starts the command. Docker's client waits for the answer to that as long as it takes, whatever becomes of ctx.
func attach(ctx context.Context, api *client.Client, command string) (types.HijackedResponse, error) {
	type started struct {
		stream types.HijackedResponse
		err    error
	}
	answer := make(chan started, 1)
	go func() {
		stream, err := api.ContainerExecAttach(ctx, command, container.ExecAttachOptions{})
		answer <- started{stream, err}
	}()
	select {
	case a := <-answer:
		return a.stream, a.err
	case <-ctx.Done():
		go func() {
			if a := <-answer; a.err == nil {
				a.stream.Close()
			}
		}()
		return types.HijackedResponse{}, ctx.Err()
	}
}

// UnendedError is about a command that goes on, though nobody waits for it any more.
type UnendedError struct {
	Command string // Docker's ID of it
	Err     error
}

func (e *UnendedError) Error() string { return e.Err.Error() }

func (e *UnendedError) Unwrap() error { return e.Err }

// Unended says whether the command of an [UnendedError] still goes on. One that Docker does not know has ended with its container.
func (e *Engine) Unended(ctx context.Context, command string) (bool, error) {
	in, err := e.command(ctx, command)
	if errors.Is(err, mooring.ErrNotFound) {
		return false, nil
	}
	return in.Running, err
}

func (e *Engine) command(ctx context.Context, id string) (container.ExecInspect, error) {
	api, err := e.begin(ctx)
	if err != nil {
		return container.ExecInspect{}, err
	}
	in, err := api.ContainerExecInspect(ctx, id)
	return in, sentinel(err)
}

// head keeps the beginning of what is written to it.
type head struct{ kept bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.kept.Write(p[:min(len(p), saidLimit-h.kept.Len())])
	return len(p), nil
}

func (h *head) String() string { return strings.TrimSpace(h.kept.String()) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
