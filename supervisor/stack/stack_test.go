package stack_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// Where the project's file is broken, or compose is missing, the containers tell by their labels what there is.
func TestContainersAreSeenWithoutProject(t *testing.T) {
	e := newFakeEngine(t)
	e.add(
		container{ID: "a", Service: "db", State: "running", Health: "healthy", Check: []string{"CMD", "true"}},
		container{ID: "b", Service: "registry", State: "exited", Exit: 128, Error: "failed to initialize logging driver: dial tcp 127.0.0.1:1514: connect: connection refused"},
		container{ID: "c", Service: "run", State: "running", OneOff: true},
	)
	s := newStack(t, e, stack.Config{})
	state := s.Observe(t.Context())
	if !state.Docker.OK() || state.Project.OK() || !strings.Contains(state.Project.Err, "docker compose") || state.Project.Cure == "" {
		t.Errorf("got Docker %+v, project %+v; want compose missing, with a cure", state.Docker, state.Project)
	}
	by := observe(t, s)
	if len(by) != 2 || by["db"].Ready != mooring.Yes || by["registry"].State != supervisor.Exited || !strings.Contains(by["registry"].Error, "1514") {
		t.Errorf("got %+v", by)
	}
	if err := s.Start(t.Context(), "registry"); err != nil {
		t.Errorf("start of what exists: %v", err)
	}
	if got := observe(t, s)["registry"]; got.State != supervisor.Running || got.Error != "" {
		t.Errorf("after its start: got %+v", got)
	}
	if err := s.Start(t.Context(), "gone"); err == nil || !strings.Contains(err.Error(), "docker compose") {
		t.Errorf("start of what has to be made: got %v, want why it cannot be", err)
	}
}

// A person's stop is left alone, in this life and in the next; a crash is not, and neither is the end of dockerd.
func TestStoppedByAPerson(t *testing.T) {
	e := newFakeEngine(t)
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		e.add(container{ID: n, Service: n, State: "running"})
	}
	file := filepath.Join(t.TempDir(), "stopped.json")
	s := newStack(t, e, stack.Config{Memory: file})
	observe(t, s)
	e.stop("a")
	e.crash("b", 1)
	e.remove("c")
	e.change("d", func(c *container) { c.State = "paused"; e.tellOf(*c, "pause") })
	e.tell("e", "kill", "signal", "10") // a log was rotated
	e.change("e", func(c *container) { c.Requested = true })
	e.crash("e", 1)
	eventually(t, "all ends are seen", func() bool {
		by := observe(t, s)
		return by["a"].State == supervisor.Exited && by["b"].State == supervisor.Exited && by["e"].State == supervisor.Exited
	})
	want := map[name]mooring.Fact{"a": mooring.Yes, "b": mooring.No, "d": mooring.Yes, "e": mooring.No}
	stopped(t, s, want)

	// The machine dies: nobody has seen anything of what is now, and Docker's record says of b what it says of a.
	e.change("b", func(c *container) { c.Requested = true })
	after := newStack(t, e, stack.Config{Memory: file})
	stopped(t, after, want)
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `"c"`) {
		t.Errorf("what was removed is not kept: %s, %v", text, err)
	}
	if err := after.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	stopped(t, after, map[name]mooring.Fact{"a": mooring.No})
	e.crash("a", 1)
	stopped(t, after, map[name]mooring.Fact{"a": mooring.No})
}

func stopped(t *testing.T, s *stack.Stack, want map[name]mooring.Fact) {
	t.Helper()
	got := make(map[name]mooring.Fact)
	defer func() {
		if t.Failed() {
			t.Logf("got %v, want %v", got, want)
		}
	}()
	eventually(t, "the stack tells who stopped what", func() bool {
		by := observe(t, s)
		for n := range want {
			got[n] = by[n].Stopped
		}
		return maps.Equal(got, want)
	})
}

