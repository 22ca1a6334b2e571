//go:build machines

package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/control"
)

// machinesOf returns the process IDs of the QEMUs whose disks are in the directory.
func machinesOf(t *testing.T, dir string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte("qemu-system")) || !bytes.Contains(line, []byte(dir+"/")) {
			continue // some have just ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, pid)
	}
	return out
}

// until waits until the condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// A lab of machines as a person uses it from a shell, and what is left of it when it is killed, and when it is taken down.
func TestMachinesFromTheCommandLine(t *testing.T) {
	needRoot(t)
	dir := state(t)
	up := []string{"up", "--state", dir, "--guest", "qemu", "--vms", "1", "--time-scale", "10"}
	status, out, errs := run(t, up...)
	if status != 0 || !strings.Contains(out, "export GOVC_URL=") || !strings.Contains(errs, "docker1 has booted") {
		t.Fatalf("up: got status %d, %q, %q, want the variables and the steps", status, out, errs)
	}
	t.Cleanup(func() {
		if s, _, errs := run(t, "down", "--state", dir); s != 0 && s != 10 {
			t.Errorf("down: %s", errs)
		}
	})
	c, stdout, stderr := command(t, "vm", "exec", "docker1", "--state", dir, "--", "sh", "-c", "cat; echo bad >&2; exit 7")
	c.Stdin = strings.NewReader("typed\n")
	_ = c.Run() // its status is looked at
	if got := c.ProcessState.ExitCode(); got != 7 || stdout.String() != "typed\n" || stderr.String() != "bad\n" {
		t.Errorf("vm exec: got status %d, %q, %q, want 7 and both streams", got, stdout, stderr)
	}
	if status, out, _ := run(t, "vm", "ls", "--state", dir); status != 0 || !strings.Contains(out, "up      trixie   10.77.0.1") {
		t.Errorf("vm ls: got status %d, %q, want docker1 up", status, out)
	}
	if status, out, _ := run(t, "vm", "console", "docker1", "--state", dir); status != 0 || !strings.Contains(out, "=== docker1 powered on") {
		t.Errorf("vm console: got status %d, %q, want that it was powered on", status, out)
	}
	st, err := control.Dial(dir).Status(t.Context())
	if err != nil || len(machinesOf(t, dir)) != 1 {
		t.Fatalf("got %v, QEMUs %v, want one", err, machinesOf(t, dir))
	}
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the machines of a killed lab to end", func() bool { return len(machinesOf(t, dir)) == 0 })

	interrupted(t, up, dir)

	if status, _, errs := run(t, up...); status != 0 {
		t.Fatalf("up after a kill and an interrupt: got status %d, %s", status, errs)
	}
	if status, _, errs := run(t, "down", "--state", dir); status != 0 || errs != "" {
		t.Errorf("down: got status %d, %q, want nothing to be said", status, errs)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if want := []string{filepath.Join(dir, "lab.log"), filepath.Join(dir, "mooring-lab.lock")}; err != nil || strings.Join(left, " ") != strings.Join(want, " ") {
		t.Errorf("got files %v, %v, want %v", left, err, want)
	}
}

// interrupted interrupts up while the machine boots.
func interrupted(t *testing.T, up []string, dir string) {
	t.Helper()
	c, _, errs := command(t, up...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "a machine to be powered on", func() bool { return len(machinesOf(t, dir)) == 1 })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // its status is looked at
	if got := c.ProcessState.ExitCode(); got != 130 {
		t.Errorf("interrupted up: got status %d, %s, want 130", got, errs)
	}
	if left := machinesOf(t, dir); len(left) != 0 {
		t.Errorf("interrupted up: QEMUs %v are left", left)
	}
}
