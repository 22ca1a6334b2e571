package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	main "github.com/mooring-sh/mooring/cmd/mooring-lab"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/control"
)

// asMain makes this test's binary the command itself.
const asMain = "MOORING_LAB_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		os.Exit(main.Execute(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// command returns the command with arguments, in an environment without other labs.
func command(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	c := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...) // also for cleaning up
	c.Env = append(os.Environ(), asMain+"=1", "MOORING_LAB_STATE=", "DOCKER_HOST=", "TMPDIR="+state(t))
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	return c, &out, &errs
}

// run runs the command and returns its exit status.
func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	c, out, errs := command(t, args...)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes links to loop devices")
	}
}

// state returns a directory whose name is short enough for sockets.
func state(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab") //nolint:usetesting // its name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// The exit status of run is the command's, so that a lab can stand in a script or a CI job.
func TestRunReturnsTheStatusOfTheCommand(t *testing.T) {
	t.Parallel()
	needRoot(t)
	status, out, errs := run(t, "run", "--no-plugin", "--no-engine", "--", "sh", "-c",
		`test -n "$GOVC_PASSWORD" && test -f "$GOVC_TLS_CA_CERTS" && echo "$GOVC_URL"; exit 7`)
	if status != 7 || !strings.HasPrefix(out, "https://127.0.0.1:") {
		t.Fatalf("got status %d, output %q, %s; want 7 and the URL", status, out, errs)
	}
}

// A command that ends well leaves no trace, not even a log.
func TestRunLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	status, out, errs := run(t, "run", "--no-plugin", "--no-engine", "--", "sh", "-c", `echo "$MOORING_LAB_STATE"`)
	if status != 0 {
		t.Fatalf("got status %d: %s", status, errs)
	}
	if _, err := os.Stat(strings.TrimSpace(out)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("state directory %s: got %v, want it gone", out, err)
	}
}

// A run that cannot begin leaves no trace, for there is no log that would say more than it has said.
func TestRunThatCannotBeginLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tmp := state(t)
	c, _, errs := command(t, "run", "--guest", "qemu", "--", "true")
	c.Env = append(c.Env, "TMPDIR="+tmp, "PATH="+tmp)
	_ = c.Run() // its status is looked at
	left, err := os.ReadDir(tmp)
	if got := c.ProcessState.ExitCode(); got != 10 || !strings.Contains(errs.String(), "hint: apt-get install qemu-system-x86") || err != nil || len(left) != 0 {
		t.Errorf("got status %d, %q, files %v, %v, want 10, the cure, nothing", got, errs, left, err)
	}
}

// An interrupted run takes everything down, after the command has ended.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := state(t)
	c, out, errs := command(t, "run", "--state", dir, "--no-plugin", "--no-engine", "--", "sh", "-c", `trap 'echo told; exit 130' INT; kill -INT $PPID; while :; do :; done`)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	_ = c.Wait()
	if got := c.ProcessState.ExitCode(); got != 130 || out.String() != "told\n" {
		t.Fatalf("got status %d, output %q, %s; want 130 and that the command was told", got, out, errs)
	}
	if _, err := os.Stat(control.Socket(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("control socket: got %v, want it gone", err)
	}
}

