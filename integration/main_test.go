package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// insideEnv is set in the process that runs the tests inside namespaces of their own.
const insideEnv = "MOORING_TEST_NAMESPACES"

// TestMain runs the tests, as root, in mount, network and process namespaces of their own, so that they may kill dockerd and
// mount what they like beside anything that runs on this machine. What is unmounted there is unmounted here too, or this copy would keep its device
// busy. Whatever the tests leave behind dies with the namespaces.
func TestMain(m *testing.M) {
	switch {
	case os.Geteuid() != 0:
		os.Exit(m.Run())
	case os.Getenv(insideEnv) == "":
		os.Exit(reexecute())
	default:
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "furnish the namespaces:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// reexecute runs this test binary again in new namespaces and returns its exit code. The shell between is the namespace's init: it
// reaps what dockerd and its containers leave.
func reexecute() int {
	args := []string{
		"--mount", "--propagation=slave", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"sh", "-c", `"$@"; exit $?`, "sh",
	}
	cmd := exec.Command("unshare", append(args, os.Args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "unshare:", err)
		return 1
	}
	return 0
}

// furnish gives the namespaces a loopback interface and an empty /run, where dockerd and the plugin have their sockets.
func furnish() error {
	return errors.Join(
		syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"),
		os.MkdirAll("/run/docker/plugins", 0o700),
		exec.Command("ip", "link", "set", "lo", "up").Run(),
	)
}

// needRoot skips a test that mounts, or fails it where every test must run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root, and CI skips nothing")
	}
	t.Skip("needs root: it mounts filesystems and runs a Docker Engine")
}

// build returns the command's binary, built once for a run of the tests, with the race detector.
func build(t *testing.T, command string) string {
	t.Helper()
	return buildAs(t, command, command, "-race")
}

// buildRelease is build without the race detector, which takes many times the processor and the memory: for measurements.
func buildRelease(t *testing.T, command string) string {
	t.Helper()
	return buildAs(t, command, command+"-release", "-trimpath", "-ldflags=-s -w")
}

func buildAs(t *testing.T, command, name string, flags ...string) string {
	t.Helper()
	binary := filepath.Join("/run", "mooring-test-bin", name)
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	args := append([]string{"build", "-o", binary}, flags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, module+"/cmd/"+command)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", command, err, out)
	}
	return binary
}
