package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring/internal/durable"
)

var errStop = errors.New("stopped by the test")

// steps lists the steps in their order.
func steps() []durable.Step {
	return []durable.Step{durable.Create, durable.Write, durable.Sync, durable.Rename, durable.SyncDir}
}

// stopAfter returns a hook that stops the writer after the step, as a kill would.
func stopAfter(step durable.Step) durable.Hook {
	return func(done durable.Step) error {
		if done == step {
			return errStop
		}
		return nil
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, data string, hook ...durable.Hook) {
	t.Helper()
	if err := durable.WriteFile(path, []byte(data), 0o600, hook...); err != nil {
		t.Fatal(err)
	}
}

// A reader after a crash must find the old content or the new one: never none, never a half.
func TestWriterStoppedAfterAnyStepLeavesOldOrNew(t *testing.T) {
	want := map[durable.Step]string{
		durable.Create: "old", durable.Write: "old", durable.Sync: "old", durable.Rename: "new", durable.SyncDir: "new",
	}
	for _, step := range steps() {
		t.Run(string(step), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, "old")
			err := durable.WriteFile(path, []byte("new"), 0o600, stopAfter(step))
			if !errors.Is(err, errStop) || !strings.Contains(err.Error(), string(step)) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want one that names the step %q and the file, and wraps its cause", err, step)
			}
			if got := read(t, path); got != want[step] {
				t.Errorf("after a stop at %q: got %q, want %q", step, got, want[step])
			}
			write(t, path, "next")
			if got := read(t, path); got != "next" {
				t.Errorf("next write: got %q", got)
			}
			left, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(left) != 1 {
				t.Errorf("leftovers of the stopped writer: %v, %v", left, err)
			}
		})
	}
}

// The hook's error stands for a kill; this test kills for real, so that nothing rests on the hook being honest.
func TestWriterKilledAfterAnyStepLeavesOldOrNew(t *testing.T) {
	if path := os.Getenv("DURABLE_TEST_PATH"); path != "" {
		_ = durable.WriteFile(path, []byte("new"), 0o600, func(done durable.Step) error {
			if string(done) == os.Getenv("DURABLE_TEST_STEP") {
				return syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
			return nil
		})
		return
	}
	for _, step := range steps() {
		t.Run(string(step), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, "old")
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriterKilledAfterAnyStepLeavesOldOrNew$")
			cmd.Env = append(os.Environ(), "DURABLE_TEST_PATH="+path, "DURABLE_TEST_STEP="+string(step))
			err := cmd.Run()
			exit := new(exec.ExitError)
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the writer ended with %v, want a kill", err)
			}
			if got := read(t, path); got != "old" && got != "new" {
				t.Errorf("got %q, want old or new", got)
			}
			write(t, path, "next")
			if got := read(t, path); got != "next" {
				t.Errorf("next write: got %q", got)
			}
		})
	}
}

// Steps are done in this order, each once: a sync after the rename would leave a name without its content.
func TestStepsComeInOrder(t *testing.T) {
	var got []string
	write(t, filepath.Join(t.TempDir(), "file"), "x", func(done durable.Step) error {
		got = append(got, string(done))
		return nil
	})
	if want := "create, write, sync, rename, sync directory"; strings.Join(got, ", ") != want {
		t.Errorf("steps: got %v, want %s", got, want)
	}
}

// A step that fails (here: the rename onto a directory) takes its temporary file away.
func TestFailedWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("new"), 0o600); err == nil {
		t.Fatal("no error where the name is a directory's")
	}
	if _, err := os.Stat(durable.TempFile(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("temporary file: %v, want none", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "none", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v, want ErrNotExist", err)
	}
}

// The mode is exactly what was asked for, whatever the umask and the old file's mode.
func TestModeIsExact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, perm := range []fs.FileMode{0o600, 0o666, 0o644} {
		if err := durable.WriteFile(path, nil, perm); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != perm {
			t.Errorf("mode: got %v, %v, want %v", fi.Mode(), err, perm)
		}
	}
}

// Any content, after any sequence of stopped and finished writers, is read back as one of those that were written last.
func TestContentIsAlwaysOneThatWasWritten(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, rapid.StringMatching(`[a-z]{8}`).Draw(t, "name"))
		if err := durable.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		now := ""
		for range rapid.IntRange(1, 8).Draw(t, "writes") {
			next := string(rapid.SliceOfN(rapid.Byte(), 0, 1<<12).Draw(t, "content"))
			step := rapid.SampledFrom(append(steps(), "")).Draw(t, "stop after")
			err := durable.WriteFile(path, []byte(next), 0o600, stopAfter(step))
			if (err != nil) != (step != "") {
				t.Fatalf("stop after %q: %v", step, err)
			}
			if step == "" || step == durable.Rename || step == durable.SyncDir {
				now = next
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != now {
				t.Fatalf("got %q, %v, want %q", got, err, now)
			}
		}
	})
}
