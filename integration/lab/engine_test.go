package lab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
)

// An installed engine that does not run is started and stopped; one that runs is used and left alone.
func TestEngineIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts dockerd")
	}
	dir, err := os.MkdirTemp("", "eng") //nolint:usetesting // its name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	opts := lab.EngineOptions{Host: "unix://" + filepath.Join(dir, "d.sock"), Dir: dir, Args: []string{
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs",
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	first, err := lab.UseEngine(ctx, opts)
	if errors.Is(err, lab.ErrNoEngine) {
		t.Skip("needs dockerd")
	}
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "dockerd.log"))
		t.Fatalf("%v\n%s", err, text)
	}
	if !first.Ours() {
		t.Fatal("the engine that was started is not ours")
	}
	second, err := lab.UseEngine(ctx, opts)
	if err != nil || second.Ours() {
		t.Fatalf("got %+v, %v, want the engine that runs, not ours", second, err)
	}
	if err := second.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if users, err := first.VolumeUsers(ctx); err != nil || len(users) != 0 {
		t.Fatalf("after the other user has left: got %v, %v, want an answer", users, err)
	}
	if err := first.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := first.VolumeUsers(ctx); err == nil {
		t.Fatal("the engine that we started still answers")
	}
}

// An engine elsewhere is not ours to start.
func TestEngineElsewhereIsNotStarted(t *testing.T) {
	t.Parallel()
	_, err := lab.UseEngine(t.Context(), lab.EngineOptions{Host: "tcp://127.0.0.1:1", Dir: t.TempDir()})
	if !errors.Is(err, mooring.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
}
