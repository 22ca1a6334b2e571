package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// fakeEngine is a Docker Engine's API over a Unix socket, as far as the stack uses it: containers with states, events for what happens to them,
// Docker's record of requests on disk, commands that are answered by the test.
type fakeEngine struct {
	host, root string
	exec       func(c container, argv []string) (exit int, said string)
	start      func(c *container) error // what a start comes to; nil: it runs
	hang       map[string]bool          // containers that are not inspected, as while their volumes are mounted
	next       int                      // the process of the next container that is started
	keeps      bool                     // live restore

	mu         sync.Mutex
	containers map[string]container
	listeners  map[chan event]bool
	requests   []string
	execs      map[string][]string
	exits      map[string]int // of those that have ended
	server     *http.Server
}

// container is one of the fake's.
type container struct {
	ID, Name, Service string
	State             string
	PID, Exit         int
	Error, Health     string
	Check             []string
	Policy            string
	User              string
	Requested         bool // Docker's record
	Started, Finished time.Time
	Ports             []docker.Port
	Mounts            []docker.Mount
	OneOff            bool
	After             string // what it depends on, as compose writes it
}

type event struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
	TimeNano int64 `json:"timeNano"`
}

const fakeProject = "shop"

func newFakeEngine(t *testing.T) *fakeEngine {
	t.Helper()
	e := &fakeEngine{
		root: t.TempDir(), containers: make(map[string]container), listeners: make(map[chan event]bool), execs: make(map[string][]string), exits: make(map[string]int),
		hang: make(map[string]bool),
	}
	sock := filepath.Join(t.TempDir(), "docker.sock")
	e.host = "unix://" + sock
	e.serve(t, sock)
	return e
}

func (e *fakeEngine) serve(t *testing.T, sock string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("GET /v1.41/info", func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.say(w, map[string]any{"DockerRootDir": e.root, "LiveRestoreEnabled": e.keeps})
	})
	mux.HandleFunc("GET /v1.41/containers/json", e.list)
	mux.HandleFunc("GET /v1.41/containers/{id}/json", e.inspect)
	mux.HandleFunc("POST /v1.41/containers/{id}/start", e.startOne)
	mux.HandleFunc("POST /v1.41/containers/{id}/restart", e.restartOne)
	mux.HandleFunc("POST /v1.41/containers/{id}/update", e.update)
	mux.HandleFunc("POST /v1.41/containers/{id}/exec", e.makeExec)
	mux.HandleFunc("POST /v1.41/exec/{id}/start", e.runExec)
	mux.HandleFunc("GET /v1.41/exec/{id}/json", e.endExec)
	mux.HandleFunc("GET /v1.41/volumes/{name}", func(w http.ResponseWriter, r *http.Request) {
		e.say(w, map[string]any{"Name": r.PathValue("name"), "Driver": "vmdk", "Mountpoint": ""})
	})
	mux.HandleFunc("GET /v1.41/events", e.events)
	e.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.requests = append(e.requests, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1.41"))
		e.mu.Unlock()
		mux.ServeHTTP(w, r)
	}), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	server := e.server
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

// down ends the engine at once, as SIGKILL does.
func (e *fakeEngine) down() { _ = e.server.Close() }

func (e *fakeEngine) add(list ...container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range list {
		if c.State == "running" && c.Started.IsZero() {
			c.Started = time.Now()
		}
		e.containers[c.ID] = c
		e.record(c)
	}
}

// record writes Docker's record of requests.
func (e *fakeEngine) record(c container) {
	dir := filepath.Join(e.root, "containers", c.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	text := fmt.Sprintf(`{"ID": %q, "HasBeenManuallyStopped": %t}`, c.ID, c.Requested)
	if err := os.WriteFile(filepath.Join(dir, "config.v2.json"), []byte(text), 0o600); err != nil {
		panic(err)
	}
}

// change changes the containers of the service, and tells nobody.
func (e *fakeEngine) change(service string, f func(*container)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.containers {
		if c.Service == service {
			f(&c)
			e.containers[id] = c
			e.record(c)
		}
	}
}

// tell sends an event of the service's containers to whoever listens.
func (e *fakeEngine) tell(service, action string, attributes ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.Service == service {
			e.tellOf(c, action, attributes...)
		}
	}
}

