package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/agent"
)

// rig is both halves, joined by a socket as QEMU joins them by a port.
type rig struct {
	client *agent.Client
	port   net.Conn // the guest's end
	texts  chan string
	boots  chan string
}

func newRig(t *testing.T, onLine func(stream, line string)) *rig {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "port")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := &rig{port: ends[1], texts: make(chan string), boots: make(chan string, 16)}
	r.client = agent.NewClient(t.Context(), ends[0], agent.Options{OnLine: onLine, OnBoot: func(boot string) { r.boots <- boot }})
	t.Cleanup(func() {
		if err := errors.Join(r.client.Close(), r.port.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// visit is the port as one agent opens it: closing it leaves the port, and what is in it, to the next.
type visit struct{ net.Conn }

// Close ends the reads and writes of this visit.
func (v visit) Close() error { return v.SetDeadline(time.Unix(1, 0)) }

// agent starts an agent, waits until the host knows it, and returns what ends it in the way that a reset does.
func (r *rig) agent(t *testing.T) (kill func()) {
	t.Helper()
	if err := r.port.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = agent.ServeConn(ctx, visit{r.port}, r.texts) })
	kill = func() { cancel(); wg.Wait() }
	t.Cleanup(kill)
	select {
	case <-r.boots:
	case <-t.Context().Done():
		t.Fatal("no hello")
	}
	return kill
}

// Output, errors, input and exit status arrive as they are.
func TestRunReportsWhatTheCommandDoes(t *testing.T) {
	r := newRig(t, nil)
	r.agent(t)
	for _, c := range []struct {
		name, script, in string
		out, errs        string
		code             int
	}{
		{name: "quiet", script: "true"},
		{name: "output", script: "echo out; echo err >&2", out: "out\n", errs: "err\n"},
		{name: "exit status", script: "exit 42", code: 42},
		{name: "signal", script: "kill -9 $$", code: 137},
		{name: "input", script: "tr a-z A-Z", in: "hello", out: "HELLO"},
		{name: "input not read", script: "echo done", in: strings.Repeat("x", 3*agent.Ahead), out: "done\n"},
		{name: "environment", script: "echo $LAB; pwd", out: "harbour\n/tmp\n"},
	} {
		var out, errs bytes.Buffer
		cmd := agent.Command{Args: []string{"sh", "-c", c.script}, Env: []string{"LAB=harbour"}, Dir: "/tmp", Stdout: &out, Stderr: &errs}
		if c.in != "" {
			cmd.Stdin = strings.NewReader(c.in)
		}
		code, err := r.client.Run(t.Context(), cmd)
		if err != nil || code != c.code || out.String() != c.out || errs.String() != c.errs {
			t.Errorf("%s: got %d, %v, %q, %q, want %d, %q, %q", c.name, code, err, out.String(), errs.String(), c.code, c.out, c.errs)
		}
	}
	if _, err := r.client.Run(t.Context(), agent.Command{Args: []string{"/no/such/program"}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a program that is missing: got %v", err)
	}
	if _, err := r.client.Run(t.Context(), agent.Command{}); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("no command: got %v, want ErrInvalid", err)
	}
	if out, err := r.client.Shell(t.Context(), "echo before; echo why >&2; false; echo after"); out != "before\n" || err == nil || !strings.Contains(err.Error(), "exit status 1: why") {
		t.Errorf("shell: got %q, %v", out, err)
	}
}

// Fifty megabytes in both directions at once are the same fifty megabytes afterwards.
func TestStreamsOfAnyLengthArriveWhole(t *testing.T) {
	r := newRig(t, nil)
	r.agent(t)
	const size = 50 << 20
	sent, got := sha256.New(), sha256.New()
	code, err := r.client.Run(t.Context(), agent.Command{
		Args: []string{"cat"}, Stdin: io.TeeReader(io.LimitReader(rand.Reader, size), sent), Stdout: got,
	})
	if err != nil || code != 0 || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Errorf("got %d, %v, sum %x, want sum %x", code, err, got.Sum(nil), sent.Sum(nil))
	}
}

// slow is a reader of output who takes nothing until he is told to.
type slow struct {
	begin chan struct{}
	some  chan struct{} // closed at the first write
	once  sync.Once
	n     int
}

