package control_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// fakeHouse runs a machine's commands on this machine, and can say whether one is running.
type fakeHouse struct{ running, ended chan struct{} }

func (fakeHouse) Describe(s *control.Status) { s.Guest = control.QEMU }

func (fakeHouse) Do(_ context.Context, o control.Order) error { return control.Unknown(o) }

func (h fakeHouse) Exec(ctx context.Context, vm string, c control.Command) (int, error) {
	if vm != "docker1" {
		return 0, fmt.Errorf("no virtual machine %q: %w", vm, mooring.ErrNotFound)
	}
	close(h.running)
	defer close(h.ended)
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		_, _ = io.Copy(stdin, c.Stdin)
		_ = stdin.Close()
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// start serves a lab with one machine that runs nothing, in a directory whose name is short enough for a socket.
func start(t *testing.T) (*control.Server, *control.Client, fakeHouse) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab") //nolint:usetesting // its name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	vc, err := vcenter.Start(t.Context(), vcenter.Options{
		Dir: dir, VMs: []vcenter.VM{{Name: "docker1", BIOS: "42110000-0000-4000-8000-0000000000d1", Instance: "50110000-0000-4000-8000-0000000000d1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vc.Close(); err != nil {
			t.Errorf("close vCenter: %v", err)
		}
	})
	house := fakeHouse{make(chan struct{}), make(chan struct{})}
	s, err := control.Serve(t.Context(), dir, vc, house, slog.New(slog.DiscardHandler), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s, control.Dial(dir), house
}

func closeServer(t *testing.T, s *control.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("close control socket: %v", err)
	}
}

// A command in a machine is like one in a shell: both streams apart, stdin to its end, the exit status.
func TestExecIsLikeACommandHere(t *testing.T) {
	t.Parallel()
	_, client, _ := start(t)
	var out, errs bytes.Buffer
	exit, err := client.Exec(t.Context(), "docker1", control.Command{
		Args: []string{"sh", "-c", `read -r line; echo "got $line and $1"; echo bad >&2; cat; exit 7`, "sh", "an  argument"}, Stdin: strings.NewReader("one\ntwo\n"),
		Stdout: &out, Stderr: &errs,
	})
	if err != nil || exit != 7 || out.String() != "got one and an  argument\ntwo\n" || errs.String() != "bad\n" {
		t.Errorf("got status %d, %v, output %q and %q", exit, err, out.String(), errs.String())
	}
}

// No byte is lost, whichever side is slow, and no matter how many there are.
func TestExecPassesLargeStreams(t *testing.T) {
	t.Parallel()
	_, client, _ := start(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	var out bytes.Buffer
	exit, err := client.Exec(t.Context(), "docker1", control.Command{Args: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: &out, Stderr: &out})
	if err != nil || exit != 0 || sha256.Sum256(out.Bytes()) != sha256.Sum256(data) {
		t.Errorf("got status %d, %v, %d bytes, want the %d that were sent", exit, err, out.Len(), len(data))
	}
}

// A command that does not read its stdin ends all the same, and so does the client.
func TestExecOfACommandThatReadsNothing(t *testing.T) {
	t.Parallel()
	_, client, _ := start(t)
	data := bytes.Repeat([]byte("x"), 1<<20)
	exit, err := client.Exec(t.Context(), "docker1", control.Command{Args: []string{"true"}, Stdin: bytes.NewReader(data), Stdout: io.Discard, Stderr: io.Discard})
	if err != nil || exit != 0 {
		t.Errorf("got status %d, %v, want 0", exit, err)
	}
}

// Who interrupts vm exec has ended the command, even if it was fed more than it reads.
func TestExecEndsWithItsClient(t *testing.T) {
	t.Parallel()
	_, client, house := start(t)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-house.running
		interrupt()
	}()
	data := bytes.Repeat([]byte("x"), 1<<20)
	_, err := client.Exec(ctx, "docker1", control.Command{Args: []string{"sleep", "1000"}, Stdin: bytes.NewReader(data), Stdout: io.Discard, Stderr: io.Discard})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	await(t, house.ended, "the command to end")
}

// A lab that goes down does not wait for commands that never end.
func TestExecEndsWithTheLab(t *testing.T) {
	t.Parallel()
	s, client, house := start(t)
	done := make(chan error, 1)
	go func() {
		_, err := client.Exec(t.Context(), "docker1", control.Command{Args: []string{"sleep", "1000"}, Stdout: io.Discard, Stderr: io.Discard})
		done <- err
	}()
	await(t, house.running, "the command to start")
	closeServer(t, s)
	if err := <-done; err == nil {
		t.Error("got no error, want that the lab went away")
	}
	await(t, house.ended, "the command to end")
}

func await(t *testing.T, what <-chan struct{}, name string) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited 30 s for %s", name)
	}
}

// An error keeps its kind on the way, for the exit status of the command that a person typed.
func TestErrorsKeepTheirKind(t *testing.T) {
	t.Parallel()
	_, client, _ := start(t)
	_, err := client.Exec(t.Context(), "nobody", control.Command{Args: []string{"true"}, Stdout: io.Discard, Stderr: io.Discard})
	if !errors.Is(err, mooring.ErrNotFound) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("exec: got %v, want ErrNotFound with the name", err)
	}
	if err := client.Do(t.Context(), control.Order{Verb: "nonsense"}); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("order: got %v, want ErrInvalid", err)
	}
	if _, err := control.Dial(t.TempDir()).Status(t.Context()); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("no lab: got %v, want ErrUnavailable", err)
	}
}

// disk ls shows the disks that nobody has beside those that machines have.
func TestDisksAreListedWithTheirOwners(t *testing.T) {
	t.Parallel()
	_, client, _ := start(t)
	disks, err := client.Disks(t.Context())
	if err != nil || len(disks) != 1 || disks[0].VM != "docker1" || !disks[0].PoweredOn || disks[0].Capacity == 0 || disks[0].UUID == "" {
		t.Errorf("got %+v, %v, want the boot disk of docker1", disks, err)
	}
}

// What a killed lab left is swept; what is another's, or in use, is not.
func TestSweepTakesOnlyWhatADeadLabLeft(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dead, alive, strange := filepath.Join(home, "dead"), filepath.Join(home, "alive"), filepath.Join(home, "strange")
	for _, dir := range []string{dead, alive, strange} {
		if err := os.MkdirAll(filepath.Join(dir, "vms"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := control.Claim(strange, "vms"); !errors.Is(err, mooring.ErrInvalid) {
		t.Fatalf("claim of a directory that was never a lab's: got %v, want ErrInvalid", err)
	}
	for _, dir := range []string{dead, alive} {
		lock, err := control.Claim(dir)
		if err != nil {
			t.Fatal(err)
		}
		if dir == dead { // the kernel does the same
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		defer func() { _ = lock.Close() }()
	}
	if err := control.Sweep([]string{dead, alive, strange}, "vms"); err != nil {
		t.Fatal(err)
	}
	for dir, there := range map[string]bool{dead: false, alive: true, strange: true} {
		if _, err := os.Stat(filepath.Join(dir, "vms")); (err == nil) != there {
			t.Errorf("%s: got %v, want it there: %v", dir, err, there)
		}
	}
}
