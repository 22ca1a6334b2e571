package integration_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	engine "github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// harborLike has what makes Harbor fail to come back: a log service to which the others' log driver must connect, a database that is slow to be ready, and a
// proxy that looks its upstream up once. Nothing has a network of its own: this Docker has none.
const harborLike = `services:
  log:
    image: mooring-test
    network_mode: host
    restart: always
    stop_signal: KILL
    command: [busybox, nc, -ll, -p, "1514", -e, cat]
  database:
    image: mooring-test
    network_mode: host
    restart: unless-stopped
    stop_signal: KILL
    command: [sh, -c, "sleep 1; touch /ready; sleep 100000"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 30s}
    depends_on: [log]
    logging: {driver: syslog, options: {syslog-address: "tcp://127.0.0.1:1514"}}
  core:
    image: mooring-test
    network_mode: host
    restart: unless-stopped
    stop_signal: KILL
    command: [sleep, "100000"]
    depends_on: [log, database]
    logging: {driver: syslog, options: {syslog-address: "tcp://127.0.0.1:1514"}}
  proxy:
    image: mooring-test
    network_mode: host
    restart: always
    stop_signal: KILL
    command: [sh, -c, "mkdir /www; cat /shared/upstream > /www/ping; busybox httpd -f -p 8080 -h /www"]
    volumes: ["./shared:/shared:ro"]
    depends_on: [core]
`

const harborLikeProfile = `entry: proxy
services:
  proxy: {reload: {exec: [sh, -c, "cat /shared/upstream > /www/ping"]}}
answer: {ports: [{port: 8080}], path: /ping, body: Pong}
`

// composes returns the versions of compose that are here, each with what has to be in the environment for it to be the one that is found.
func composes(t *testing.T) map[string]map[string]string {
	t.Helper()
	all := make(map[string]map[string]string)
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() == nil {
		all["docker compose"] = nil
	} else if plugin, err := filepath.Abs("../.cache/compose/docker-compose"); err == nil && exec.CommandContext(t.Context(), plugin, "version").Run() == nil {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "cli-plugins"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(plugin, filepath.Join(dir, "cli-plugins", "docker-compose")); err != nil {
			t.Fatal(err)
		}
		all["docker compose unpacked"] = map[string]string{"DOCKER_CONFIG": dir}
	}
	if all["docker compose"] == nil && exec.CommandContext(t.Context(), "docker-compose", "version").Run() == nil {
		all["docker-compose"] = nil
	}
	if len(all) == 0 {
		t.Fatal("neither docker compose nor docker-compose is here")
	}
	return all
}

// stackRig is a Docker Engine, a project, and the stack that looks after it.
type stackRig struct {
	*stack.Stack

	engine *engine.Engine
	docker *dockerd
	dir    string
}

func newStackRig(t *testing.T) *stackRig {
	t.Helper()
	needRoot(t)
	r := &stackRig{docker: newDockerd(t), dir: filepath.Join(t.TempDir(), "harbor")}
	t.Cleanup(func() {
		_ = exec.Command("sh", "-c", "docker ps -aq | xargs -r docker rm -f").Run()
	})
	r.write(t, "shared/upstream", "Pong\n")
	r.write(t, "docker-compose.yml", harborLike)
	r.write(t, "profile.yaml", harborLikeProfile)
	profile, err := stack.LoadProfile(filepath.Join(r.dir, "profile.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if r.engine, err = engine.New("unix://" + dockerSocket); err != nil {
		t.Fatal(err)
	}
	r.Stack, err = stack.New(stack.Config{
		Files: stack.Files{Dir: r.dir}, Profile: profile, Memory: filepath.Join(t.TempDir(), "stopped.json"), DaemonFile: "/run/docker.pid",
		Log: slog.New(slog.DiscardHandler),
	}, r.engine)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; _ = r.engine.Close() })
	return r
}

func (r *stackRig) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *stackRig) service(t *testing.T, name supervisor.ServiceName) supervisor.Service {
	t.Helper()
	for _, s := range r.Observe(t.Context()).Services {
		if s.Name == name {
			return s
		}
	}
	return supervisor.Service{}
}

