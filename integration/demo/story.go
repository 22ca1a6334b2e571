package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
)

// step is one part of the story. do returns what it has proved.
type step struct {
	title  string
	about  time.Duration // how long it usually takes
	always bool          // it runs even after a failure: it takes something down
	do     func(context.Context) (proof string, err error)
}

// story is the stack, and what the steps remember of it for those that follow.
type story struct {
	*commands

	cache    string
	compose  []string // the command that drives a compose project, with its file
	scratch  string
	registry registry

	vm     string          // the virtual machine that this one is, by its name in vCenter
	own    map[string]bool // that machine's disks before anything was made, by UUID
	images []image
	rows   []string // acknowledged, in their order
	jobs   int      // the number of the last job that was seen in the log

	docker *exec.Cmd                     // a dockerd that the demo started in the place of the lab's
	undo   []func(context.Context) error // what takes down what was made, in the order in which it was made
}

// image is a pushed image, as it was when the push was acknowledged.
type image struct {
	repository, tag string
	id              string // as the Docker Engine called it before the push
	sum             string // of its /payload
	manifest        manifest
}

func (s *story) ref(i image) string { return s.registry.address + "/" + i.repository + ":" + i.tag }

func newStory(ctx context.Context, t *talk, cache string) (*story, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find Mooring's commands: %w", err)
	}
	scratch, err := os.MkdirTemp("", "mooring-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &story{
		commands: &commands{
			talk: t, bin: filepath.Dir(self),
			env: append(os.Environ(), "REGISTRY_PORT="+port),
		},
		cache: cache, scratch: scratch,
		registry: registry{address: "127.0.0.1:" + port},
	}
	file := filepath.Join(scratch, "compose.yaml")
	if err := os.WriteFile(file, []byte(composeFile), 0o600); err != nil {
		return nil, fmt.Errorf("write the compose file: %w", err)
	}
	s.compose = []string{"docker", "compose"}
	if _, err := s.quiet(ctx, "docker", "compose", "version"); err != nil {
		if _, err := exec.LookPath("docker-compose"); err != nil {
			return nil, fmt.Errorf("neither docker compose nor docker-compose is there (make setup installs one): %w", err)
		}
		s.compose = []string{"docker-compose"}
	}
	s.compose = append(s.compose, "-p", "mooring-demo", "-f", file)
	return s, nil
}

// forget removes the story's own files.
func (s *story) forget() { _ = os.RemoveAll(s.scratch) } // in the temporary directory, of a few kilobytes

// freePort returns a port of the loopback interface that nobody listens on now.
func freePort(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

// steps is the story, in its order.
func (s *story) steps() []step {
	return []step{
		{title: "the lab: vCenter, this machine as a VM, Docker", about: time.Second, do: s.lookAround},
		{title: "a storage policy with a stripe width of two", about: time.Second, do: s.makePolicy},
		{title: "three volumes on the vSAN datastore", about: time.Second, do: s.makeVolumes},
		{title: "images for the stack, of Debian's packages", about: 4 * time.Second, do: s.makeImages},
		{title: "the stack: a registry, a database and a job log", about: 6 * time.Second, do: s.startStack},
		{title: "two images pushed", about: 2 * time.Second, do: s.push},
		{title: "rows written to the database", about: time.Second, do: s.writeRows},
		{title: "the volume driver is killed", about: time.Second, do: s.killPlugin},
		{title: "dockerd is killed", about: 5 * time.Second, do: s.killDocker},
		{title: "the stack stops, its disks leave the machine, and come back", about: 15 * time.Second, do: s.stopAndStart},
		{title: "the images: pulled again, every byte rehashed", about: 2 * time.Second, do: s.proveImages},
		{title: "the rows: read again", about: time.Second, do: s.proveRows},
		{title: "the job log: read again", about: time.Second, do: s.proveLog},
		{title: "everything is taken down", about: 4 * time.Second, always: true, do: s.takeDown},
	}
}

// volumes asks the plugin for what it knows of the story's volumes.
func (s *story) volumes(ctx context.Context) ([]admin.View, error) {
	var answer admin.Volumes
	if err := s.decode(ctx, &answer, "mooring", "volume", "ls", "-o", "json"); err != nil {
		return nil, err
	}
	return answer.Volumes, nil
}

// attached returns the disks that vCenter shows for this machine, beside its own.
func (s *story) attached(ctx context.Context) ([]hardDisk, error) {
	disks, err := hardDisks(ctx, s.vm)
	return slices.DeleteFunc(disks, func(d hardDisk) bool { return s.own[d.uuid] }), err
}

// attachedAll returns the three volumes as vCenter shows them; it must show just those, and the third must have its policy.
func (s *story) attachedAll(ctx context.Context) ([]hardDisk, error) {
	disks, err := s.attached(ctx)
	if err != nil {
		return nil, err
	}
	views, err := s.volumes(ctx)
	if err != nil {
		return nil, err
	}
	same := func(d hardDisk, v admin.View) bool { return d.uuid == string(v.Disk) }
	if len(disks) != len(names()) || !slices.EqualFunc(disks, views, same) || disks[2].policy != policyName {
		return nil, fmt.Errorf("vCenter shows %+v, want the three volumes, the last with the policy %s: %w", disks, policyName, errUnexpected)
	}
	return disks, nil
}

// decode runs a command and decodes the JSON that it prints.
func (s *story) decode(ctx context.Context, into any, argv ...string) error {
	out, err := s.quiet(ctx, argv...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("decode what %s printed: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// container returns the ID of a service's container.
func (s *story) container(ctx context.Context, service string) (string, error) {
	id, err := s.quiet(ctx, "docker", "ps", "-aq", "--no-trunc",
		"--filter", "label=com.docker.compose.project=mooring-demo", "--filter", "label=com.docker.compose.service="+service)
	if err == nil && id == "" {
		err = fmt.Errorf("the service %s has no container: %w", service, errUnexpected)
	}
	return id, err
}

// showComposed shows a command of Compose as a person would type it, and runs it.
func (s *story) showComposed(ctx context.Context, args ...string) error {
	s.talk.command(append([]string{"docker", "compose"}, args...))
	_, err := s.quiet(ctx, append(slices.Clip(s.compose), args...)...)
	return err
}