// Write waits.
func (s *slow) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.some) })
	<-s.begin
	s.n += len(p)
	return len(p), nil
}

// One command whose output nobody reads must not silence the guest: its heartbeats go on, and so do other commands. And it must not fill the memory: the
// command is held up instead.
func TestUnreadOutputHoldsUpNothingElse(t *testing.T) {
	r := newRig(t, nil)
	r.agent(t)
	s := &slow{begin: make(chan struct{}), some: make(chan struct{})}
	progress := filepath.Join(t.TempDir(), "progress")
	done := make(chan error, 1)
	go func() {
		_, err := r.client.Run(t.Context(), agent.Command{
			Args: []string{"sh", "-c", `i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i > "$0"; done`, progress}, Stdout: s,
		})
		done <- err
	}()
	<-s.some
	began := r.client.Heartbeat()
	for range 3 {
		if _, err := r.client.Shell(t.Context(), "true"); err != nil {
			t.Fatal(err)
		}
	}
	for tick := time.NewTicker(100 * time.Millisecond); r.client.Heartbeat().Sub(began) < 2500*time.Millisecond; {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("heartbeats have ended")
		}
	}
	b, err := os.ReadFile(progress)
	var blocks int
	if _, scanErr := fmt.Sscan(string(b), &blocks); err != nil || scanErr != nil || blocks*65536 > agent.Ahead+2*65536 {
		t.Errorf("nobody reads, and the command has written %d blocks (%v, %v), want at most %d", blocks, err, scanErr, agent.Ahead/65536+2)
	}
	close(s.begin)
	if err := <-done; err != nil || s.n != 64*65536 {
		t.Errorf("afterwards: %v and %d bytes, want %d", err, s.n, 64*65536)
	}
}

// Who gives up on a command does not leave it behind, nor what it started.
func TestCancelledCommandIsKilled(t *testing.T) {
	r := newRig(t, nil)
	r.agent(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.client.Run(ctx, agent.Command{Args: []string{"sh", "-c", `exec 3>"$0"; sleep 1000 & echo up >&3; wait`, fifo}})
		done <- err
	}()
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || line != "up\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if rest, err := io.ReadAll(f); err != nil || len(rest) != 0 { // ends when the last of them has
		t.Errorf("got %q, %v", rest, err)
	}
}

// The guest is reset while commands run, in the middle of what either half was writing. They end, and the next agent is as good as the first.
func TestResetEndsCommandsAndTheNextAgentServes(t *testing.T) {
	r := newRig(t, nil)
	for range 3 {
		kill := r.agent(t)
		done := make(chan error, 1)
		started := &slow{begin: make(chan struct{}), some: make(chan struct{})}
		close(started.begin)
		go func() {
			_, err := r.client.Run(t.Context(), agent.Command{Args: []string{"cat", "/dev/zero"}, Stdin: neverEnding{}, Stdout: started})
			done <- err
		}()
		<-started.some
		kill()
		r.client.Forget()
		if err := <-done; !errors.Is(err, mooring.ErrUnavailable) {
			t.Errorf("the command ended with %v, want ErrUnavailable", err)
		}
		if boot := r.client.Boot(); boot != "" {
			t.Errorf("boot is %q while nobody answers", boot)
		}
		if _, err := r.client.Shell(t.Context(), "true"); !errors.Is(err, mooring.ErrUnavailable) {
			t.Errorf("without an agent: got %v, want ErrUnavailable", err)
		}
	}
	r.agent(t)
	if out, err := r.client.Shell(t.Context(), "cat /proc/sys/kernel/random/boot_id"); err != nil || strings.TrimSpace(out) != r.client.Boot() {
		t.Errorf("got %q, %v, want the boot %s", out, err, r.client.Boot())
	}
}

type neverEnding struct{}