func (e *fakeEngine) tellOf(c container, action string, attributes ...string) {
	m := event{Type: "container", Action: action, TimeNano: time.Now().UnixNano()}
	m.Actor.ID, m.Actor.Attributes = c.ID, maps.Clone(c.labels())
	for i := 0; i < len(attributes); i += 2 {
		m.Actor.Attributes[attributes[i]] = attributes[i+1]
	}
	for l := range e.listeners {
		l <- m
	}
}

// stop does what `docker stop` does.
func (e *fakeEngine) stop(service string) {
	e.change(service, func(c *container) {
		c.State, c.Requested, c.Finished = "exited", true, time.Now()
		e.tellOf(*c, "kill", "signal", "15")
		e.tellOf(*c, "die", "exitCode", "0")
		e.tellOf(*c, "stop")
	})
}

// crash ends the container by itself.
func (e *fakeEngine) crash(service string, exit int) {
	e.change(service, func(c *container) {
		c.State, c.Exit, c.Finished = "exited", exit, time.Now()
		e.tellOf(*c, "die", "exitCode", strconv.Itoa(exit))
	})
}

// remove does what `docker rm -f` does.
func (e *fakeEngine) remove(service string) {
	e.stop(service)
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.containers {
		if c.Service == service {
			delete(e.containers, id)
			e.tellOf(c, "destroy")
		}
	}
}

// asked returns the requests since the last call.
func (e *fakeEngine) asked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.requests
	e.requests = nil
	return all
}

func (e *fakeEngine) say(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func (c container) labels() map[string]string {
	one := "False"
	if c.OneOff {
		one = "True"
	}
	return map[string]string{
		"com.docker.compose.project": fakeProject, "com.docker.compose.service": c.Service, "com.docker.compose.oneoff": one,
		"com.docker.compose.depends_on": c.After,
	}
}

func (e *fakeEngine) list(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(e.containers)) {
		c := e.containers[id]
		all = append(all, map[string]any{"Id": id, "Names": []string{"/" + c.Name}, "State": c.State, "Labels": c.labels()})
	}
	e.say(w, all)
}

