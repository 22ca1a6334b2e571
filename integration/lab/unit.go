package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

// Where the sockets are when nobody says otherwise.
const (
	PluginSocket = "/run/docker/plugins/vmdk.sock"
	AdminSocket  = "/run/mooring/admin.sock"

	restartDelay = 100 * time.Millisecond // systemd's default RestartSec
)

// UnitOptions says how the plugin is run.
type UnitOptions struct {
	Binary       string   // mooring-plugin
	Args         []string // nil means --config and the file that the lab writes
	PluginSocket string   // empty means [PluginSocket]
	AdminSocket  string   // empty means [AdminSocket]
	DockerHost   string   // empty means unix:///run/docker.sock
	Extra        []string // further lines of the configuration file
	Env          []string // further environment
}

// Unit runs the plugin as systemd does with Type=notify, Restart=always without a limit, and sockets that are held
// outside: they exist before the plugin, between its deaths and its restarts, and connections wait in them meanwhile.
type Unit struct {
	opts    UnitOptions
	dir     string
	log     *slog.Logger
	sockets []*net.UnixListener
	files   []*os.File // the sockets, as the plugin inherits them
	out     *os.File
	loops   sync.WaitGroup

	mu      sync.Mutex
	run     *run
	starts  int
	held    bool // no restart until Start
	changed chan struct{}
}

// run is one life of the plugin's process.
type run struct {
	process *os.Process
	notify  *net.UnixConn
	ready   chan struct{} // closed at READY=1
	done    chan struct{} // closed when it has ended
	once    sync.Once
}

// StartUnit opens the sockets, writes the plugin's configuration and starts the plugin. It does not wait until it is ready. It fails with
// [mooring.ErrInUse] if somebody answers at one of the sockets.
func (l *Lab) StartUnit(opts UnitOptions) (*Unit, error) {
	if opts.PluginSocket == "" {
		opts.PluginSocket = PluginSocket
	}
	if opts.AdminSocket == "" {
		opts.AdminSocket = AdminSocket
	}
	if opts.DockerHost == "" {
		opts.DockerHost = "unix:///run/docker.sock"
	}
	if _, err := exec.LookPath(opts.Binary); err != nil {
		return nil, fmt.Errorf("find plugin: %w", err) // the shell that becomes it would only say so in the log, again and again
	}
	config, err := l.writeConfig(opts)
	if err != nil {
		return nil, err
	}
	if opts.Args == nil {
		opts.Args = []string{"--config", config}
	}
	u := &Unit{opts: opts, dir: l.dir, log: l.log, changed: make(chan struct{})}
	for _, path := range [...]string{opts.PluginSocket, opts.AdminSocket} {
		if err := u.listen(path); err != nil {
			return nil, errors.Join(err, u.closeSockets())
		}
	}
	u.out, err = os.OpenFile(u.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), u.closeSockets())
	}
	return u, u.Start()
}

// MountDir returns where the plugin mounts volumes.
func (l *Lab) MountDir() string { return filepath.Join(l.dir, mountDir) }

// ConfigFile returns the plugin's configuration file.
func (l *Lab) ConfigFile() string { return filepath.Join(l.dir, "mooring.yaml") }

func (l *Lab) writeConfig(opts UnitOptions) (string, error) {
	q := strconv.Quote
	lines := []string{
		"vcenter:",
		"  url: " + q(l.URL()),
		"  username: " + q(l.Plugin().User),
		"  password_file: " + q(filepath.Join(l.dir, control.PluginPassword)),
		"  ca_file: " + q(l.CAFile()),
		"vm: " + q(ThisBIOS),
		`datastore: ""`,
		"group: default",
		"state_dir: " + q(filepath.Join(l.dir, stateDir)),
		"mount_dir: " + q(l.MountDir()),
		"docker_host: " + q(opts.DockerHost),
		"plugin_socket: " + q(opts.PluginSocket),
		"admin_socket: " + q(opts.AdminSocket),
	}
	lines = append(lines, opts.Extra...)
	for _, dir := range [...]string{filepath.Join(l.dir, stateDir), l.MountDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("write configuration: %w", err)
		}
	}
	if err := os.WriteFile(l.ConfigFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return l.ConfigFile(), nil
}

// listen opens a socket in place of one that nobody serves any more.
func (u *Unit) listen(path string) error {
	if c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
		_ = c.Close()
		return fmt.Errorf("socket %s: somebody serves it already: %w", path, mooring.ErrInUse)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // dockerd and people look in there
		return fmt.Errorf("open socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open socket: %w", err)
	}
	s, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	u.sockets = append(u.sockets, s)
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	f, err := s.File()
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	u.files = append(u.files, f)
	return nil
}

func (u *Unit) closeSockets() error {
	var errs []error
	for _, f := range u.files {
		errs = append(errs, f.Close())
	}
	for _, s := range u.sockets {
		errs = append(errs, s.Close()) // removes the file
	}
	return errors.Join(errs...)
}

// LogFile returns the file with everything that the plugin wrote.
func (u *Unit) LogFile() string { return filepath.Join(u.dir, "plugin.log") }

// PluginSocket returns the socket that dockerd speaks to.
func (u *Unit) PluginSocket() string { return u.opts.PluginSocket }

