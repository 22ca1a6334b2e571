package stack_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// TestMain is also the child that tries to write.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "probe" {
		os.Exit(stack.ProbeMain(os.Args[2], os.Stdout))
	}
	os.Exit(m.Run())
}

// probeCommand returns a copy of this program that any user may run: the test's own directories are root's.
func probeCommand(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(open(t), "probe")
	text, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(file, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{file, "probe"}
}

// open returns a directory that every user can reach.
func open(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; strings.Contains(d, t.Name()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root, and CI skips nothing")
	}
	t.Skip("needs root: it becomes other users, and mounts")
}

// A health check says that all is well while not a byte can be written; only a try as the user who will write tells. Each reason is named, with its cure.
func TestWriteProbeNamesTheReason(t *testing.T) {
	needRoot(t)
	command := probeCommand(t)
	dir := open(t)
	full, readOnly, closed, own := filepath.Join(dir, "full"), filepath.Join(dir, "ro"), filepath.Join(dir, "closed"), filepath.Join(dir, "own")
	for _, d := range []string{full, readOnly, closed, own} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(own, 999, 999); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(dir, "root's", "data") // as Docker's volumes are, and the volume driver's mount points
	if err := errors.Join(os.MkdirAll(below, 0o755), os.Chown(below, 999, 999), os.Chmod(filepath.Dir(below), 0o700)); err != nil {
		t.Fatal(err)
	}
	mount(t, full, 0, "size=4k,mode=777")
	mount(t, readOnly, syscall.MS_RDONLY, "mode=777")
	for _, c := range []struct {
		dir       string
		want      mooring.Fact
		why, cure string
	}{
		{own, mooring.Yes, "", ""},
		{below, mooring.Yes, "", ""},
		{closed, mooring.No, "user 999, who writes there, may not write", "chown 999:999"},
		{full, mooring.No, "is full for user 999", "df -h"},
		{readOnly, mooring.No, "is read-only", "dmesg"},
		{filepath.Join(dir, "gone"), mooring.No, "is not there", "make it"},
	} {
		got := stack.TryWriting(t.Context(), command, c.dir, 999, 999)
		if got.Writable != c.want || !strings.Contains(got.Why, c.why) || !strings.Contains(got.Cure, c.cure) {
			t.Errorf("%s: got %+v, want %s, %q, %q", c.dir, got, c.want, c.why, c.cure)
		}
	}
	for _, d := range []string{own, full} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			t.Errorf("%s: the probe left %v, %v", d, left, err)
		}
	}
	if got := stack.TryWriting(t.Context(), []string{"/nowhere"}, own, 999, 999); got.Writable != mooring.Unknown || got.Why == "" {
		t.Errorf("a probe that cannot run: got %+v, want unknown, and why", got)
	}
}

// A child that is not given a processor says nothing of the storage: after a failover, with everything starting at once, a minute may pass. One that has begun to write and does not end does.
func TestAStarvedWriteProbeIsNoStalledStorage(t *testing.T) {
	script := filepath.Join(t.TempDir(), "probe")
	write := func(text string) {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+text+"exec sleep 60\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const short, long = 200 * time.Millisecond, time.Minute
	write("")
	if got := stack.TryWithin(t.Context(), short, long, []string{script}, t.TempDir()); got.Writable != mooring.Unknown || !strings.Contains(got.Why, "has not begun in 200ms") {
		t.Errorf("a child that does not begin: got %+v, want unknown", got)
	}
	write("sleep 5 &\n") // which a kill of its parent leaves, with the pipe
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	ended := time.Now()
	if got := stack.TryWithin(ctx, long, long, []string{script}, t.TempDir()); got.Writable != mooring.Unknown || time.Since(ended) > 3*time.Second {
		t.Errorf("at the end of the supervisor: got %+v after %s, want unknown, at once", got, time.Since(ended))
	}
	write("echo begun\n")
	if got := stack.TryWithin(t.Context(), long, short, []string{script}, t.TempDir()); got.Writable != mooring.No || !strings.Contains(got.Why, "has not ended in 200ms") {
		t.Errorf("a child that does not end: got %+v, want no", got)
	}
}

// The probe must not change what the directory's own users see: a database that finds a file that it does not know may refuse to begin.
func TestWriteProbeLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if code := stack.ProbeMain(dir, io.Discard); code != 0 {
		t.Fatalf("got exit code %d: %v", code, syscall.Errno(code))
	}
	after, err := os.Stat(dir)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the directory was changed at %s, before at %s (%v)", after.ModTime(), before.ModTime(), err)
	}
}

// What lies below a directory that must be a mount point is out of everybody's reach until it is one, and then it is left alone.
func TestUnmountedDirectoryIsGuarded(t *testing.T) {
	needRoot(t)
	disk := loopDisk(t)
	dir := filepath.Join(disk, "data")
	if err := guard(t, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
		t.Error("an unmounted directory could be written")
	}
	if got := stack.TryWriting(t.Context(), probeCommand(t), dir, 0, 0); got.Writable != mooring.No || !strings.Contains(got.Why, "immutable") {
		t.Errorf("probe of it: got %+v, want no, because it is immutable", got)
	}
	mount(t, dir, 0, "mode=777")
	if err := guard(t, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Errorf("what is mounted there cannot be written: %v", err)
	}
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
		t.Error("after the unmount the directory could be written")
	}
	if out, err := exec.Command("chattr", "-i", dir).CombinedOutput(); err != nil {
		t.Errorf("chattr: %v: %s", err, out)
	}
}

func guard(t *testing.T, dir string) error {
	t.Helper()
	mounted, err := stack.Mountpoints()
	if err != nil {
		t.Fatal(err)
	}
	return stack.Guard(dir, mounted)
}

func mount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatalf("mount on %s: %v", dir, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// loopDisk returns a directory with a filesystem that knows immutable directories, which a temporary directory may not.
func loopDisk(t *testing.T) string {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "disk"), open(t)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"truncate", "-s", "16M", file}, {"mkfs.ext4", "-q", "-F", file}, {"mount", "-o", "loop", file, dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-d", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}
