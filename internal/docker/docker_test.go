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
