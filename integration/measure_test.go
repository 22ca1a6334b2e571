//go:build machines

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	// kills is how often dockerd is killed on each side, and handOvers how often addresses change hands.
	kills     = 20
	handOvers = 100
	// backWithin is how long after dockerd answers again a stack may take to come back by itself.
	backWithin = 3 * time.Minute
)

// TestMeasureKilledDockerd measures how often a stack built like Harbor's comes back by itself after dockerd was killed: with Docker's own restart policy on local
// volumes, and on Mooring's volumes with its supervisor.
func TestMeasureKilledDockerd(t *testing.T) {
	t.Run("restart always", func(t *testing.T) {
		h := newHarbor(t)
		h.up(t)
		h.whole(t)
		h.killDockerd(t, "local volumes, restart: always")
	})
	t.Run("supervisor", func(t *testing.T) {
		h := newSupervised(t)
		if left := h.killDockerd(t, "vmdk volumes, mooring-supervisor"); left > 0 {
			t.Errorf("%d times of %d the stack did not come back", left, kills)
		}
	})
}

// TestMeasureStaleProxy measures how often the supervisor heals a proxy that takes jobservice for core, and how often a reload is enough. The next round begins when the supervisor has seen that all is well
// again: before, it would take the next stale address for the last one, which its cure did not cure.
func TestMeasureStaleProxy(t *testing.T) {
	h := newSupervised(t)
	startedAt := func() string { return docker(t, "inspect", "-f", "{{.State.StartedAt}}", "nginx") }
	var took []time.Duration
	restarts := 0
	for n := range handOvers {
		before := startedAt()
		h.signal(t, syscall.SIGSTOP)
		h.script(t, harborlike.StaleUpstream)
		if status, text := get(t.Context(), pingPath); status != http.StatusUnauthorized {
			t.Fatalf("the proxy answers %d %s; want jobservice's 401", status, text)
		}
		h.signal(t, syscall.SIGCONT)
		began := time.Now()
		if !within(backWithin, func() bool { return h.ill(t) == "" }) {
			t.Errorf("round %d: %s", n+1, h.ill(t))
			h.mend(t)
			continue
		}
		took = append(took, time.Since(began))
		if startedAt() != before {
			restarts++
		}
		healed := time.Now()
		until(t, "the supervisor sees the right answer", func() bool {
			var st admin.Stack
			ask(t, h.socket, admin.StackPath, &st)
			return st.Doors.Right && st.Doors.Asked.After(healed)
		})
	}
	slices.Sort(took)
	say("stale proxy: %d of %d healed, %d of them by a restart of the proxy, the others by a reload; after %.1f s (median; at most %.1f s)",
		len(took), handOvers, restarts, took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
}

// TestMeasureAtRest measures what the supervisor of a stack with some images takes when all is well: of the processor, of memory, and of Docker.
func TestMeasureAtRest(t *testing.T) {
	const rest = 5 * time.Minute
	h := newSupervised(t)
	h.push(t, 1)
	h.proved(t)
	within(2*time.Minute, func() bool { return false }) // what there is to do after a push, and after a start
	calls, ticks := h.asked(), h.ticks(t)
	within(rest, func() bool { return false })
	share := float64(h.ticks(t)-ticks) / 100 / rest.Seconds() // USER_HZ is 100 everywhere
	perMinute := float64(h.asked()-calls) / rest.Minutes()
	resident, peak := h.memory(t, "VmRSS"), h.memory(t, "VmHWM")
	say("the supervisor at rest for %s: %.2f %% of a processor, %.1f MB resident and %.1f MB at most until then, %.1f requests to Docker each minute", rest, share*100, resident, peak, perMinute)
	if share > 0.005 {
		t.Errorf("at rest the supervisor takes %.2f %% of a processor, want at most 0.5", share*100)
	}
	if peak > 60 {
		t.Errorf("the supervisor has taken %.1f MB of memory, want at most 60", peak)
	}
}

// ticks returns the processor time of the supervisor and of what it has started and waited for, in ticks.
func (s *supervised) ticks(t *testing.T) (ticks int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.supervisor.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	for _, field := range strings.Fields(rest)[14-3 : 18-3] { // utime, stime, cutime and cstime of proc_pid_stat(5)
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks
}

// memory returns a line of the supervisor's status, in MB.
func (s *supervised) memory(t *testing.T, name string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.supervisor.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return kib * 1024 / 1e6
}

// countRequests returns the address of a socket that is Docker's but for being counted, and how many requests came.
func countRequests(t *testing.T) (address string, asked func() int64) {
	t.Helper()
	var n atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker" },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", dockerSocket)
		}},
		FlushInterval: -1, // events come one by one
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close() //nolint:errcheck // nobody has used it
	server.Listener = l
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return "unix://" + socket, n.Load
}

