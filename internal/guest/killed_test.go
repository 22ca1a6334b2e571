package guest_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

// TestMain lets this program stand in for mkfs: called by that name, it runs the real one and kills it at a chosen system call.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); strings.HasPrefix(name, "mkfs.") {
		calls, err := killAtCall(os.Getenv("GUEST_TEST_MKFS"), os.Args[1:], os.Getenv("GUEST_TEST_KILL_AT"))
		if err == nil {
			err = os.WriteFile(os.Getenv("GUEST_TEST_CALLS"), []byte(strconv.Itoa(calls)), 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "stand-in for mkfs:", err)
			os.Exit(99)
		}
		if os.Getenv("GUEST_TEST_KILL_AT") != "" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // ends as the real one did
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killAtCall runs the program, counts when it enters and leaves system calls, and kills it at the one whose number is given. It returns
// how many there were.
func killAtCall(path string, args []string, at string) (calls int, err error) {
	stop := -1
	if at != "" {
		if stop, err = strconv.Atoi(at); err != nil {
			return 0, err
		}
	}
	runtime.LockOSThread() // ptrace is a thread's business
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil { // at its exec
		return 0, err
	}
	if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACESYSGOOD); err != nil {
		return 0, err
	}
	for signal := 0; ; {
		if calls == stop {
			err := syscall.Kill(pid, syscall.SIGKILL)
			_, werr := syscall.Wait4(pid, &ws, 0, nil)
			return calls, errors.Join(err, werr)
		}
		if err := syscall.PtraceSyscall(pid, signal); err != nil {
			return calls, err
		}
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
			return calls, err
		}
		signal = 0
		switch {
		case ws.Exited() && ws.ExitStatus() == 0:
			return calls, nil
		case !ws.Stopped():
			return calls, fmt.Errorf("%s ended with %v", path, ws)
		case ws.StopSignal() == syscall.SIGTRAP|0x80:
			calls++
		default:
			signal = int(ws.StopSignal())
		}
	}
}

// standIn puts this program in PATH as mkfs of that filesystem, to be killed at a call; none if at is empty. It returns the file in
// which the stand-in leaves the number of calls.
func standIn(t *testing.T, fs mooring.FSType, at string) string {
	t.Helper()
	name := "mkfs." + string(fs)
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	calls := filepath.Join(dir, "calls")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("GUEST_TEST_MKFS", path)
	t.Setenv("GUEST_TEST_KILL_AT", at)
	t.Setenv("GUEST_TEST_CALLS", calls)
	return calls
}

// A host that dies while a volume is being formatted must not leave a volume that can never be used: the next Open finishes the work,
// whatever bytes mkfs has left. Nobody has had the filesystem yet, so that nothing can be lost.
func TestMkfsKilledAtAnyMomentIsFinishedByTheNextOpen(t *testing.T) {
	needRoot(t)
	points, tail := 30, 12
	if testing.Short() {
		points = 8
	}
	for _, fs := range mooring.FSTypes() {
		calls := callsOf(t, fs)
		left := make(map[guest.Kind]int)
		for i := range points + tail {
			// Evenly over the run, and then each of the last calls: mkfs.ext4 writes its signature with one of those.
			at := calls * i / points
			if i >= points {
				at = calls - 1 - (i - points)
			}
			t.Run(fmt.Sprintf("%s at call %d of %d", fs, at, calls), func(t *testing.T) { left[killAndFinish(t, fs, at)]++ })
		}
		// Or the points were not where it matters.
		if left[guest.Nothing] == 0 || left[guest.Filesystem] == 0 {
			t.Errorf("%s left nothing %d times, bytes %d times, a signature %d times; want some of the first and the last",
				fs, left[guest.Nothing], left[guest.Unexplained], left[guest.Filesystem])
		}
	}
}

// callsOf counts the calls of a whole mkfs, and shows that one under the stand-in succeeds.
func callsOf(t *testing.T, fs mooring.FSType) (calls int) {
	t.Helper()
	t.Run("count calls of "+string(fs), func(t *testing.T) {
		m := newMachine(t)
		d := m.newDisk(t, "db", fs)
		file := standIn(t, fs, "")
		m.wantData(t, d, m.mustOpen(t, d))
		n, err := strconv.Atoi(read(t, file))
		if err != nil || n < 50 {
			t.Fatalf("%s made %d calls, %v", fs, n, err)
		}
		calls = n
	})
	return calls
}

// killAndFinish returns what the killed mkfs left.
func killAndFinish(t *testing.T, fs mooring.FSType, at int) guest.Kind {
	t.Helper()
	m := newMachine(t)
	d := m.newDisk(t, "db", fs)
	path := os.Getenv("PATH")
	standIn(t, fs, strconv.Itoa(at))
	if _, _, err := m.open(t, d); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("open with a killed mkfs: %v, want an error that says so", err)
	}
	m.wantUnmounted(t, d)
	if d.Format != mooring.Formatting {
		t.Fatalf("the sidecar says %q, want formatting", d.Format)
	}
	t.Setenv("PATH", path)
	c, err := m.Probe(t.Context(), d.dev)
	if err != nil {
		t.Fatal(err)
	}
	o := m.mustOpen(t, d)
	m.wantData(t, d, o)
	if entries, err := os.ReadDir(o.Dir); err != nil || len(entries) != 0 || d.Format != mooring.FormatDone {
		t.Errorf("volume holds %v, %v, its sidecar says %q; want nothing, done", entries, err, d.Format)
	}
	m.mustClose(t, d)
	if fs == mooring.Ext4 {
		sh(t, "e2fsck", "-f", "-n", d.dev)
	} else {
		sh(t, "xfs_repair", "-n", d.dev)
	}
	return c.Kind
}

// The plugin can be killed between the steps, too: what it leaves mounted without a mark was nobody's yet.
func TestPluginKilledBeforeTheMarkStartsAnew(t *testing.T) {
	for _, fs := range mooring.FSTypes() {
		for _, leave := range []string{"nothing", mooring.DataDir, "lost"} {
			t.Run(string(fs)+" with "+leave+" inside", func(t *testing.T) {
				m := newMachine(t)
				d := m.newDisk(t, "db", fs)
				d.Format = mooring.Formatting
				command, err := mkfsOf(d)
				if err != nil {
					t.Fatal(err)
				}
				sh(t, command[0], command[1:]...)
				mount(t, d.dev, m.dir(d), string(fs))
				if leave != "nothing" {
					if err := os.Mkdir(filepath.Join(m.dir(d), leave), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				o := m.mustOpen(t, d)
				m.wantData(t, d, o)
				if _, err := os.Stat(filepath.Join(m.dir(d), "lost")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the filesystem was not made anew: %v", err)
				}
			})
		}
	}
}

func mkfsOf(d *disk) ([]string, error) {
	switch d.FSType {
	case mooring.Ext4:
		return []string{"mkfs.ext4", "-q", "-U", string(d.FSUUID), d.dev}, nil
	case mooring.XFS:
		return []string{"mkfs.xfs", "-q", "-m", "uuid=" + string(d.FSUUID), d.dev}, nil
	default:
		return nil, mooring.ErrInvalid
	}
}