// The supervisor's own restart looks like a person's stop to Docker, and stays down like one where the start fails.
func TestOwnRestartIsNoPersonsStop(t *testing.T) {
	e := newFakeEngine(t)
	e.add(container{ID: "a", Service: "a", State: "running"})
	s := newStack(t, e, stack.Config{})
	observe(t, s)
	e.start = func(*container) error { return errors.New("failed to initialize logging driver") }
	if err := s.Restart(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "restart a: ") || !strings.Contains(err.Error(), "logging driver") {
		t.Errorf("got %v, want Docker's words", err)
	}
	eventually(t, "it is down, and nobody stopped it", func() bool {
		got := observe(t, s)["a"]
		return got.State == supervisor.Exited && got.Stopped == mooring.No
	})
}

// While Docker mounts a container's volumes it does not answer for that container, for up to two minutes; the others are seen all the same.
func TestContainerThatIsMountedHidesNoOther(t *testing.T) {
	e := newFakeEngine(t)
	e.add(container{ID: "a", Service: "a", State: "running"}, container{ID: "b", Service: "b", State: "running"})
	s := newStack(t, e, stack.Config{})
	observe(t, s)
	e.mu.Lock()
	e.hang["a"] = true
	e.mu.Unlock()
	e.crash("a", 1)
	e.crash("b", 7)
	eventually(t, "both are seen to be down", func() bool {
		by := observe(t, s)
		return by["a"].State == supervisor.Exited && by["b"].Exit == 7
	})
}

// Docker's health check speaks after its interval, half a minute with Harbor's; the same command run at once tells sooner. Once it has spoken, nothing is asked.
func TestReadinessIsAskedByTheHealthCheck(t *testing.T) {
	e := newFakeEngine(t)
	answers := make(chan int, 1)
	e.exec = func(c container, argv []string) (int, string) {
		if strings.Join(argv, " ") != "/bin/sh -c curl :80" {
			t.Errorf("asked %s with %v", c.ID, argv)
		}
		exit := <-answers
		answers <- exit
		return exit, "no"
	}
	e.add(container{ID: "a", Service: "a", State: "running", Health: "starting", Check: []string{"CMD-SHELL", "curl :80"}})
	s := newStack(t, e, stack.Config{})
	eventually(t, "it is asked", func() bool { got := observe(t, s)["a"]; return got.Asking && got.Ready == mooring.No })
	answers <- 1
	eventually(t, "it is not ready", func() bool {
		got := observe(t, s)["a"]
		return got.Ready == mooring.No && !got.Asking && strings.Contains(got.ReadyWhy, "exit code 1")
	})
	<-answers
	answers <- 0
	eventually(t, "it is ready", func() bool { return observe(t, s)["a"].Ready == mooring.Yes })
	e.change("a", func(c *container) { c.Health = "unhealthy"; e.tellOf(*c, "health_status: unhealthy") })
	eventually(t, "it is not ready", func() bool { return strings.Contains(observe(t, s)["a"].ReadyWhy, "refused") })
}

// Where compose is missing, or its file cannot be read, or compose is not done with it yet, the labels that it has left tell the order, and the profile adds what it knows.
func TestLabelsTellTheOrderOfAProjectThatWasNeverRead(t *testing.T) {
	e := newFakeEngine(t)
	for name, after := range map[string]string{"log": "", "redis": "log:service_started:false", "registry": "log:service_started:true", "proxy": "registry:service_healthy:false,log:service_started:false"} {
		e.add(container{ID: name, Service: name, State: "running", After: after})
	}
	profile := stack.Profile{Entry: "proxy", Services: map[supervisor.ServiceName]stack.Instruction{"registry": {After: []supervisor.ServiceName{"redis"}}}}
	got := observe(t, newStack(t, e, stack.Config{Profile: profile}))
	for name, want := range map[supervisor.ServiceName]string{"log": "[]", "redis": "[log]", "registry": "[log redis]", "proxy": "[registry log]"} {
		if after := fmt.Sprint(got[name].After); after != want || got[name].Entry != (name == "proxy") {
			t.Errorf("%s: got %s, entry %t, want %s", name, after, got[name].Entry, want)
		}
	}
}