func (e *fakeEngine) inspect(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	c, ok := e.containers[r.PathValue("id")]
	hang := e.hang[c.ID]
	e.mu.Unlock()
	if hang {
		<-r.Context().Done()
		return
	}
	if !ok {
		http.Error(w, `{"message": "No such container"}`, http.StatusNotFound)
		return
	}
	state := map[string]any{
		"Status": c.State, "Pid": c.PID, "ExitCode": c.Exit, "Error": c.Error, "StartedAt": stamp(c.Started), "FinishedAt": stamp(c.Finished),
	}
	if c.Health != "" {
		state["Health"] = map[string]any{"Status": c.Health, "Log": []any{map[string]any{"Output": "curl: (7) refused\n"}}}
	}
	ports := map[string]any{}
	for _, p := range c.Ports {
		ports[fmt.Sprintf("%d/%s", p.Container, p.Protocol)] = []any{map[string]any{"HostIp": p.HostIP, "HostPort": strconv.Itoa(p.Host)}}
	}
	mounts := []any{}
	for _, m := range c.Mounts {
		mounts = append(mounts, map[string]any{"Type": m.Type, "Name": m.Volume, "Driver": m.Driver, "Source": m.Source, "Destination": m.Target, "RW": !m.ReadOnly})
	}
	config := map[string]any{"Labels": c.labels(), "User": c.User}
	if len(c.Check) > 0 {
		config["Healthcheck"] = map[string]any{"Test": c.Check}
	}
	e.say(w, map[string]any{
		"Id": c.ID, "Name": "/" + c.Name, "State": state, "Config": config, "Mounts": mounts,
		"HostConfig":      map[string]any{"RestartPolicy": map[string]any{"Name": c.Policy}},
		"NetworkSettings": map[string]any{"Ports": ports},
	})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (e *fakeEngine) startOne(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[r.PathValue("id")]
	if !ok {
		http.Error(w, `{"message": "No such container"}`, http.StatusNotFound)
		return
	}
	if e.start != nil {
		if err := e.start(&c); err != nil {
			c.Error = err.Error()
			e.containers[c.ID] = c
			w.WriteHeader(http.StatusInternalServerError)
			e.say(w, map[string]any{"message": err.Error()})
			return
		}
	}
	c.State, c.Error, c.Requested, c.Started, c.PID = "running", "", false, time.Now(), e.next
	e.containers[c.ID] = c
	e.record(c)
	e.tellOf(c, "start")
	w.WriteHeader(http.StatusNoContent)
}

// restartOne stops the container as Docker does, and starts it.
func (e *fakeEngine) restartOne(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	c := e.containers[r.PathValue("id")]
	e.mu.Unlock()
	e.stop(c.Service)
	e.startOne(w, r)
}

func (e *fakeEngine) update(w http.ResponseWriter, r *http.Request) {
	var u struct{ RestartPolicy struct{ Name string } }
	if err := json.NewDecoder(r.Body).Decode(&u); err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[r.PathValue("id")]
	c.Policy = u.RestartPolicy.Name
	e.containers[c.ID] = c
	e.say(w, map[string]any{})
}

func (e *fakeEngine) makeExec(w http.ResponseWriter, r *http.Request) {
	var x struct{ Cmd []string }
	if err := json.NewDecoder(r.Body).Decode(&x); err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	id := fmt.Sprintf("%s-%d", r.PathValue("id"), len(e.execs))
	e.execs[id] = x.Cmd
	w.WriteHeader(http.StatusCreated)
	e.say(w, map[string]any{"Id": id})
}

// answer runs the command, and keeps how it ended.
func (e *fakeEngine) answer(id string) (said string) {
	e.mu.Lock()
	owner, _, _ := strings.Cut(id, "-")
	c, argv := e.containers[owner], e.execs[id]
	e.mu.Unlock()
	exit, said := e.exec(c, argv)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exits[id] = exit
	return said
}

func (e *fakeEngine) runExec(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(err)
	}
	said := e.answer(r.PathValue("id"))
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close() //nolint:errcheck // the other end sees it
	_, _ = fmt.Fprint(buf, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	if said != "" {
		_, _ = buf.Write([]byte{1, 0, 0, 0, 0, 0, byte(len(said) >> 8), byte(len(said))})
		_, _ = buf.WriteString(said)
	}
	_ = buf.Flush()
}

func (e *fakeEngine) endExec(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	exit, ended := e.exits[r.PathValue("id")]
	e.say(w, map[string]any{"ExitCode": exit, "Running": !ended})
}

func (e *fakeEngine) events(w http.ResponseWriter, r *http.Request) {
	l := make(chan event, 100)
	e.mu.Lock()
	e.listeners[l] = true
	e.mu.Unlock()
	defer func() { e.mu.Lock(); delete(e.listeners, l); e.mu.Unlock() }()
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case m := <-l:
			e.say(w, m)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// newStack returns a stack of the project, running, on the fake engine.
func newStack(t *testing.T, e *fakeEngine, cfg stack.Config) *stack.Stack {
	t.Helper()
	engine, err := docker.New(e.host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	if cfg.Files.Dir == "" {
		cfg.Files = stack.Files{Dir: t.TempDir(), Project: fakeProject}
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	t.Setenv("PATH", t.TempDir()) // compose is not what is tested here, and slow
	s, err := stack.New(cfg, engine)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "the stack listens, and need not ask", func() bool {
		observe(t, s)
		e.asked()
		observe(t, s)
		return !slices.Contains(e.asked(), "GET /containers/json")
	})
	return s
}

// observe returns what the stack sees, by service.
func observe(t *testing.T, s *stack.Stack) map[name]supervisor.Service {
	t.Helper()
	by := make(map[name]supervisor.Service)
	for _, one := range s.Observe(t.Context()).Services {
		by[one.Name] = one
	}
	return by
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-every.C:
		case <-limit:
			t.Fatalf("after half a minute it is not so that %s", what)
		}
	}
}