// AdminSocket returns the socket that mooring speaks to.
func (u *Unit) AdminSocket() string { return u.opts.AdminSocket }

// Start runs the plugin until Stop, again and again. It does nothing while the plugin runs.
func (u *Unit) Start() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = false
	if u.run != nil {
		return nil
	}
	first := make(chan error, 1)
	u.loops.Go(func() { u.keep(first) })
	u.mu.Unlock()
	err := <-first
	u.mu.Lock()
	return err
}

// keep runs the plugin and starts it again whenever it ends. It stays on one thread, because the kernel kills the plugin when the
// thread that started it ends: so a killed lab takes its plugin along.
func (u *Unit) keep(first chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		r, err := u.spawn()
		if first != nil {
			first <- err
			first = nil
		}
		if err != nil {
			u.log.Error("plugin cannot be started", "err", err)
			return
		}
		state, err := r.process.Wait()
		u.log.Info("plugin ended", "pid", r.process.Pid, "state", state.String(), "err", err)
		if u.ended(r) {
			return
		}
		timer := time.NewTimer(restartDelay)
		<-timer.C
		u.mu.Lock()
		held := u.held
		if held {
			u.run = nil
		}
		u.mu.Unlock()
		if held {
			return
		}
	}
}

// ended records the end of a life and says whether it was the last.
func (u *Unit) ended(r *run) bool {
	_ = r.notify.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	close(r.done)
	if u.held {
		u.run = nil
	}
	return u.held
}

// spawn starts the process once. The shell sets LISTEN_PID, which only the process itself can know, and becomes the plugin.
func (u *Unit) spawn() (*run, error) {
	name := fmt.Sprintf("@mooring-lab-%d-%d", os.Getpid(), time.Now().UnixNano())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("open notification socket: %w", err)
	}
	args := append([]string{"-c", `export LISTEN_PID=$$; exec "$@"`, "sh", u.opts.Binary}, u.opts.Args...)
	cmd := exec.Command("/bin/sh", args...) //nolint:noctx // it is ended by signals, in its own order
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=plugin:admin", "NOTIFY_SOCKET="+name)
	cmd.Env = append(cmd.Env, u.opts.Env...)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = u.files, u.out, u.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r := &run{notify: conn, ready: make(chan struct{}), done: make(chan struct{})}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", u.opts.Binary, err), conn.Close())
	}
	r.process = cmd.Process
	u.run = r
	u.starts++
	close(u.changed)
	u.changed = make(chan struct{})
	u.loops.Go(func() { r.listen(u.log) })
	return r, nil
}

// listen reads what the plugin tells its service manager, until the run ends.
func (r *run) listen(log *slog.Logger) {
	buf := make([]byte, 4096)
	for {
		n, err := r.notify.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			log.Debug("plugin says", "text", line)
			if line == "READY=1" {
				r.once.Do(func() { close(r.ready) })
			}
		}
	}
}

// current returns the life that the plugin is in, or nil while it is held, and a channel that is closed at the next start.
func (u *Unit) current() (*run, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.run, u.changed
}

// Ready waits until the plugin has said that it is ready, in whatever life.
func (u *Unit) Ready(ctx context.Context) error {
	for {
		r, changed := u.current()
		var ready, done <-chan struct{}
		if r != nil {
			ready, done = r.ready, r.done
			select {
			case <-done: // wait for the next life
				ready, done = nil, nil
			default:
			}
		}
		select {
		case <-ready:
			return nil
		case <-done:
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the plugin, see %s: %w", u.LogFile(), ctx.Err())
		}
	}
}

// PID returns the process ID of the plugin, 0 if it does not run.
func (u *Unit) PID() int {
	r, _ := u.current()
	if r == nil {
		return 0
	}
	select {
	case <-r.done:
		return 0
	default:
		return r.process.Pid
	}
}

// Starts returns how often the plugin was started.
func (u *Unit) Starts() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.starts
}

// Kill ends the plugin's process with SIGKILL and returns when it is dead. It is restarted after a moment.
func (u *Unit) Kill(ctx context.Context) error { return u.signal(ctx, syscall.SIGKILL) }

// Restart ends the plugin with SIGTERM and returns when it has ended. It is restarted after a moment.
func (u *Unit) Restart(ctx context.Context) error { return u.signal(ctx, syscall.SIGTERM) }

// Stop ends the plugin with SIGTERM and does not start it again; the sockets stay.
func (u *Unit) Stop(ctx context.Context) error {
	u.mu.Lock()
	u.held = true
	u.mu.Unlock()
	return u.signal(ctx, syscall.SIGTERM)
}

func (u *Unit) signal(ctx context.Context, sig syscall.Signal) error {
	r, _ := u.current()
	if r == nil {
		return nil
	}
	if err := r.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal plugin: %w", err)
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the plugin: %w", ctx.Err())
	}
}

// Close stops the plugin, with SIGKILL if it does not end in time, and removes the sockets.
func (u *Unit) Close(ctx context.Context) error {
	err := u.Stop(ctx)
	if err != nil {
		err = errors.Join(err, u.signal(context.WithoutCancel(ctx), syscall.SIGKILL))
	}
	u.loops.Wait()
	return errors.Join(err, u.closeSockets(), u.out.Close())
}
