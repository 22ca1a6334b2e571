package docker_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
)

// A volume of another driver may have the name of one of ours: only ours count as used.
func TestRunningNamesOnlyOurVolumes(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/v1.41/containers/json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`[
			{"Id":"c1","Names":["/db"],"Mounts":[{"Type":"volume","Driver":"vmdk","Name":"data"},{"Type":"volume","Driver":"local","Name":"cache"}]},
			{"Id":"c2","Names":["/web"],"Mounts":[{"Type":"volume","Driver":"vmdk","Name":"data"},{"Type":"bind","Source":"/etc"}]}]`))
	})
	e := serve(t, mux)
	got, err := e.Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := map[mooring.Name][]string{"data": {"db", "web"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("running: got %v, want %v", got, want)
	}
}

// The client that this is made of has a data race when two of its first calls meet; run with -race.
func TestRunningMayBeAskedAtTheSameTime(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/v1.41/containers/json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) })
	e := serve(t, mux)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := e.Running(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Whether containers outlive the daemon is said as the daemon says it; without one nobody knows.
func TestLiveRestore(t *testing.T) {
	for answer, want := range map[string]bool{`{"LiveRestoreEnabled": true}`: true, `{}`: false} {
		mux := http.NewServeMux()
		mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
		mux.HandleFunc("/v1.41/info", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
		if got, err := serve(t, mux).LiveRestore(t.Context()); err != nil || got != want {
			t.Errorf("%s: got %t, %v, want %t", answer, got, err, want)
		}
	}
	e, err := docker.New("unix://" + filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.LiveRestore(t.Context()); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("without a daemon: got %v, want ErrUnavailable", err)
	}
}

// The plugin waits for a daemon that is not up yet, so it must be able to tell that case from others.
func TestRunningIsUnavailableWithoutDaemon(t *testing.T) {
	e, err := docker.New("unix://" + filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Running(t.Context()); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("running without a daemon: got %v, want ErrUnavailable", err)
	}
}

func TestNewRefusesHost(t *testing.T) {
	if _, err := docker.New("no such scheme"); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("new: got %v, want ErrInvalid", err)
	}
}

func serve(t *testing.T, h http.Handler) *docker.Engine {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "docker.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 1 << 30}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Shutdown(context.WithoutCancel(t.Context())); <-done })
	e, err := docker.New("unix://" + sock)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What the supervisor's decisions hang on, as Docker 20.10 and 26 write it.
func TestContainerIsDescribed(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/v1.41/containers/c1/json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Id":"c1","Name":"/harbor-db","RestartCount":3,
			"State":{"Status":"exited","ExitCode":128,"Error":"failed to initialize logging driver: dial tcp 127.0.0.1:1514: connect: connection refused",
				"StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"2026-11-22T00:09:45.546842221Z","Health":{"Status":"none"}},
			"HostConfig":{"NetworkMode":"shop_default","RestartPolicy":{"Name":"always"}},
			"Config":{"User":"999","Labels":{"com.docker.compose.service":"postgresql"},"Healthcheck":{"Test":["CMD-SHELL","psql"]}},
			"Mounts":[{"Type":"volume","Name":"vsanvol2","Driver":"vmdk","Source":"","Destination":"/data","RW":true},{"Type":"bind","Source":"/etc","Destination":"/etc","RW":false}],
			"NetworkSettings":{"Ports":{"8080/tcp":[{"HostIp":"0.0.0.0","HostPort":"80"}],"9/udp":null},
				"Networks":{"b":{"IPAddress":"10.1.0.2","GlobalIPv6Address":"fd00::2"},"c":{"IPAddress":""}}}}`))
	})
	e := serve(t, mux)
	got, err := e.Container(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	want := docker.Container{
		ID: "c1", Name: "harbor-db", Labels: map[string]string{"com.docker.compose.service": "postgresql"}, State: "exited", Exit: 128, Restarts: 3,
		Error:    "failed to initialize logging driver: dial tcp 127.0.0.1:1514: connect: connection refused",
		Finished: time.Date(2026, 11, 22, 0, 9, 45, 546842221, time.UTC), Check: []string{"CMD-SHELL", "psql"}, Policy: "always", User: "999",
		Address: []string{"10.1.0.2", "fd00::2"}, Ports: []docker.Port{{Container: 8080, Protocol: "tcp", HostIP: "0.0.0.0", Host: 80}},
		Mounts: []docker.Mount{{Type: "volume", Volume: "vsanvol2", Driver: "vmdk", Target: "/data"}, {Type: "bind", Source: "/etc", Target: "/etc", ReadOnly: true}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := e.Container(t.Context(), "gone"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("a container that is not there: got %v, want ErrNotFound", err)
	}
	if got := e.Calls(); got != 3 {
		t.Errorf("got %d requests counted, want 3 with the greeting", got)
	}
}

// A Docker that was upgraded under us may no longer speak the version that was negotiated with the old one.
func TestNextDaemonIsGreetedAgain(t *testing.T) {
	version := "1.41"
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", version) })
	mux.HandleFunc("/v1.41/events", func(http.ResponseWriter, *http.Request) {}) // ends at once: the daemon is stopped
	mux.HandleFunc("/v1.45/containers/json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) })
	e := serve(t, mux)
	err := e.Events(t.Context(), "l", func() {}, func(docker.Event) {})
	if !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("events that end: got %v, want ErrUnavailable", err)
	}
	version = "1.45"
	if _, err := e.List(t.Context(), "l"); err != nil {
		t.Errorf("the next daemon: %v", err)
	}
}