// becomes waits until the service is seen in the state, stopped by a person or not.
func (r *stackRig) becomes(t *testing.T, name supervisor.ServiceName, state supervisor.ContainerState, stopped mooring.Fact) {
	t.Helper()
	var got supervisor.Service
	if !within(patience, func() bool { got = r.service(t, name); return got.State == state && got.Stopped == stopped }) {
		t.Fatalf("%s: got %+v, want %s, stopped %q", name, got, state, stopped)
	}
}

func (r *stackRig) container(t *testing.T, service string) string {
	t.Helper()
	return docker(t, "ps", "-aq", "--filter", "label=com.docker.compose.service="+service)
}

// up starts everything in its order.
func (r *stackRig) up(t *testing.T) {
	t.Helper()
	until(t, "the project is read", func() bool { return r.Observe(t.Context()).Project.OK() })
	for _, name := range []supervisor.ServiceName{"log", "database", "core", "proxy"} {
		until(t, "the log service listens, and "+string(name)+" starts", func() bool { return r.Start(t.Context(), name) == nil })
		r.becomes(t, name, supervisor.Running, mooring.No)
	}
}

// What plain Docker leaves undone after a restart is seen for what it is and put right, with either version of compose, and nothing
// that a person did is undone.
func TestStackComesBack(t *testing.T) {
	for name, env := range composes(t) {
		t.Run(name, func(t *testing.T) {
			for key, value := range env {
				t.Setenv(key, value)
			}
			r := newStackRig(t)
			r.up(t)
			until(t, "the database is ready, long before its health check's interval is over", func() bool { return r.service(t, "database").Ready == mooring.Yes })
			if s := r.service(t, "proxy"); !s.Entry || !slices.Equal(s.After, []supervisor.ServiceName{"core"}) {
				t.Errorf("proxy: got %+v, want the entry service, after core", s)
			}
			until(t, "the doors answer right", func() bool { return r.Ask(t.Context()).Right })
			r.closesDoors(t)
			r.survivesKilledDockerd(t)
			r.healsLateLog(t)
			r.healsStaleProxy(t)
			r.survivesOrderlyRestart(t)
			r.rests(t)
			r.worksWithBrokenFile(t)
		})
	}
}

func (r *stackRig) closesDoors(t *testing.T) {
	t.Helper()
	if got := r.Conditions(); len(got) != 1 || got[0].Code != "door-open" {
		t.Errorf("doors that dockerd opens: got %+v", got)
	}
	file, err := r.CloseDoors(t.Context())
	if err != nil || filepath.Base(file) != "docker-compose.override.yml" {
		t.Fatalf("close the doors: %s, %v", file, err)
	}
	until(t, "the override file is in force", func() bool { r.Observe(t.Context()); return len(r.Conditions()) == 0 })
	if got := docker(t, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", r.container(t, "proxy")); got != "no" {
		t.Errorf("restart policy of the proxy: got %q, want no", got)
	}
}

// Docker leaves containers with the policy unless-stopped down when it was killed, and marks them as it marks those that a person stopped.
func (r *stackRig) survivesKilledDockerd(t *testing.T) {
	t.Helper()
	docker(t, "stop", r.container(t, "core"))
	r.becomes(t, "core", supervisor.Exited, mooring.Yes)
	r.docker.kill(t)
	until(t, "Docker is seen to be gone", func() bool { return !r.Observe(t.Context()).Docker.OK() })
	r.docker.start(t)
	until(t, "Docker is seen to be back", func() bool { return r.Observe(t.Context()).Docker.OK() })
	r.becomes(t, "log", supervisor.Running, mooring.No)
	r.becomes(t, "core", supervisor.Exited, mooring.Yes)
	r.becomes(t, "database", supervisor.Exited, mooring.No)
	r.becomes(t, "proxy", supervisor.Exited, mooring.No)
	for _, name := range []supervisor.ServiceName{"database", "proxy"} {
		if err := r.Start(t.Context(), name); err != nil {
			t.Error(err)
		}
		r.becomes(t, name, supervisor.Running, mooring.No)
	}
}

