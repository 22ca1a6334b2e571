package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor/notify"
)

// sh returns a command that runs a script, of which $0 is a directory to write to and $1 a secret.
func sh(t *testing.T, script string) (notify.Command, string) {
	t.Helper()
	dir := t.TempDir()
	return notify.Command{Argv: []string{"/bin/sh", "-c", script, dir, hidden}}, dir
}

func TestCommandReadsTheMessage(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	c, dir := sh(t, `cat >"$0/got"; echo "$NOTIFY_SOCKET" >"$0/env"`)
	m := notify.Message{Machine: "docker1", Subject: "s", Text: "t", Report: recovered()}
	if err := errors.Join(c.Check(), c.Send(t.Context(), m)); err != nil {
		t.Fatal(err)
	}
	var got notify.Message
	text, err := os.ReadFile(filepath.Join(dir, "got"))
	if err != nil || json.Unmarshal(text, &got) != nil || got.Subject != "s" || got.Report.ID != m.Report.ID {
		t.Errorf("got %s, %v, want the message", text, err)
	}
	if env, err := os.ReadFile(filepath.Join(dir, "env")); err != nil || string(env) != "\n" {
		t.Errorf("NOTIFY_SOCKET: got %q, %v, want none: the command is not the service", env, err)
	}
}

// There is no shell between: what an argument holds is an argument.
func TestCommandHasNoShell(t *testing.T) {
	dir := t.TempDir()
	c := notify.Command{Argv: []string{"/bin/mkdir", filepath.Join(dir, "a;b $(id)")}}
	if err := c.Send(t.Context(), notify.Message{}); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "a;b $(id)" {
		t.Errorf("got %v, %v, want the one directory", entries, err)
	}
}

// A command that never ends is killed.
func TestCommandThatHangsIsKilled(t *testing.T) {
	c, _ := sh(t, `sleep 1000 & wait`)
	c.Limit = 300 * time.Millisecond
	wantError(t, c.Send(t.Context(), notify.Message{}), "killed: not done after 300ms")
}

// With it goes what it has started.
func TestCommandIsKilledWithItsChildren(t *testing.T) {
	c, dir := sh(t, `sleep 1000 & echo $! >"$0/pid.new"; mv "$0/pid.new" "$0/pid"; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Send(ctx, notify.Message{}) }()
	pid := 0
	wait(t, "the command to begin", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	})
	cancel()
	wantError(t, <-ended, "killed: context canceled")
	wait(t, "what it started to end", func() bool { return !alive(t, pid) })
}

// wait looks until ok says yes, and fails after a while: other processes do not tell us.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// alive says whether a process runs: one that is dead and not yet waited for by its new parent does not.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// Output without end fills nothing, and of what a command printed the error tells the end.
func TestCommandThatFloods(t *testing.T) {
	c, _ := sh(t, `head -c 20000000 /dev/zero | tr '\0' 'x'; echo; echo 'it is full' >&2; exit 3`)
	err := c.Send(t.Context(), notify.Message{})
	wantError(t, err, "exit status 3: it is full")
	c, _ = sh(t, `yes`)
	c.Limit = 200 * time.Millisecond
	wantError(t, c.Send(t.Context(), notify.Message{}), "killed: not done")
	c, _ = sh(t, `head -c 2000000 /dev/zero | tr '\0' '\033'; exit 3`)
	if err := c.Send(t.Context(), notify.Message{}); err == nil || len(err.Error()) > 400 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %.500v, want a short line that steers no terminal", err)
	}
}

// A command that ends well has told, though it read nothing and left something running.
func TestCommandThatEndsWell(t *testing.T) {
	c, _ := sh(t, `exec sleep 30 0<&- &`)
	m := notify.Message{Text: strings.Repeat("x", 1<<20)}
	if err := c.Send(t.Context(), m); err != nil {
		t.Errorf("got %v, want told", err)
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	c := notify.Command{Argv: []string{"/nonexistent/tell", hidden}}
	wantError(t, c.Send(t.Context(), notify.Message{}), "no such file")
	if c.Name() != "the command tell" {
		t.Errorf("name: got %s", c.Name())
	}
	for _, wrong := range []notify.Command{{}, {Argv: []string{"tell", hidden}}, {Argv: []string{"/bin/tell"}, Limit: time.Hour}} {
		err := wrong.Check()
		if !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%v: got %v, want ErrInvalid", wrong, err)
		}
		wantError(t, err, "")
	}
}

// Under systemd the program is run by systemd, which is told the limit and not what is in the arguments; its end is the program's.
func TestCommandThatIsRunApart(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\nwhile [ \"$1\" != -- ]; do echo \"$1\" >>" + bin + "/said; shift; done; shift; exec \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "systemd-run"), []byte(script), 0o700); err != nil { //nolint:gosec // it is executed
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	c, dir := sh(t, `cat >"$0/got"; echo "no $0" >&2; exit 7`)
	c.Apart, c.Limit = true, 20*time.Second
	wantError(t, c.Send(t.Context(), notify.Message{Subject: "s"}), "exit status 7: no ")
	if got, err := os.ReadFile(filepath.Join(dir, "got")); err != nil || !strings.Contains(string(got), `"subject":"s"`) {
		t.Errorf("got %s, %v, want the message", got, err)
	}
	said, err := os.ReadFile(filepath.Join(bin, "said"))
	if err != nil || strings.Contains(string(said), hidden) || !strings.Contains(string(said), "--property=RuntimeMaxSec=20000ms\n") || !strings.Contains(string(said), "--pipe\n") {
		t.Errorf("said to systemd: %s, %v", said, err)
	}
}
