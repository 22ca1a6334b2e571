package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// fakePlugin makes this test's binary play the plugin's part.
const fakePlugin = "LAB_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(fakePlugin) == "" {
		os.Exit(m.Run())
	}
	if err := plugin(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// plugin takes its sockets from the service manager, says that it is ready, and answers on each with its name and PID until SIGTERM.
func plugin() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	listeners, err := activation.ListenersWithNames()
	if err != nil {
		return err
	}
	for _, name := range []string{"plugin", "admin"} {
		if len(listeners[name]) != 1 {
			return fmt.Errorf("got sockets %v, want one %s", listeners, name)
		}
		go func() {
			for {
				c, err := listeners[name][0].Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(c, "%s %d", name, os.Getpid())
				_ = c.Close()
			}
		}()
	}
	if sent, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil || !sent {
		return fmt.Errorf("notify: %v, %w", sent, err)
	}
	<-ctx.Done()
	return nil
}

// noGuest notices nothing.
type noGuest struct{}

func (noGuest) Plug(context.Context, vcenter.Disk) error   { return nil }
func (noGuest) Unplug(context.Context, vcenter.Disk) error { return nil }

// start starts a lab without loop devices, in a directory whose name is short enough for sockets.
func start(t *testing.T) *lab.Lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab") //nolint:usetesting // its name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := lab.Start(t.Context(), lab.Options{Dir: dir, Guest: noGuest{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}

func unitOptions(l *lab.Lab) lab.UnitOptions {
	return lab.UnitOptions{
		Binary: os.Args[0], Env: []string{fakePlugin + "=1"},
		PluginSocket: filepath.Join(l.Dir(), "vmdk.sock"), AdminSocket: filepath.Join(l.Dir(), "admin.sock"),
	}
}

func startUnit(t *testing.T, l *lab.Lab) *lab.Unit {
	t.Helper()
	u, err := l.StartUnit(unitOptions(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close unit: %v", err)
		}
	})
	ready(t, u)
	return u
}

func ready(t *testing.T, u *lab.Unit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := u.Ready(ctx); err != nil {
		text, _ := os.ReadFile(u.LogFile())
		t.Fatalf("%v\n%s", err, text)
	}
}

