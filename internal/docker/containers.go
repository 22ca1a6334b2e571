package docker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
)

// Container is one container as Docker describes it.
type Container struct {
	ID     string
	Name   string
	Labels map[string]string

	PID      int    // of its first process on the host; 0: it does not run
	State    string // created, running, restarting, paused, exited, dead or removing
	Exit     int    // the exit code of one that has ended
	Error    string // why it could not be started
	Restarts int    // by Docker, since somebody started it
	Started  time.Time
	Finished time.Time // zero: it has never ended

	Health string   // starting, healthy, unhealthy; empty: it has no health check
	Said   string   // what the health check printed last
	Check  []string // the health check as the image or the compose file has it: CMD or CMD-SHELL and its arguments

	Policy  string   // the restart policy: no, always, unless-stopped, on-failure
	User    string   // as the image or the compose file has it; empty: root
	OnHost  bool     // it has the host's network
	Address []string // its own addresses, IPv4 before IPv6, by the names of its networks
	Ports   []Port
	Mounts  []Mount
}

// Port is a port of a container that is published on the host.
type Port struct {
	Container int
	Protocol  string
	HostIP    string
	Host      int
}

// Mount is a directory, file or volume that a container has mounted, or had when it last ran.
type Mount struct {
	Type     string // bind, volume, tmpfs
	Volume   string // the volume's name
	Driver   string // of the volume
	Source   string // on the host; may be empty for a volume that is not mounted
	Target   string
	ReadOnly bool
}

// Summary is what Docker's list says of a container. Unlike [Engine.Container] the list does not wait while a container's volumes are being mounted.
type Summary struct {
	ID     string
	State  string
	Labels map[string]string
}

// List returns the containers that have the label, in whatever state they are.
func (e *Engine) List(ctx context.Context, label string) ([]Summary, error) {
	api, err := e.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	list, err := api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", sentinel(err))
	}
	all := make([]Summary, 0, len(list))
	for _, c := range list {
		all = append(all, Summary{ID: c.ID, State: c.State, Labels: c.Labels})
	}
	return all, nil
}

// Container returns the container. Docker does not answer while it mounts that container's volumes, which may take two minutes.
func (e *Engine) Container(ctx context.Context, id string) (Container, error) {
	api, err := e.begin(ctx)
	if err != nil {
		return Container{}, fmt.Errorf("inspect container %s: %w", id, err)
	}
	in, err := api.ContainerInspect(ctx, id)
	if err != nil {
		return Container{}, fmt.Errorf("inspect container %s: %w", id, sentinel(err))
	}
	return describe(in), nil
}

// Volume returns the volume's driver, and where it is mounted on the host: empty if it is not.
func (e *Engine) Volume(ctx context.Context, name string) (driver, mountpoint string, err error) {
	api, err := e.begin(ctx)
	if err != nil {
		return "", "", fmt.Errorf("inspect volume %s: %w", name, err)
	}
	v, err := api.VolumeInspect(ctx, name)
	if err != nil {
		return "", "", fmt.Errorf("inspect volume %s: %w", name, sentinel(err))
	}
	return v.Driver, v.Mountpoint, nil
}

func describe(in container.InspectResponse) Container {
	c := Container{}
	if in.ContainerJSONBase != nil {
		c.ID, c.Name, c.Restarts = in.ID, strings.TrimPrefix(in.Name, "/"), in.RestartCount
		if in.HostConfig != nil {
			c.Policy, c.OnHost = string(in.HostConfig.RestartPolicy.Name), in.HostConfig.NetworkMode.IsHost()
		}
		describeState(&c, in.State)
	}
	if in.Config != nil {
		c.Labels, c.User = in.Config.Labels, in.Config.User
		if h := in.Config.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
			c.Check = h.Test
		}
	}
	for _, m := range in.Mounts {
		c.Mounts = append(c.Mounts, Mount{
			Type: string(m.Type), Volume: volumeName(m), Driver: m.Driver, Source: m.Source, Target: m.Destination, ReadOnly: !m.RW,
		})
	}
	describeNetwork(&c, in.NetworkSettings)
	return c
}

func describeState(c *Container, s *container.State) {
	if s == nil {
		return
	}
	c.State, c.Exit, c.Error, c.PID = s.Status, s.ExitCode, s.Error, s.Pid
	c.Started, c.Finished = parseTime(s.StartedAt), parseTime(s.FinishedAt)
	if h := s.Health; h != nil && h.Status != container.NoHealthcheck {
		c.Health = h.Status
		if n := len(h.Log); n > 0 {
			c.Said = strings.TrimSpace(h.Log[n-1].Output)
		}
	}
}

func describeNetwork(c *Container, n *container.NetworkSettings) {
	if n == nil {
		return
	}
	for port, bindings := range n.Ports {
		for _, b := range bindings {
			if host, err := nat.ParsePort(b.HostPort); err == nil {
				c.Ports = append(c.Ports, Port{Container: port.Int(), Protocol: port.Proto(), HostIP: b.HostIP, Host: host})
			}
		}
	}
	var six []string
	for _, name := range sortedKeys(n.Networks) {
		if end := n.Networks[name]; end != nil {
			if end.IPAddress != "" {
				c.Address = append(c.Address, end.IPAddress)
			}
			if end.GlobalIPv6Address != "" {
				six = append(six, end.GlobalIPv6Address)
			}
		}
	}
	c.Address = append(c.Address, six...)
}

func volumeName(m container.MountPoint) string {
	if m.Type == mount.TypeVolume {
		return m.Name
	}
	return ""
}

// parseTime returns the time, or zero for what Docker writes where there is none (the year 1).
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}