// The commands that a person types at a lab that is up.
func TestBackgroundLab(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := state(t)
	up := []string{"up", "--state", dir, "--no-plugin", "--no-engine"}
	status, out, errs := run(t, up...)
	if status != 0 || !strings.Contains(out, "export GOVC_URL='https://127.0.0.1:") || !strings.Contains(out, "GOVC_TLS_CA_CERTS") {
		t.Fatalf("up: got status %d, %q, %s", status, out, errs)
	}
	t.Cleanup(func() {
		if s, _, errs := run(t, "down", "--state", dir); s != 0 && s != 10 {
			t.Errorf("down: %s", errs)
		}
	})
	if status, _, errs := run(t, up...); status != 12 || !strings.Contains(errs, "already") {
		t.Errorf("up twice: got status %d, %s, want 12", status, errs)
	}
	show := func() (s control.Status) {
		t.Helper()
		status, out, errs := run(t, "status", "--state", dir, "-o", "json")
		if err := json.Unmarshal([]byte(out), &s); err != nil || status != 0 {
			t.Fatalf("status: %d, %v: %s %s", status, err, out, errs)
		}
		return s
	}
	pid := show().PID
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"vcenter", "stop"}, 0},
		{[]string{"vcenter", "start"}, 0},
		{[]string{"vcenter", "hang"}, 0},
		{[]string{"vcenter", "delay", "ReconfigVM_Task", "3s"}, 0},
		{[]string{"vcenter", "delay", "ReconfigVM_Task", "soon"}, 2},
		{[]string{"vcenter", "delay", "ReconfigVM_Task"}, 2},
		{[]string{"vcenter", "fail", "ReconfigVM_Task", "FileLocked", "2"}, 0},
		{[]string{"vcenter", "fail", "ReconfigVM_Task", "FileLocked", "none"}, 2},
		{[]string{"vcenter", "fail", "ReconfigVM_Task", "Nonsense"}, 2},
		{[]string{"vm", "poweroff", lab.OtherVM}, 0},
		{[]string{"vm", "poweroff", "nobody"}, 10},
		{[]string{"vm", "poweroff"}, 2},
		{[]string{"vm", "freeze", lab.ThisVM}, 2},
		{[]string{"vm", "console", lab.ThisVM}, 2},
		{[]string{"drill", lab.ThisVM}, 2},
		{[]string{"host", "maintenance", "esx3.lab"}, 0},
		{[]string{"host", "maintenance", "esx3.lab", "off"}, 0},
		{[]string{"host", "maintenance", "esx3.lab", "perhaps"}, 2},
		{[]string{"host", "maintenance", "esx3.lab", "off", "now"}, 2},
		{[]string{"host", "kill", "nowhere"}, 10},
		{[]string{"plugin", "kill"}, 2}, // there is none
	} {
		if status, _, errs := run(t, append(c.args, "--state", dir)...); status != c.want {
			t.Errorf("%v: got status %d, %s, want %d", c.args, status, errs, c.want)
		}
	}
	if s := show(); s.VCenter != "hanging" || s.Delays["ReconfigVM_Task"] != 3*time.Second || s.Machines[1].PoweredOn {
		t.Errorf("got %+v, want it hanging, with a delay, the second machine off", s)
	}
	if _, out, _ := run(t, "status", "--state", dir); !strings.Contains(out, "docker1") || !strings.Contains(out, "Hard disk 1") {
		t.Errorf("status: got %q, want a table of machines and disks", out)
	}
	for _, c := range []struct{ args, want []string }{
		{[]string{"vm", "ls"}, []string{"docker1   esx1.lab   on", "docker2   esx2.lab   off"}},
		{[]string{"host", "ls"}, []string{"esx3.lab   connected   poweredOn"}},
		{[]string{"disk", "ls"}, []string{"docker2   off     Hard disk 1   16gb"}},
		{[]string{"events"}, []string{"VmPoweredOffEvent"}},
		{[]string{"vm", "ls", "-o", "json"}, []string{`"poweredOn": false`}},
		{[]string{"host", "ls", "-o", "json"}, []string{`"state": "connected"`}},
		{[]string{"disk", "ls", "-o", "json"}, []string{`"vm": "docker2"`}},
		{[]string{"events", "-o", "json"}, []string{`"type": "VmPoweredOffEvent"`}},
	} {
		status, out, errs := run(t, append(c.args, "--state", dir)...)
		for _, want := range c.want {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("%v: got status %d, %s%s, want %q in it", c.args, status, out, errs, want)
			}
		}
	}
	if status, _, errs := run(t, "vm", "exec", lab.ThisVM, "--state", dir, "--", "true"); status != 2 || !strings.Contains(errs, "--guest qemu") {
		t.Errorf("vm exec in this machine: got status %d, %q, want 2 and the cure", status, errs)
	}
	if status, _, errs := run(t, "down", "--state", dir); status != 0 {
		t.Fatalf("down: got status %d, %s", status, errs)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: got %v, want it gone", pid, err)
	}
	if status, _, _ := run(t, "down", "--state", dir); status != 10 {
		t.Errorf("down twice: got status %d, want 10", status)
	}
}