// ask returns what the plugin says at the socket.
func ask(t *testing.T, socket string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// Each socket arrives under its name, and the process that systemd would call the main one is the plugin.
func TestUnitHandsOverItsSockets(t *testing.T) {
	t.Parallel()
	u := startUnit(t, start(t))
	if got, want := ask(t, u.PluginSocket()), fmt.Sprintf("plugin %d", u.PID()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := ask(t, u.AdminSocket()), fmt.Sprintf("admin %d", u.PID()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A killed plugin comes back, and who connects meanwhile waits for it instead of being refused.
func TestUnitRestartsAKilledPluginBehindItsSockets(t *testing.T) {
	t.Parallel()
	u := startUnit(t, start(t))
	for range 3 {
		before := u.PID()
		if err := u.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, u.PluginSocket()); got == fmt.Sprintf("plugin %d", before) {
			t.Fatalf("got %q from the dead", got)
		}
		ready(t, u)
	}
	if n := u.Starts(); n != 4 {
		t.Errorf("got %d starts, want 4", n)
	}
}

// A stopped plugin stays down until it is started; its sockets stay up.
func TestUnitStaysStoppedUntilItIsStarted(t *testing.T) {
	t.Parallel()
	u := startUnit(t, start(t))
	if err := u.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u.PID() != 0 {
		t.Fatalf("got PID %d, want none", u.PID())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := u.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("ready while stopped: got %v", err)
	}
	c, err := net.Dial("unix", u.PluginSocket())
	if err != nil {
		t.Fatalf("socket of a stopped plugin: %v", err)
	}
	_ = c.Close()
	if err := u.Start(); err != nil {
		t.Fatal(err)
	}
	ready(t, u)
}

// Somebody else's plugin is not pushed aside.
func TestUnitRefusesASocketThatIsServed(t *testing.T) {
	t.Parallel()
	l := start(t)
	startUnit(t, l)
	if _, err := l.StartUnit(unitOptions(l)); !errors.Is(err, mooring.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
}

// After Close nothing is left of the unit, and another can be started.
func TestUnitLeavesNothing(t *testing.T) {
	t.Parallel()
	l := start(t)
	u, err := l.StartUnit(unitOptions(l))
	if err != nil {
		t.Fatal(err)
	}
	ready(t, u)
	pid := u.PID()
	if err := u.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: got %v, want it gone", pid, err)
	}
	for _, s := range []string{u.PluginSocket(), u.AdminSocket()} {
		if _, err := os.Stat(s); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket %s: got %v, want it gone", s, err)
		}
	}
	startUnit(t, l)
}

// The lock is what keeps two labs from sharing one directory.
func TestOneLabPerDirectory(t *testing.T) {
	t.Parallel()
	l := start(t)
	if _, err := lab.Start(t.Context(), lab.Options{Dir: l.Dir(), Guest: noGuest{}}); !errors.Is(err, mooring.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
}

// The control socket does what the command mooring-lab asks for.
func TestControlSocket(t *testing.T) {
	t.Parallel()
	l := start(t)
	u := startUnit(t, l)
	ctx, down := context.WithCancelCause(t.Context())
	c, err := l.Serve(t.Context(), u, down)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close control socket: %v", err)
		}
	})
	client := control.Dial(l.Dir())
	do := func(o control.Order) {
		t.Helper()
		if err := client.Do(t.Context(), o); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
	}
	status := func() control.Status {
		t.Helper()
		s, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(); s.VCenter != "serving" || len(s.Machines) != 2 || s.Machines[0].Name != lab.ThisVM ||
		s.Machines[0].BIOS != lab.ThisBIOS || !s.Machines[0].PoweredOn || s.Machines[0].Host == s.Machines[1].Host || s.Plugin.PID != u.PID() {
		t.Errorf("got %+v, want two machines that are on, on a host each", s)
	}
	do(control.Order{Verb: "vcenter-stop"})
	if s := status(); s.VCenter != "stopped" {
		t.Errorf("got vCenter %s, want stopped", s.VCenter)
	}
	do(control.Order{Verb: "vcenter-start"})
	do(control.Order{Verb: "vcenter-hang"})
	do(control.Order{Verb: "vcenter-delay", Method: "ReconfigVM_Task", Duration: time.Second})
	if s := status(); s.VCenter != "hanging" || s.Delays["ReconfigVM_Task"] != time.Second {
		t.Errorf("got %+v, want it hanging, with a delay", s)
	}
	do(control.Order{Verb: "vcenter-clear"})
	do(control.Order{Verb: "vm-poweroff", Name: lab.OtherVM})
	if s := status(); s.VCenter != "serving" || len(s.Delays) != 0 || s.Machines[1].PoweredOn {
		t.Errorf("got %+v, want it serving, without delays, the second machine off", s)
	}
	do(control.Order{Verb: "plugin-kill"})
	ready(t, u)
	for _, bad := range []struct {
		order control.Order
		want  error
	}{
		{control.Order{Verb: "explode"}, mooring.ErrInvalid},
		{control.Order{Verb: "vcenter-fail", Method: "x", Fault: "y"}, mooring.ErrInvalid},
		{control.Order{Verb: "vm-poweron", Name: "nobody"}, mooring.ErrNotFound},
		{control.Order{Verb: "vm-freeze", Name: lab.ThisVM}, mooring.ErrInvalid},
		{control.Order{Verb: "host-kill", Name: "nowhere"}, mooring.ErrNotFound},
	} {
		if err := client.Do(t.Context(), bad.order); !errors.Is(err, bad.want) {
			t.Errorf("%+v: got %v, want %v", bad.order, err, bad.want)
		}
	}
	_, err = client.Exec(t.Context(), lab.ThisVM, control.Command{Args: []string{"true"}})
	if hint, ok := errors.AsType[*mooring.HintError](err); !ok || !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(hint.Hint, "--guest qemu") {
		t.Errorf("exec in this machine: got %v, want ErrInvalid with a hint", err)
	}
	do(control.Order{Verb: "down"})
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), control.ErrDown) {
		t.Errorf("got cause %v, want ErrDown", context.Cause(ctx))
	}
}

// The environment is what govc wants, and holds no password of the plugin's.
func TestEnvironmentIsTheAdministrators(t *testing.T) {
	t.Parallel()
	l := start(t)
	env := strings.Join(l.Env(), "\n")
	for _, want := range []string{"GOVC_URL=" + l.URL(), "GOVC_USERNAME=" + l.Admin().User, "GOVC_PASSWORD=" + l.Admin().Password, "GOVC_TLS_CA_CERTS=" + l.CAFile()} {
		if !strings.Contains(env, want) {
			t.Errorf("got %s, want %s in it", env, want)
		}
	}
	if strings.Contains(env, l.Plugin().Password) {
		t.Error("the plugin's password is in the environment")
	}
}