// Docker cannot end a command in a container. One that hangs must not be joined by another every few seconds.
func TestAQuestionIsNotPutAgainWhileItsCommandGoesOn(t *testing.T) {
	e := newFakeEngine(t)
	var put atomic.Int32
	answer := make(chan struct{})
	e.exec = func(container, []string) (int, string) {
		put.Add(1)
		<-answer
		return 0, ""
	}
	e.add(container{ID: "a", Service: "a", State: "running"})
	question := &stack.Question{Exec: []string{"check"}, Within: 50 * time.Millisecond}
	s := newStack(t, e, stack.Config{Profile: stack.Profile{Services: map[supervisor.ServiceName]stack.Instruction{"a": {Ready: question}}}})
	eventually(t, "it was asked twice", func() bool { return strings.Contains(observe(t, s)["a"].ReadyWhy, "not been answered yet") })
	if n := put.Load(); n != 1 {
		t.Errorf("%d commands go on, want one", n)
	}
	close(answer)
	eventually(t, "it is ready", func() bool { return observe(t, s)["a"].Ready == mooring.Yes })
}

// On a machine that has just started, with all services not ready yet, a command in every container at once would let none of them end within its limit; and what has not
// ended goes on, so that there would be ever more of them.
func TestQuestionsWaitForEachOther(t *testing.T) {
	const services = 40
	e := newFakeEngine(t)
	var now, most atomic.Int32
	e.exec = func(container, []string) (int, string) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old; old = most.Load() {
			most.CompareAndSwap(old, n)
		}
		tick := time.NewTimer(20 * time.Millisecond)
		defer tick.Stop()
		<-tick.C
		return 0, ""
	}
	for i := range services {
		id := fmt.Sprintf("c%d", i)
		e.add(container{ID: id, Service: id, State: "running", Health: "starting", Check: []string{"CMD", "check"}})
	}
	s := newStack(t, e, stack.Config{})
	eventually(t, "all are ready", func() bool {
		ready := 0
		for _, v := range observe(t, s) {
			if v.Ready == mooring.Yes {
				ready++
			}
		}
		return ready == services
	})
	if got, want := int(most.Load()), runtime.GOMAXPROCS(0); got > want {
		t.Errorf("%d commands at once, want at most %d", got, want)
	}
}

// What was asked before Docker's health check spoke is worth nothing after: the service would be waited for for ever.
func TestHealthCheckHasTheLastWord(t *testing.T) {
	e := newFakeEngine(t)
	e.exec = func(container, []string) (int, string) { return 1, "no" }
	e.add(container{ID: "a", Service: "a", State: "running", Health: "starting", Check: []string{"CMD", "check"}})
	s := newStack(t, e, stack.Config{})
	eventually(t, "it is not ready", func() bool { return strings.Contains(observe(t, s)["a"].ReadyWhy, "exit code 1") })
	e.change("a", func(c *container) { c.Health = "healthy"; e.tellOf(*c, "health_status: healthy") })
	eventually(t, "it is ready", func() bool { return observe(t, s)["a"].Ready == mooring.Yes })
}

// younger returns a process that was started later than this one, and others that were returned.
func younger(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "600")
	tick := time.NewTimer(30 * time.Millisecond) // the kernel counts in hundredths of a second
	defer tick.Stop()
	<-tick.C
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // killed
	return cmd.Process.Pid
}

