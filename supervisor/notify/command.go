package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-sh/mooring"
)

const (
	commandLimit = 30 * time.Second
	maxLimit     = 50 * time.Second // the supervisor gives up on all targets after a minute
	pipeLimit    = time.Second      // for what a command leaves behind to let go of its outputs
	maxOutput    = 300              // bytes, of which an error tells
)

// Command runs a program, without a shell, which reads the message as JSON from its standard input.
type Command struct {
	// Argv is the program's absolute path and its arguments, which are shown nowhere.
	Argv []string
	// Limit is after what time the program is killed, with all that it has started. Zero: 30 s.
	Limit time.Duration
	// Apart has systemd run the program as a unit of its own: what the supervisor's unit takes away from the supervisor, others' programs may need.
	Apart bool
}

// Name is the program's.
func (c Command) Name() string {
	if len(c.Argv) == 0 {
		return "a command"
	}
	return "the command " + filepath.Base(c.Argv[0])
}

// Check says what is wrong with the settings.
func (c Command) Check() error {
	var errs []error
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		errs = append(errs, fmt.Errorf("%s: want the absolute path of a program: %w", c.Name(), mooring.ErrInvalid))
	}
	if c.Limit < 0 || c.Limit > maxLimit {
		errs = append(errs, fmt.Errorf("%s: limit %s: allowed are up to %s: %w", c.Name(), c.Limit, maxLimit, mooring.ErrInvalid))
	}
	return errors.Join(errs...)
}

// Send runs the program. That it ends with another status than 0 is an error, with the last line that it printed.
func (c Command) Send(ctx context.Context, m Message) error {
	if err := c.Check(); err != nil {
		return err
	}
	stdin, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return run(ctx, c.Argv, append(stdin, '\n'), cmp.Or(c.Limit, commandLimit), c.Apart)
}

// apart returns the command with which systemd runs argv, and kills it after the limit. It is not told what the unit is for by argv, which
// may hold secrets and would be in the log.
func apart(argv []string, limit time.Duration) []string {
	return append([]string{
		"systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--description=Mooring tells how a recovery ended",
		fmt.Sprintf("--property=RuntimeMaxSec=%dms", limit.Milliseconds()), "--property=KillSignal=SIGKILL", "--",
	}, argv...)
}

// run runs a program to its end, or to that of the limit.
func run(ctx context.Context, argv []string, stdin []byte, limit time.Duration, alone bool) error {
	if alone {
		argv = apart(argv, limit)
		limit += pipeLimit // systemd is the first to kill
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %s", limit))
	defer cancel()
	var said tail
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the administrator names it
	cmd.Dir, cmd.Env = "/", environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeLimit
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it has ended well, and left something running
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("killed: %w", context.Cause(ctx))
	}
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err // the rest is its path
	}
	if text := said.lastLine(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// environment is ours without what systemd gave for us alone.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
		default:
			env = append(env, v)
		}
	}
	return env
}

// tail keeps the end of what is written.
type tail struct{ end []byte }

// Write never fails, and keeps little however much comes.
func (t *tail) Write(p []byte) (int, error) {
	t.end = append(t.end, p[max(0, len(p)-maxOutput):]...)
	t.end = append(t.end[:0], t.end[max(0, len(t.end)-maxOutput):]...)
	return len(p), nil
}

// lastLine returns the last line that is not empty, as far as it was kept.
func (t *tail) lastLine() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.end), "?"))
	return line(text[strings.LastIndexByte(text, '\n')+1:])
}
