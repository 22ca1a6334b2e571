package powercut_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// insideEnv is set in the process that runs the tests inside namespaces of their own.
const insideEnv = "MOORING_TEST_NAMESPACES"

// TestMain runs the tests, as root, in mount, network and process namespaces of their own: whatever they leave behind, registries, mounts and with them loop
// devices, ends with the namespaces, however they end.
func TestMain(m *testing.M) {
	if dir := os.Getenv(rehashEnv); dir != "" {
		fmt.Fprintln(os.Stderr, rehashForEver(dir, os.Stdout))
		os.Exit(1)
	}
	switch {
	case os.Geteuid() != 0:
		os.Exit(m.Run())
	case os.Getenv(insideEnv) == "":
		os.Exit(reexecute())
	default:
		if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
			fmt.Fprintln(os.Stderr, "set the loopback interface up:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// reexecute runs this test binary again in new namespaces and returns its exit code.
func reexecute() int {
	args := []string{"--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", `"$@"; exit $?`, "sh"}
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

// needRoot skips a test that mounts, or fails it where every test must run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root, and CI skips nothing")
	}
	t.Skip("needs root: it makes filesystems and mounts them")
}