// A dockerd that was killed is followed by one that may fail to take a container over, because its log driver's server is not there yet. The container runs on, published nowhere and
// reached by no command; Docker says that it is healthy, and goes on saying so. It counts as dead, and a start ends it first.
func TestContainerThatTheNextDockerdDoesNotTakeOver(t *testing.T) {
	e := newFakeEngine(t)
	pid := filepath.Join(t.TempDir(), "docker.pid")
	e.add(container{ID: "a", Service: "registry", State: "running", PID: os.Getpid(), Health: "healthy", Check: []string{"CMD", "true"}})
	daemon := func() {
		if err := os.WriteFile(pid, []byte(strconv.Itoa(younger(t))), 0o600); err != nil {
			t.Fatal(err)
		}
		e.tell("registry", "rename") // something, so that it is looked
	}
	s := newStack(t, e, stack.Config{DaemonFile: pid})
	eventually(t, "it is ready", func() bool { return observe(t, s)["registry"].Ready == mooring.Yes })
	e.mu.Lock()
	e.keeps = true
	e.mu.Unlock()
	after := newStack(t, e, stack.Config{DaemonFile: pid})
	daemon()
	eventually(t, "it is dead", func() bool {
		got := observe(t, s)["registry"]
		return got.State == supervisor.Dead && got.Lost && got.Ready == mooring.No && strings.Contains(got.ReadyWhy, "not taken it over") && got.Stopped == mooring.No
	})
	if got := observe(t, after)["registry"]; got.State != supervisor.Running || got.Ready != mooring.Yes {
		t.Errorf("with live restore: got %+v, want it running and ready", got)
	}
	e.mu.Lock()
	e.next = younger(t)
	e.mu.Unlock()
	e.asked()
	if err := s.Start(t.Context(), "registry"); err != nil {
		t.Fatal(err)
	}
	if got := e.asked(); !slices.Contains(got, "POST /containers/a/restart") {
		t.Errorf("got %v, want a restart", got)
	}
	eventually(t, "it is ready", func() bool {
		got := observe(t, s)["registry"]
		return got.State == supervisor.Running && got.Ready == mooring.Yes && got.Stopped == mooring.No
	})
}

// A profile's question counts before the health check; what it says is compared; a restart asks again.
func TestReadinessIsAskedByTheProfile(t *testing.T) {
	e := newFakeEngine(t)
	said := make(chan string, 1)
	said <- "LOADING Redis is loading the dataset in memory"
	e.exec = func(container, []string) (int, string) {
		s := <-said
		said <- s
		return 0, s
	}
	e.add(container{ID: "a", Service: "redis", State: "running", Health: "healthy", Check: []string{"CMD", "true"}})
	profile, err := stack.ParseProfile([]byte("services: {redis: {ready: {exec: [redis-cli, ping], says: PONG}, flush: {exec: [redis-cli, flushdb]}}}"))
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, e, stack.Config{Profile: profile})
	eventually(t, "it is not ready", func() bool {
		got := observe(t, s)["redis"]
		return got.Cache && strings.Contains(got.ReadyWhy, "LOADING")
	})
	<-said
	said <- "PONG"
	eventually(t, "it is ready", func() bool { return observe(t, s)["redis"].Ready == mooring.Yes })
	<-said
	said <- "(error)"
	if err := s.Restart(t.Context(), "redis"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is asked again", func() bool { return observe(t, s)["redis"].Ready == mooring.No })
}

// Reload and flush run the profile's commands, and say what those said; a service without one is refused.
func TestCommands(t *testing.T) {
	e := newFakeEngine(t)
	exit := 0
	e.exec = func(_ container, argv []string) (int, string) { return exit, strings.Join(argv, " ") + ": done\n" }
	e.add(container{ID: "p", Service: "proxy", State: "running"}, container{ID: "r", Service: "redis", State: "running"})
	harbor, err := stack.LoadProfile("harbor")
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, e, stack.Config{Profile: harbor})
	observe(t, s)
	if err := errors.Join(s.Reload(t.Context(), "proxy"), s.Flush(t.Context(), "redis")); err != nil {
		t.Error(err)
	}
	exit = 1
	if err := s.Reload(t.Context(), "proxy"); err == nil || !strings.Contains(err.Error(), "reload proxy: nginx -s reload: exit code 1: nginx -s reload: done") {
		t.Errorf("got %v", err)
	}
	if err := s.Flush(t.Context(), "proxy"); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("flush of what has no cache: got %v, want ErrInvalid", err)
	}
	if err := s.Reload(t.Context(), "gone"); err == nil {
		t.Error("reload of what is not there: got no error")
	}
}

