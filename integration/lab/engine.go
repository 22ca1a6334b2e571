package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-sh/mooring"
)

// DefaultDockerHost is where Docker's API is when nobody says otherwise.
const DefaultDockerHost = "unix:///run/docker.sock"

const (
	enginePoll = 100 * time.Millisecond
	engineWait = 90 * time.Second
)

// ErrNoEngine means that no Docker Engine is installed.
var ErrNoEngine = fmt.Errorf("no Docker Engine is installed: %w", mooring.ErrUnavailable)

// EngineOptions says which Docker Engine is meant.
type EngineOptions struct {
	Host string       // as in DOCKER_HOST; empty means [DefaultDockerHost]
	Dir  string       // for dockerd's log
	Log  *slog.Logger // nil: silent
	Args []string     // further arguments of a dockerd that is started
}

// Engine is a Docker Engine that answers.
type Engine struct {
	host string
	log  *slog.Logger
	cmd  *exec.Cmd // nil if it ran already
	out  *os.File
	done chan struct{} // closed when a dockerd of ours has ended
}

// UseEngine returns the Docker Engine at the host: the one that runs there, which is left as it is, or the installed one, started until
// [Engine.Close]. The error wraps [ErrNoEngine] if none is installed; nothing is ever installed here.
func UseEngine(ctx context.Context, opts EngineOptions) (*Engine, error) {
	e := &Engine{host: opts.Host, log: opts.Log}
	if e.host == "" {
		e.host = DefaultDockerHost
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if err := e.ping(ctx); err == nil {
		return e, nil
	}
	if !strings.HasPrefix(e.host, "unix://") {
		return nil, fmt.Errorf("no Docker Engine answers at %s, and only one at a unix socket can be started: %w", e.host, mooring.ErrUnavailable)
	}
	binary, err := findDockerd()
	if err != nil {
		return nil, err
	}
	if err := e.start(binary, opts); err != nil {
		return nil, err
	}
	if err := e.await(ctx); err != nil {
		return nil, errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

// findDockerd looks for dockerd also where PATH does not.
func findDockerd() (string, error) {
	if p, err := exec.LookPath("dockerd"); err == nil {
		return p, nil
	}
	for _, dir := range [...]string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/snap/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, "dockerd")); err == nil {
			return p, nil
		}
	}
	return "", ErrNoEngine
}

// start runs dockerd in a process group of its own, so that Ctrl-C reaches it only through us; if the lab is killed it is told to end. A containerd that is not there yet is
// dockerd's child and ends with it.
func (e *Engine) start(binary string, opts EngineOptions) error {
	out, err := os.OpenFile(filepath.Join(opts.Dir, "dockerd.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open dockerd's log: %w", err)
	}
	var args []string
	if e.host != DefaultDockerHost {
		args = append(args, "--host", e.host)
	}
	cmd := exec.Command(binary, append(args, opts.Args...)...) //nolint:noctx // it is ended by a signal, and waited for
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	done, started := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the end of the thread that started it would be taken for the end of the lab
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
			e.log.Info("dockerd ended", "err", err)
		}
	}()
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("start dockerd: %w", err), out.Close())
	}
	e.cmd, e.out, e.done = cmd, out, done
	e.log.Info("dockerd started", "pid", cmd.Process.Pid)
	return nil
}

// await polls until dockerd answers.
func (e *Engine) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	tick := time.NewTicker(enginePoll)
	defer tick.Stop()
	for {
		err := e.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-e.done:
			return fmt.Errorf("dockerd ended at once, see %s: %w", e.out.Name(), mooring.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer, see %s: %w", e.out.Name(), errors.Join(err, mooring.ErrUnavailable))
		}
	}
}

// client returns an HTTP client of the API and what its URLs begin with.
func (e *Engine) client() (*http.Client, string) {
	base, transport := strings.Replace(e.host, "tcp://", "http://", 1), &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(e.host, "unix://"); ok {
		base = "http://docker"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}, base
}

// ping asks the API whether it is there.
func (e *Engine) ping(ctx context.Context) error { return e.get(ctx, "/_ping", nil, nil) }

// Host returns the value for DOCKER_HOST.
func (e *Engine) Host() string { return e.host }

// Ours says whether the lab started it.
func (e *Engine) Ours() bool { return e.cmd != nil }

// Close stops a dockerd that the lab started, as its service manager would, and waits for it. One that ran already goes on.
func (e *Engine) Close(ctx context.Context) error {
	if e.cmd == nil {
		return nil
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop dockerd: %w", err)
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of dockerd (pid %d): %w", e.cmd.Process.Pid, ctx.Err())
	}
	return e.out.Close()
}

// InstallEngine installs Debian's docker.io with apt-get, if nothing is there that it would take the place of. Nothing is removed:
// apt-get is told so, and fails rather than do it.
func InstallEngine(ctx context.Context, out io.Writer) error {
	if _, err := findDockerd(); err == nil {
		return fmt.Errorf("install docker.io: there is a Docker Engine already: %w", mooring.ErrExists)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("install docker.io: there is no apt-get; install Docker Engine by hand: %w", ErrNoEngine)
	}
	for _, p := range [...]string{"docker-ce", "docker-ce-cli", "podman-docker", "docker-engine"} {
		if installed(ctx, p) {
			return fmt.Errorf("install docker.io: the package %s is installed, which it may conflict with; install Docker Engine by hand: %w", p, ErrNoEngine)
		}
	}
	for _, args := range [...][]string{
		{"update", "-q"},
		{"install", "-y", "-q", "--no-remove", "--no-install-recommends", "docker.io"},
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}

// installed asks dpkg whether the package is there.
func installed(ctx context.Context, name string) bool {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Abbrev}", name).Output()
	return err == nil && strings.HasPrefix(string(out), "ii")
}