// Read returns zeros, for ever.
func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// An agent that is started anew, without a reset that anybody tells of, is seen by its hello.
func TestNewAgentEndsTheCommandsOfTheOld(t *testing.T) {
	r := newRig(t, nil)
	kill := r.agent(t)
	done := make(chan error, 1)
	s := &slow{begin: make(chan struct{}), some: make(chan struct{})}
	close(s.begin)
	go func() {
		_, err := r.client.Run(t.Context(), agent.Command{Args: []string{"sh", "-c", "echo; sleep 1000"}, Stdout: s})
		done <- err
	}()
	<-s.some
	kill()
	r.agent(t)
	if err := <-done; !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// A copied file is whole, has its mode, and replaces what was there.
func TestCopyInAndOut(t *testing.T) {
	r := newRig(t, nil)
	r.agent(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "tool")
	for _, content := range []string{strings.Repeat("long\x00", 100_000), "short"} {
		if err := r.client.CopyIn(t.Context(), strings.NewReader(content), path, 0o751); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := r.client.CopyOut(t.Context(), path, &out); err != nil || out.String() != content {
			t.Errorf("got %d bytes, %v, want %d", out.Len(), err, len(content))
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o751 {
		t.Errorf("got mode %v, %v, want 0751", fi.Mode(), err)
	}
	for range 50 {
		broken := io.MultiReader(strings.NewReader("half"), failing{})
		if err := r.client.CopyIn(t.Context(), broken, path, 0o600); !errors.Is(err, errFailing) {
			t.Errorf("copy from a broken reader: got %v", err)
		}
	}
	if err := r.client.CopyIn(t.Context(), strings.NewReader(""), filepath.Join(dir, "no/such"), 0o600); err == nil {
		t.Error("copy into a missing directory: got no error")
	}
	if err := r.client.CopyOut(t.Context(), filepath.Join(dir, "no"), io.Discard); err == nil {
		t.Error("copy of a missing file: got no error")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "short" {
		t.Errorf("after copies that failed: got %q, %v, want the file as it was", b, err)
	}
	if _, err := r.client.Shell(t.Context(), "true"); err != nil { // asked after all of them
		t.Error(err)
	}
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C { // the guest cleans up after its host has gone on
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) == 0 {
			break
		}
	}
}

var errFailing = errors.New("the reader fails")

type failing struct{}

// Read fails.
func (failing) Read([]byte) (int, error) { return 0, errFailing }

// What a container logs to the outside arrives once and in order, however slow the outside is: the writer waits.
func TestLinesArriveInOrderAndHoldUpTheirWriter(t *testing.T) {
	const count = 40_000 // more than all buffers on the way hold
	release, all := make(chan struct{}), make(chan struct{})
	var got []string
	r := newRig(t, func(stream, line string) {
		<-release
		if got = append(got, stream+"|"+line); len(got) == count {
			close(all)
		}
	})
	path := filepath.Join(t.TempDir(), "run", "lines.sock")
	texts, end, err := agent.Lines(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	go func() {
		for text := range texts {
			select {
			case r.texts <- text:
			case <-t.Context().Done():
				return
			}
		}
	}()
	r.agent(t)
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	written := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(conn, 100)
		for i := range count {
			_, _ = fmt.Fprintf(w, "db wrote %d of some length, so that it counts\n", i)
		}
		written <- w.Flush()
	}()
	if out, err := r.client.Shell(t.Context(), "echo meanwhile"); err != nil || out != "meanwhile\n" {
		t.Errorf("while lines wait: got %q, %v", out, err)
	}
	select {
	case err := <-written:
		t.Errorf("all lines were written though none was taken (%v): something keeps them in memory", err)
	case <-time.After(500 * time.Millisecond):
	}
	close(release)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	<-all
	for i, line := range got {
		if want := fmt.Sprintf("db|wrote %d of some length, so that it counts", i); line != want {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
}

// The agent finds its port among others by the name that the host gave it.
func TestPortIsFoundByItsName(t *testing.T) {
	sys := t.TempDir()
	for port, name := range map[string]string{"vport1p1": "com.redhat.spice.0\n", "vport1p2": agent.Port + "\n"} {
		if err := os.MkdirAll(filepath.Join(sys, port), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, port, "name"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := agent.FindPort(sys, "/dev"); err != nil || got != "/dev/vport1p2" {
		t.Errorf("got %q, %v, want /dev/vport1p2", got, err)
	}
	if _, err := agent.FindPort(t.TempDir(), "/dev"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("without ports: got %v, want ErrNotFound", err)
	}
}
