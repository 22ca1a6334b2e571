package ledger_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/internal/ledger"
)

var errStop = errors.New("stopped by the test")

// steps lists the steps of a commit in their order.
func steps() []durable.Step {
	return []durable.Step{durable.Create, durable.Write, durable.Sync, durable.Rename, durable.SyncDir}
}

// A commit that fails must leave memory and files as they were, and the next one must succeed.
func TestFailedCommitChangesNothing(t *testing.T) {
	for _, step := range steps() {
		t.Run(string(step), func(t *testing.T) {
			var stop durable.Step
			dir := t.TempDir()
			l, err := ledger.OpenHooked(dir, func(done durable.Step) error {
				if done == stop {
					return errStop
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			put(t, l, record("db"))
			stop = step
			for range 3 { // each goes for the same, older file: the newer one stays
				if err := l.Put(record("web")); !errors.Is(err, errStop) {
					t.Fatalf("put: %v, want %v", err, errStop)
				}
			}
			wantNames(t, l, "db")
			stop = ""
			// Nothing new for the memory; but after a failure behind the rename the file may hold more, and is written again.
			put(t, l, record("db"))
			closeLedger(t, l)
			l = open(t, dir)
			wantNames(t, l, "db")
			if l.Behind() {
				t.Error("behind, though both files are whole")
			}
		})
	}
}

// A ledger killed after any step of any commit opens with what was acknowledged, and perhaps with what was about to be.
func TestKilledAtAnyStepKeepsWhatWasAcknowledged(t *testing.T) {
	for commits := range 3 {
		for _, step := range steps() {
			t.Run(strconv.Itoa(commits)+" then "+string(step), func(t *testing.T) {
				dir := t.TempDir()
				armed := false
				l, err := ledger.OpenHooked(dir, func(done durable.Step) error {
					if armed && done == step {
						return errStop
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				for i := range commits {
					put(t, l, record("vol"+strconv.Itoa(i)))
				}
				armed = true
				if err := l.Put(record("last")); !errors.Is(err, errStop) {
					t.Fatal(err)
				}
				closeLedger(t, l) // as the kernel closes the lock of a killed process
				l = open(t, dir)
				for i := range commits {
					if _, err := l.Find(mooring.Name("vol" + strconv.Itoa(i))); err != nil {
						t.Errorf("acknowledged and lost: %v", err)
					}
				}
				if l.Behind() {
					t.Error("a kill alone leaves both files whole")
				}
			})
		}
	}
}

// On a full disk the ledger says so, and goes on answering and, once there is room, recording.
func TestFullDiskIsAnErrorAndNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("needs root, to mount a small tmpfs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	l := open(t, filepath.Join(dir, "ledger"))
	put(t, l, record("db"))
	big := record("big")
	big.Volume.Labels = map[string]string{"text": strings.Repeat("x", 1<<16)}
	if err := l.Put(big); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("put: %v, want ENOSPC", err)
	}
	wantNames(t, l, "db")
	put(t, l, record("web"))
	closeLedger(t, l)
	l = open(t, filepath.Join(dir, "ledger"))
	wantNames(t, l, "db", "web")
	closeLedger(t, l)
}

// Two plugins on one ledger would each undo the other's commits.
func TestSecondProcessIsRefusedAndNamesTheFirst(t *testing.T) {
	if dir := os.Getenv("LEDGER_TEST_DIR"); dir != "" {
		l, err := ledger.Open(dir)
		if err == nil {
			err = l.Put(record("child"))
		}
		_, werr := os.Stdout.WriteString(strings.ReplaceAll(errorText(err), "\n", " ") + "\n")
		if werr != nil || err != nil {
			os.Exit(1)
		}
		_ = syscall.Pause() // until it is killed, with the lock held
		os.Exit(1)
	}
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecondProcessIsRefusedAndNamesTheFirst$")
	child.Env = append(os.Environ(), "LEDGER_TEST_DIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "none" {
		t.Fatalf("the child's open: %q", lines.Text())
	}
	_, err = ledger.Open(dir)
	if want := "process " + strconv.Itoa(child.Process.Pid); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("error: %v, want ErrInUse naming %s", err, want)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	wantNames(t, open(t, dir), "child")
}

func errorText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}
