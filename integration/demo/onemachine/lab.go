package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/integration/demo/play"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

// labStatus asks the lab that the demo runs in.
func (s *story) labStatus(ctx context.Context) (control.Status, error) {
	var status control.Status
	err := s.decode(ctx, &status, "mooring-lab", "status", "-o", "json")
	return status, err
}

// labDocker returns the process ID of dockerd if the lab started it for the time of the run, or 0 if it is somebody else's.
func (s *story) labDocker(ctx context.Context) (int, error) {
	status, err := s.labStatus(ctx)
	if err != nil {
		return 0, err
	}
	path, local := strings.CutPrefix(dockerHost(), "unix://")
	if !local {
		return 0, nil
	}
	pid, err := listener(ctx, path)
	if err != nil {
		return 0, err
	}
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	if fields[1] != strconv.Itoa(status.PID) {
		return 0, nil
	}
	return pid, nil
}

func dockerHost() string {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return host
	}
	return lab.DefaultDockerHost
}

// listener returns the process that listens at the socket.
func listener(ctx context.Context, path string) (pid int, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0, fmt.Errorf("reach dockerd: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("find dockerd's process: %w", err)
	}
	var peer *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) //nolint:gosec // a file descriptor fits
	})
	if err := errors.Join(err, asked); err != nil {
		return 0, fmt.Errorf("find dockerd's process: %w", err)
	}
	return int(peer.Pid), nil
}

// replaceDocker kills dockerd and starts it again as it was. The new one is the demo's own: takeDown ends it, and the lab,
// whose child the old one was, does not miss it.
func (s *story) replaceDocker(ctx context.Context, pid int) error {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return fmt.Errorf("find out how dockerd was started: %w", err)
	}
	argv := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	log, err := os.OpenFile(filepath.Join(os.Getenv("MOORING_LAB_STATE"), "dockerd.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open dockerd's log: %w", err)
	}
	defer func() { _ = log.Close() }() // dockerd has its own descriptor
	children, err := childrenOf(pid)
	if err != nil {
		return err
	}
	s.Talk.Command([]string{"kill", "-9", strconv.Itoa(pid)})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill dockerd: %w", err)
	}
	for _, process := range append(children, pid) { // its containerd dies with it; its containers are not its children, and live on
		if err := play.Wait(ctx, "the end of dockerd", 10*time.Second, func(context.Context) error { return ended(process) }); err != nil {
			return err
		}
	}
	if err := forgetContainerd(children); err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // takeDown ends it, also after an interrupt
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for dockerd
	s.Talk.Command(argv)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	s.docker = cmd
	return play.Wait(ctx, "dockerd", time.Minute, func(ctx context.Context) error {
		_, err := s.Quiet(ctx, "docker", "version")
		return err
	})
}

// childrenOf returns the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the children of %d: %w", pid, err)
	}
	var children []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		if fields, err := stat(child); err == nil && fields[1] == strconv.Itoa(pid) {
			children = append(children, child)
		}
	}
	return children, nil
}

// ended returns an error while the process runs. One that only waits to be reaped has ended.
func ended(pid int) error {
	if fields, err := stat(pid); err == nil && fields[0] != "Z" {
		return fmt.Errorf("process %d is in state %s: %w", pid, fields[0], errUnexpected)
	}
	return nil
}

// stat returns what the kernel says of a process, from its state on; the second field is its parent.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the command, which may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return nil, fmt.Errorf("look at process %d: %q: %w", pid, text, errUnexpected)
	}
	return fields, nil
}

// forgetContainerd removes dockerd's note of its containerd, if that was one of the processes. In a container, where process 1
// reaps nobody, the dead containerd stays a zombie, which Docker Engine 20 takes for one that can be used.
func forgetContainerd(dead []int) error {
	const note = "/run/docker/containerd/containerd.pid"
	text, err := os.ReadFile(note)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read dockerd's note of its containerd: %w", err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || !slices.Contains(dead, pid) {
		return nil //nolint:nilerr // it says something else, which is dockerd's to judge
	}
	return os.Remove(note)
}

// stopDocker ends a dockerd that the demo started, in order.
func (s *story) stopDocker() error {
	if s.docker == nil {
		return nil
	}
	if err := s.docker.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop dockerd: %w", err)
	}
	if err := s.docker.Wait(); err != nil {
		return fmt.Errorf("stop dockerd: %w", err)
	}
	s.docker = nil
	return nil
}