// A plugin that cannot be started takes the lab down with it, and the reason reaches the person.
func TestFailedUpSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := state(t)
	socket := filepath.Join(dir, "p.sock")
	status, _, errs := run(t, "up", "--state", dir, "--no-engine", "--plugin", filepath.Join(dir, "nothing"), "--plugin-socket", socket, "--admin-socket", filepath.Join(dir, "a.sock"))
	if status == 0 || !strings.Contains(errs, "nothing") {
		t.Fatalf("got status %d, %q, want that the plugin is not there", status, errs)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: got %v, want it gone", err)
	}
}

// What is called wrongly changes nothing and says what is right.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"run"}, {"up", "--nonsense"}, {"status", "--state", state(t), "-o", "xml"}} {
		if status, _, errs := run(t, args...); status != 2 || errs == "" {
			t.Errorf("%v: got status %d, %q, want 2 and a reason", args, status, errs)
		}
	}
	if status, _, _ := run(t, "status", "--state", state(t)); status != 75 {
		t.Errorf("status without a lab: got status %d, want 75", status)
	}
}

// Whoever is not root is told, before anything is made.
func TestNeedsRoot(t *testing.T) {
	t.Parallel()
	dir := state(t)
	for _, args := range [][]string{{"up", "--state", dir}, {"run", "--state", dir, "--", "true"}} {
		c, _, errs := command(t, args...)
		if os.Geteuid() == 0 {
			asNobody(t, c, dir)
		}
		_ = c.Run() // that it fails is looked at
		status := c.ProcessState.ExitCode()
		if left, err := os.ReadDir(dir); status != 2 || !strings.Contains(errs.String(), "sudo mooring-lab") || err != nil || len(left) != 0 {
			t.Errorf("%v: got status %d, %q, files %v, want 2, the cure, nothing", args, status, errs, left)
		}
	}
}

// asNobody has the command run by an ordinary user, who may write to dir, from a copy of the binary that he may read.
func asNobody(t *testing.T, c *exec.Cmd, dir string) {
	t.Helper()
	const nobody = 65534
	binary, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	place := state(t)
	c.Path = filepath.Join(place, "mooring-lab")
	if err := errors.Join(os.WriteFile(c.Path, binary, 0o755), os.Chmod(place, 0o755), os.Chown(dir, nobody, nobody)); err != nil { //nolint:gosec // he executes it
		t.Fatal(err)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// Flags that go with the other kind of guest are refused, all at once and with the cure, before anything is made.
func TestFlagsOfTheOtherGuestAreRefused(t *testing.T) {
	t.Parallel()
	dir := state(t)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--vms", "3", "--time-scale", "10"}, []string{"--vms goes with --guest qemu only", "--time-scale goes", "hint: mooring-lab up --guest qemu"}},
		{[]string{"--guest", "qemu", "--no-plugin"}, []string{"--no-plugin goes with --guest local only", "hint: mooring-lab up --guest local"}},
		{[]string{"--guest", "vmware"}, []string{`--guest "vmware": allowed are local and qemu`}},
		{[]string{"--guest", "qemu", "--vms", "0", "--hosts", "2", "--debian", "trixie,sid"}, []string{"--vms 0: allowed are 1 to 16", "--hosts 2: allowed are 3 to 16", `"sid": allowed are trixie and bookworm`}},
		{[]string{"--guest", "qemu", "--package", "nothing.deb"}, []string{"--package nothing.deb: want a Debian package"}},
	} {
		status, _, errs := run(t, append([]string{"up", "--state", dir}, c.args...)...)
		for _, want := range c.want {
			if status != 2 || !strings.Contains(errs, want) {
				t.Errorf("%v: got status %d, %q, want 2 and %q", c.args, status, errs, want)
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("got files %v, %v, want none", left, err)
	}
}
