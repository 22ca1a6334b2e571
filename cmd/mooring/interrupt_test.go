package main_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/admin"
)

// A terminal that stays silent after Ctrl-C at the password's prompt is a nuisance, and a script must see that it was an interrupt.
func TestInterruptAtThePasswordLeavesTheTerminalAsItWas(t *testing.T) {
	controller, terminal := openTerminal(t)
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "mooring", "policy", "ls", "--url", "127.0.0.1:1", "--username", "me")
	cmd.Env = append(os.Environ(), "GOVC_URL=", "GOVC_USERNAME=", "GOVC_PASSWORD=", "GOVC_INSECURE=")
	cmd.Stdin, cmd.Stderr = terminal, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the terminal to hide what is typed", func() bool { return !echoes(t, controller) })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 130 {
		t.Errorf("got %v, want exit status 130", err)
	}
	if want := "Password of me at 127.0.0.1:1: \nmooring: interrupted\n"; stderr.String() != want {
		t.Errorf("standard error %q, want %q", stderr.String(), want)
	}
	if !echoes(t, controller) {
		t.Error("the terminal still hides what is typed")
	}
}

// openTerminal returns both ends of a pseudo-terminal.
func openTerminal(t *testing.T) (controller, terminal *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = controller.Close() })
	if err := unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return controller, terminal
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// waitFor looks until ok says yes, and fails after a while: another process does not tell us.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// Whoever stops waiting is told that the stack is brought up all the same.
func TestInterruptLeavesTheSupervisorAtWork(t *testing.T) {
	dir, err := os.MkdirTemp("", "mooring") //nolint:usetesting // its name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "supervisor.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"configured": true, "phase": "starting", "services": [{"name": "core", "state": "created"}]}`))
		if r.Method == http.MethodGet {
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	})}
	served := make(chan struct{})
	go func() { _ = server.Serve(listener); close(served) }()
	t.Cleanup(func() { _ = server.Close(); <-served })

	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "mooring", "stack", "heal")
	cmd.Env = append(os.Environ(), admin.SupervisorSocketEnv+"="+socket)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 130 || stdout.String() != "" {
		t.Errorf("got %v, %q, want exit status 130", err, stdout.String())
	}
	if !strings.HasSuffix(stderr.String(), "the supervisor goes on: mooring stack ps\nmooring: interrupted\n") {
		t.Errorf("standard error %q, want that the supervisor goes on", stderr.String())
	}
}