// At rest Docker is left alone: what happens is told by its events.
func TestRestCostsNoRequests(t *testing.T) {
	e := newFakeEngine(t)
	e.add(container{ID: "a", Service: "a", State: "running", Health: "healthy", Check: []string{"CMD", "true"}}, container{ID: "b", Service: "b", State: "running"})
	s := newStack(t, e, stack.Config{})
	observe(t, s)
	eventually(t, "it has settled", func() bool { observe(t, s); e.asked(); observe(t, s); return len(e.asked()) == 0 })
	for range 100 {
		observe(t, s)
	}
	if got := e.asked(); len(got) > 0 {
		t.Errorf("100 looks at rest: got %v, want no request", got)
	}
	e.crash("b", 1)
	eventually(t, "the change is seen", func() bool { return observe(t, s)["b"].State == supervisor.Exited })
	got := e.asked()
	if len(got) > 4 || !slices.Contains(got, "GET /containers/b/json") || slices.Contains(got, "GET /containers/a/json") {
		t.Errorf("one change: got %v, want a list and the one that changed", got)
	}
}

// A Docker that is not there is said, with the last that was seen of the services; when it is back, nothing has to be restarted.
func TestDockerGoesAndComesBack(t *testing.T) {
	e := newFakeEngine(t)
	e.add(container{ID: "a", Service: "a", State: "running"})
	s := newStack(t, e, stack.Config{})
	observe(t, s)
	e.down()
	var state supervisor.StackState
	eventually(t, "Docker is gone", func() bool { state = s.Observe(t.Context()); return !state.Docker.OK() })
	if state.Docker.Cure == "" || len(state.Services) != 1 {
		t.Errorf("got %+v, want a cure, and the service", state)
	}
	e.crash("a", 255)
	sock := strings.TrimPrefix(e.host, "unix://")
	_ = os.Remove(sock)
	e.serve(t, sock)
	eventually(t, "Docker is back", func() bool {
		got := observe(t, s)["a"]
		return got.State == supervisor.Exited && got.Stopped == mooring.No
	})
}

// Which of Mooring's volumes a service needs, and where it writes; a directory that must be mounted and is not is said to be so.
func TestVolumesAndDirectories(t *testing.T) {
	e := newFakeEngine(t)
	data, logs := t.TempDir(), t.TempDir()
	mutable := exec.Command("chattr", "-i", logs)
	t.Cleanup(func() { _ = mutable.Run() }) // as root it was made immutable
	e.add(container{ID: "a", Service: "postgresql", State: "running", Mounts: []docker.Mount{
		{Type: "volume", Volume: "vsanvol2", Driver: "vmdk", Source: "/var/lib/mooring/mnt/vsanvol2/data", Target: "/var/lib/postgresql/data"},
		{Type: "volume", Volume: "scratch", Driver: "local", Source: data, Target: "/scratch"},
		{Type: "bind", Source: logs, Target: "/var/log"},
		{Type: "bind", Source: "/etc/hosts", Target: "/etc/hosts", ReadOnly: true},
	}})
	s := newStack(t, e, stack.Config{MustBeMounted: []string{logs}})
	got := observe(t, s)["postgresql"]
	if !slices.Equal(got.Needs, []mooring.Name{"vsanvol2"}) {
		t.Errorf("needs: got %v, want vsanvol2", got.Needs)
	}
	var dirs []string
	for _, d := range got.Dirs {
		dirs = append(dirs, d.Path+" "+string(d.Mounted))
	}
	if want := []string{data + " ", logs + " no"}; !slices.Equal(dirs, want) {
		t.Errorf("directories: got %q, want %q", dirs, want)
	}
	if d := got.Dirs[1]; !strings.Contains(d.Why, logs) || d.Cure == "" {
		t.Errorf("got %+v, want why and a cure", d)
	}
	if _, err := stack.New(stack.Config{Files: stack.Files{Dir: "/x"}, MustBeMounted: []string{"data"}}, nil); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("a relative directory: got %v, want ErrInvalid", err)
	}
}