// Docker does not try again when a log driver's server was not there; the container stays down, and its error says why.
func (r *stackRig) healsLateLog(t *testing.T) {
	t.Helper()
	docker(t, "stop", r.container(t, "log"))
	err := r.Restart(t.Context(), "database")
	if err == nil || !strings.Contains(err.Error(), "logging driver") {
		t.Errorf("restart without the log: got %v, want Docker's words on the logging driver", err)
	}
	r.becomes(t, "database", supervisor.Exited, mooring.No)
	if s := r.service(t, "database"); !strings.Contains(s.Error, "logging driver") {
		t.Errorf("got the error %q, want Docker's words on the logging driver", s.Error)
	}
	r.becomes(t, "log", supervisor.Exited, mooring.Yes)
	for _, name := range []supervisor.ServiceName{"log", "database"} {
		until(t, string(name)+" starts", func() bool { return r.Start(t.Context(), name) == nil })
		r.becomes(t, name, supervisor.Running, mooring.No)
	}
}

func (r *stackRig) healsStaleProxy(t *testing.T) {
	t.Helper()
	r.write(t, "shared/upstream", "Ping\n")
	if err := r.Restart(t.Context(), "proxy"); err != nil {
		t.Fatal(err)
	}
	until(t, "the doors answer wrong", func() bool { got := r.Ask(t.Context()); return !got.Right && strings.Contains(got.Text, `"Ping"`) })
	r.write(t, "shared/upstream", "Pong\n")
	started := r.service(t, "proxy").StartedAt
	if err := r.Reload(t.Context(), "proxy"); err != nil {
		t.Fatal(err)
	}
	if got := r.Ask(t.Context()); !got.Right {
		t.Errorf("after the reload: got %+v, want right", got)
	}
	if got := r.service(t, "proxy").StartedAt; !got.Equal(started) {
		t.Errorf("the reload was a restart: started at %s, before at %s", got, started)
	}
}

// dockerd's own stop sends the events that a person's stop sends.
func (r *stackRig) survivesOrderlyRestart(t *testing.T) {
	t.Helper()
	docker(t, "rm", "-f", r.container(t, "core"))
	r.becomes(t, "core", supervisor.Missing, mooring.Yes)
	r.docker.stop(t)
	until(t, "Docker is seen to be gone", func() bool { return !r.Observe(t.Context()).Docker.OK() })
	r.docker.start(t)
	until(t, "Docker is seen to be back", func() bool { return r.Observe(t.Context()).Docker.OK() })
	r.becomes(t, "core", supervisor.Missing, mooring.Yes)
	r.becomes(t, "proxy", supervisor.Exited, mooring.No)
	for _, name := range []supervisor.ServiceName{"database", "core", "proxy"} {
		until(t, string(name)+" starts", func() bool { return r.Start(t.Context(), name) == nil })
		r.becomes(t, name, supervisor.Running, mooring.No)
	}
}

// At rest Docker is asked for next to nothing, however often the supervisor looks.
func (r *stackRig) rests(t *testing.T) {
	t.Helper()
	until(t, "everything is ready", func() bool { return r.service(t, "database").Ready == mooring.Yes })
	before := r.engine.Calls()
	began := time.Now()
	within(5*time.Second, func() bool { r.Observe(t.Context()); return false })
	calls := r.engine.Calls() - before
	t.Logf("%d requests to Docker in %s at rest", calls, time.Since(began).Round(time.Second))
	if calls > 3 { // a list once a minute
		t.Errorf("got %d requests to Docker in five seconds at rest, want at most 3", calls)
	}
}

func (r *stackRig) worksWithBrokenFile(t *testing.T) {
	t.Helper()
	r.write(t, "docker-compose.yml", "services: {log: {imagee: x}}\n")
	var state supervisor.StackState
	until(t, "the file is seen to be broken", func() bool { state = r.Observe(t.Context()); return !state.Project.OK() })
	if !strings.Contains(state.Project.Err, r.dir) || !strings.Contains(state.Project.Cure, "config -q") || len(state.Services) != 4 {
		t.Errorf("got %+v, want the directory, a cure, and four services", state)
	}
	if err := r.Restart(t.Context(), "core"); err != nil {
		t.Errorf("restart with a broken file: %v", err)
	}
	r.write(t, "docker-compose.yml", harborLike)
	until(t, "the file is seen to be whole", func() bool { return r.Observe(t.Context()).Project.OK() })
}
