package image_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/image"
)

// An interrupted build must leave no mounts and no processes: what they hold could not be removed.
func TestWhatABuildMountsAndStartsEndsWithIt(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and CI skips nothing")
		}
		t.Skip("needs root: it mounts a filesystem")
	}
	dir := t.TempDir()
	tree, pipe := filepath.Join(dir, "tree"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Mkdir(tree, 0o700), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- image.Apart(ctx, "sh", "-c", `mount -t tmpfs tmpfs "$1" && exec 7>"$2" && echo mounted >&7 && { sleep 600 & wait; }`, "sh", tree, pipe)
	}()
	r, err := os.Open(pipe) // waits for the script
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, make([]byte, len("mounted\n"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want %v", err, context.Canceled)
	}
	if _, err := io.ReadAll(r); err != nil { // returns when no process has the pipe any more
		t.Error(err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), tree) {
		t.Errorf("%v, mounts:\n%s\nwant none at %s", err, mounts, tree)
	}
}

// Whoever starts a lab on a machine that is not Debian must be told what to install, all at once.
func TestMissingCommandsAreNamedWithTheirPackages(t *testing.T) {
	t.Parallel()
	err := image.Check(t.TempDir())
	for _, want := range []string{"debootstrap", "qemu-system-x86_64", "package qemu-system-x86 ", "package e2fsprogs "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want that it names %s", err, want)
		}
	}
}
