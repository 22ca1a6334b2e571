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

	"github.com/mooring-sh/mooring/integration/demo/client"
	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/internal/admin"
)

// story is the stack, and what the steps remember of it for those that follow.
type story struct {
	*play.Commands

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

func newStory(ctx context.Context, t *play.Talk, cache string) (*story, error) {
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
		Commands: &play.Commands{
			Talk: t, Bin: filepath.Dir(self),
			Env: append(os.Environ(), "REGISTRY_PORT="+port),
		},
		cache: cache, scratch: scratch,
		registry: registry{address: "127.0.0.1:" + port},
	}
	file := filepath.Join(scratch, "compose.yaml")
	if err := os.WriteFile(file, []byte(composeFile), 0o600); err != nil {
		return nil, fmt.Errorf("write the compose file: %w", err)
	}
	s.compose = []string{"docker", "compose"}
	if _, err := s.Quiet(ctx, "docker", "compose", "version"); err != nil {
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
func (s *story) steps() []play.Step {
	return []play.Step{
		{Title: "the lab: vCenter, this machine as a VM, Docker", About: time.Second, Do: s.lookAround},
		{Title: "a storage policy with a stripe width of two", About: time.Second, Do: s.makePolicy},
		{Title: "three volumes on the vSAN datastore", About: time.Second, Do: s.makeVolumes},
		{Title: "images for the stack, of Debian's packages", About: 4 * time.Second, Do: s.makeImages},
		{Title: "the stack: a registry, a database and a job log", About: 6 * time.Second, Do: s.startStack},
		{Title: "two images pushed", About: 2 * time.Second, Do: s.push},
		{Title: "rows written to the database", About: time.Second, Do: s.writeRows},
		{Title: "the volume driver is killed", About: time.Second, Do: s.killPlugin},
		{Title: "dockerd is killed", About: 5 * time.Second, Do: s.killDocker},
		{Title: "the stack stops, its disks leave the machine, and come back", About: 15 * time.Second, Do: s.stopAndStart},
		{Title: "the images: pulled again, every byte rehashed", About: 2 * time.Second, Do: s.proveImages},
		{Title: "the rows: read again", About: time.Second, Do: s.proveRows},
		{Title: "the job log: read again", About: time.Second, Do: s.proveLog},
		{Title: "everything is taken down", About: 4 * time.Second, Always: true, Do: s.takeDown},
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
func (s *story) attached(ctx context.Context) ([]client.HardDisk, error) {
	disks, err := client.HardDisks(ctx, s.vm)
	return slices.DeleteFunc(disks, func(d client.HardDisk) bool { return s.own[d.UUID] }), err
}

// attachedAll returns the three volumes as vCenter shows them; it must show just those, and the third must have its policy.
func (s *story) attachedAll(ctx context.Context) ([]client.HardDisk, error) {
	disks, err := s.attached(ctx)
	if err != nil {
		return nil, err
	}
	views, err := s.volumes(ctx)
	if err != nil {
		return nil, err
	}
	same := func(d client.HardDisk, v admin.View) bool { return d.UUID == string(v.Disk) }
	if len(disks) != len(names()) || !slices.EqualFunc(disks, views, same) || disks[2].Policy != policyName {
		return nil, fmt.Errorf("vCenter shows %+v, want the three volumes, the last with the policy %s: %w", disks, policyName, errUnexpected)
	}
	return disks, nil
}

// decode runs a command and decodes the JSON that it prints.
func (s *story) decode(ctx context.Context, into any, argv ...string) error {
	out, err := s.Quiet(ctx, argv...)
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
	id, err := s.Quiet(ctx, "docker", "ps", "-aq", "--no-trunc",
		"--filter", "label=com.docker.compose.project=mooring-demo", "--filter", "label=com.docker.compose.service="+service)
	if err == nil && id == "" {
		err = fmt.Errorf("the service %s has no container: %w", service, errUnexpected)
	}
	return id, err
}

// showComposed shows a command of Compose as a person would type it, and runs it.
func (s *story) showComposed(ctx context.Context, args ...string) error {
	s.Talk.Command(append([]string{"docker", "compose"}, args...))
	_, err := s.Quiet(ctx, append(slices.Clip(s.compose), args...)...)
	return err
}
