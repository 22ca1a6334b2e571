//go:build machines

package main_test

import (
	"bytes"
	"os"
	"os/exec"
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

// sleeper is a program that does nothing for ever: an image of nothing else is a service.
const sleeper = `package main

import "time"

func main() { time.Sleep(1<<63 - 1) }
`

// made builds the package and the sleeper.
func made(t *testing.T) (deb, program string) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(sleeper), 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "sleeper")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	pack := exec.CommandContext(t.Context(), "go", "run", "./packaging", "-out", dir, "-version", "0.0.0~drill", "-arch", "amd64", "-kind", "deb")
	pack.Dir = filepath.Join("..", "..")
	pack.Stderr = t.Output()
	out, err := pack.Output()
	if err != nil {
		t.Fatalf("make the package: %v", err)
	}
	return strings.TrimSpace(string(out)), program
}

// A drill as a person does it: the machine's host dies, HA restarts the machine, its supervisor brings the stack back, and the report from inside is printed.
func TestDrillOfAMachine(t *testing.T) {
	needRoot(t)
	deb, program := made(t)
	dir := state(t)
	if status, _, errs := run(t, "up", "--state", dir, "--guest", "qemu", "--vms", "1", "--hosts", "3", "--time-scale", "10", "--package", deb); status != 0 {
		t.Fatalf("up: got status %d, %s", status, errs)
	}
	t.Cleanup(func() {
		if s, _, errs := run(t, "down", "--state", dir); s != 0 {
			t.Errorf("down: %s", errs)
		}
	})
	binary, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = binary.Close() }()
	c, _, complaints := command(t, "vm", "exec", "docker1", "--state", dir, "--", "sh", "-ec", `
mkdir -p /srv/stack /tmp/image; cat >/tmp/image/sleeper; chmod 755 /tmp/image/sleeper
tar -C /tmp/image -c sleeper | docker import --change 'ENTRYPOINT ["/sleeper"]' - sleeper
printf 'services:\n  web: {image: sleeper, restart: always}\n  job: {image: sleeper, restart: always, depends_on: [web]}\n' >/srv/stack/docker-compose.yml
printf 'stack: {directory: /srv/stack, entry: none}\n' >/etc/mooring/supervisor.yaml
systemctl restart mooring-supervisor
mooring stack up --timeout 5m
sync`)
	c.Stdin = binary
	if err := c.Run(); err != nil {
		t.Fatalf("make a stack: %v\n%s", err, complaints)
	}
	status, out, errs := run(t, "drill", "docker1", "--state", dir)
	for _, want := range []string{"settled\n", "The machine ended without a shutdown", "Everything is back (services: 2, volumes: 0)", "\nTIMELINE\n", "not running"} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("drill: got status %d, %s\n%s, want %q", status, out, errs, want)
		}
	}
	if status, out, _ := run(t, "host", "ls", "--state", dir); status != 0 || strings.Count(out, "docker1") != 1 {
		t.Errorf("host ls: got status %d, %s, want docker1 on one host", status, out)
	}
}
