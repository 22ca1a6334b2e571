//go:build machines

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike"
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

// TestMeasureStaleProxy measures how often the supervisor heals a proxy that takes jobservice for core.
func TestMeasureStaleProxy(t *testing.T) {
	h := newSupervised(t)
	started := docker(t, "inspect", "-f", "{{.State.StartedAt}}", "nginx")
	var took []time.Duration
	for n := range handOvers {
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
	}
	slices.Sort(took)
	restarted := ""
	if docker(t, "inspect", "-f", "{{.State.StartedAt}}", "nginx") != started {
		restarted = "; the proxy was restarted"
	}
	say("stale proxy: %d of %d healed, after %.1f s (median; at most %.1f s)%s", len(took), handOvers, took[len(took)/2].Seconds(), took[len(took)-1].Seconds(), restarted)
}

// say tells what was measured, at once.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "measure: "+format+"\n", args...) }

// supervised is a stack that a supervisor looks after, on Mooring's volumes.
type supervised struct {
	*harbor

	supervisor *os.Process
}

func newSupervised(t *testing.T) *supervised {
	t.Helper()
	r := newRig(t)
	s := &supervised{harbor: newHarborOn(t, r.docker, "vmdk")}
	s.up(t)
	s.whole(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "supervisor.yaml")
	text := fmt.Sprintf("stack: {directory: %s, profile: harbor}\nstate_dir: %s\nadmin_socket: %s\nplugin_admin_socket: %s\ndocker_host: unix://%s\n",
		s.dir, filepath.Join(dir, "state"), filepath.Join(dir, "supervisor.sock"), r.unit.AdminSocket(), dockerSocket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "supervisor.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(build(t, "mooring-supervisor"), "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
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
		_ = cmd.Wait() // the signal
		if said, err := os.ReadFile(log.Name()); t.Failed() || strings.Contains(string(said), "DATA RACE") {
			t.Errorf("the supervisor says (%v):\n%s", err, said)
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