// A volume is unmounted whenever its last container ends, perhaps in the middle of a try to write there: what that came to says nothing of the volume, and must not keep its
// service down when it is mounted again.
func TestATryToWriteWhereNothingIsMountedAnyMore(t *testing.T) {
	needRoot(t)
	e := newFakeEngine(t)
	data, ended := t.TempDir(), filepath.Join(t.TempDir(), "ended")
	mount(t, data, 0, "mode=777")
	script := filepath.Join(t.TempDir(), "probe")
	text := "#!/bin/sh\necho begun\n[ ! -e " + ended + " ] || exit 0\numount -l " + data + "\n>" + ended + "\nexit " + strconv.Itoa(int(syscall.ENOENT)) + "\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	e.add(container{ID: "a", Service: "a", State: "exited", User: "0", Mounts: []docker.Mount{{Type: "volume", Volume: "v", Driver: "vmdk", Source: data, Target: "/data"}}})
	s := newStack(t, e, stack.Config{Probe: []string{script}})
	eventually(t, "it is unmounted", func() bool {
		got := observe(t, s)["a"]
		_, err := os.Stat(ended)
		return err == nil && len(got.Dirs) == 0
	})
	mount(t, data, 0, "mode=777")
	eventually(t, "it can be written", func() bool {
		got := observe(t, s)["a"]
		if got.Dirs[0].Writable == mooring.No {
			t.Fatalf("got %+v, want no word of the mount that is gone", got.Dirs[0])
		}
		return got.Dirs[0].Writable == mooring.Yes
	})
}

// dockerd must not open the doors. That it does is told, and put right in the override file and in the container; the main file is never touched.
func TestDoorsAreClosed(t *testing.T) {
	e := newFakeEngine(t)
	e.add(container{ID: "p", Name: "nginx", Service: "proxy", State: "running", Policy: "always"})
	dir := t.TempDir()
	main := filepath.Join(dir, "docker-compose.yml")
	if err := os.WriteFile(main, []byte("services: {proxy: {image: x}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, e, stack.Config{Files: stack.Files{Dir: dir, Project: fakeProject}, Entry: "proxy"})
	observe(t, s)
	if got := s.Conditions(); len(got) != 1 || got[0].Code != "door-open" || !strings.Contains(got[0].Cure, "docker update --restart=no nginx") {
		t.Errorf("got %+v, want door-open with its cure", got)
	}
	before, err := os.Stat(main)
	if err != nil {
		t.Fatal(err)
	}
	override := filepath.Join(dir, "docker-compose.override.yml")
	if file, err := s.CloseDoors(t.Context()); err != nil || file != override {
		t.Errorf("got %s, %v, want %s", file, err, override)
	}
	observe(t, s)
	if got := s.Conditions(); len(got) != 0 {
		t.Errorf("afterwards: got %+v", got)
	}
	if file, err := s.CloseDoors(t.Context()); err != nil || file != "" {
		t.Errorf("a second time: got %s, %v, want nothing to do", file, err)
	}
	if after, err := os.Stat(main); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the main file was touched (%v)", err)
	}
}

// A memory that is damaged is told, and the stack works without it.
func TestDamagedMemoryIsNoReasonNotToWork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stopped.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newFakeEngine(t)
	engine, err := docker.New(e.host)
	if err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(stack.Config{Files: stack.Files{Dir: "/x"}, Memory: file, Log: slog.New(slog.DiscardHandler)}, engine)
	if err == nil || s == nil {
		t.Errorf("got %v, %v, want a stack and an error", s, err)
	}
}

// A service that has no container yet needs its volumes all the same; which of them are Mooring's is what Docker says.
func TestVolumesOfWhatIsNotMadeYet(t *testing.T) {
	e := newFakeEngine(t)
	dir, bin := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in *version*) ;; *) echo 'services: {db: {volumes: [\"data:/d\"]}}'; echo 'volumes: {data: {external: true, name: vsanvol1}}';; esac\n"
	err := errors.Join(
		os.WriteFile(filepath.Join(bin, "docker-compose"), []byte(script), 0o755),
		os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte("services: {}\n"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, e, stack.Config{Files: stack.Files{Dir: dir, Project: fakeProject}})
	t.Setenv("PATH", bin)
	eventually(t, "the project is read, and its volume is known", func() bool {
		got := observe(t, s)["db"]
		return got.State == supervisor.Missing && slices.Equal(got.Needs, []mooring.Name{"vsanvol1"}) && got.Stopped == mooring.Unknown
	})
	if err := s.Start(t.Context(), "web"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("start of a service that the project does not have: got %v, want ErrNotFound", err)
	}
}