// say tells what was measured, at once.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "measure: "+format+"\n", args...) }

// supervised is a stack that a supervisor looks after, on Mooring's volumes.
type supervised struct {
	*harbor

	supervisor *os.Process
	socket     string       // for administrators
	asked      func() int64 // how many requests the supervisor has sent to Docker
}

func newSupervised(t *testing.T) *supervised {
	t.Helper()
	r := newRig(t)
	s := &supervised{harbor: newHarborOn(t, r.docker, "vmdk")}
	s.up(t)
	s.whole(t)
	dir := t.TempDir()
	engine, asked := countRequests(t)
	s.asked, s.socket = asked, filepath.Join(dir, "supervisor.sock")
	config := filepath.Join(dir, "supervisor.yaml")
	text := fmt.Sprintf("stack: {directory: %s, profile: harbor}\nstate_dir: %s\nadmin_socket: %s\nplugin_admin_socket: %s\ndocker_host: %s\n",
		s.dir, filepath.Join(dir, "state"), s.socket, r.unit.AdminSocket(), engine)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(dir, "supervisor.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(buildRelease(t, "mooring-supervisor"), "--config", config)
	cmd.Stdout, cmd.Stderr = said, said
	for name, argv := range composes(t) {
		for key, value := range argv {
			cmd.Env = append(os.Environ(), key+"="+value)
		}
		t.Logf("the supervisor calls %s", name)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.supervisor = cmd.Process
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Process.Signal(syscall.SIGCONT) // a test may have ended while it stood still
		_ = cmd.Wait()                          // the signal
		if text, err := os.ReadFile(said.Name()); t.Failed() {
			t.Logf("the supervisor says (%v):\n%s", err, text)
		}
	})
	if !within(backWithin, func() bool { return docker(t, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "nginx") == "no" }) {
		t.Fatal("dockerd would still open the doors")
	}
	return s
}

func (s *supervised) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := s.supervisor.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// killDockerd kills dockerd again and again, and returns how often the stack did not come back by itself.
func (h *harbor) killDockerd(t *testing.T, side string) (left int) {
	t.Helper()
	var took []time.Duration
	for n := range kills {
		h.docker.kill(t)
		h.docker.start(t)
		began := time.Now()
		if !within(backWithin, func() bool { return h.ill(t) == "" }) {
			left++
			say("%s: kill %d: not back: %s", side, n+1, h.ill(t))
			h.mend(t)
			continue
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	median := "–"
	if len(took) > 0 {
		median = fmt.Sprintf("%.1f s", took[len(took)/2].Seconds())
	}
	say("%s: back by itself %d times of %d; median after dockerd's answer %s", side, kills-left, kills, median)
	return left
}

// whole waits until all of the stack is up.
func (h *harbor) whole(t *testing.T) {
	t.Helper()
	until(t, "all of the stack is up", func() bool { return h.ill(t) == "" })
}

// mend brings a stack up as people do: all down, all up.
func (h *harbor) mend(t *testing.T) {
	t.Helper()
	h.compose(t, "down")
	h.compose(t, "up", "-d")
	h.whole(t)
}

// ill says what is wrong with the stack, as its users and Docker see it: a container that does not run, or a wrong answer.
func (h *harbor) ill(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", append([]string{"inspect"}, services()...)...).Output()
	var list []struct {
		Name  string
		State struct {
			Status, Error string
			Running       bool
			ExitCode      int
		}
	}
	if err := errors.Join(err, json.Unmarshal(out, &list)); err != nil {
		return err.Error()
	}
	var wrong []string
	for _, c := range list {
		if c.State.Status != "running" {
			wrong = append(wrong, fmt.Sprintf("%s is %s (%d) %s", strings.TrimPrefix(c.Name, "/"), c.State.Status, c.State.ExitCode, c.State.Error))
		}
	}
	for _, q := range []struct{ path, want string }{{pingPath, "Pong"}, {"/v2/", ""}} {
		if status, text := get(t.Context(), q.path); status != http.StatusOK || !strings.HasPrefix(text, q.want) {
			wrong = append(wrong, fmt.Sprintf("%s: %d %s", q.path, status, text))
		}
	}
	if _, err := tryDocker(t, "exec", "harbor-jobservice", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/api/v1/stats"); err != nil {
		wrong = append(wrong, "jobservice does not answer")
	}
	return strings.Join(wrong, "; ")
}
