package play

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Commands runs programs, and shows those that a person would type.
type Commands struct {
	Talk *Talk
	Bin  string // the directory with Mooring's commands: those that were built together, whatever is installed
	Env  []string
}

// Show prints the command, runs it, and returns its standard output without the spaces around it.
func (c *Commands) Show(ctx context.Context, argv ...string) (string, error) {
	c.Talk.Command(argv)
	return c.Run(ctx, nil, argv...)
}

// Quiet runs the command without showing it.
func (c *Commands) Quiet(ctx context.Context, argv ...string) (string, error) {
	return c.Run(ctx, nil, argv...)
}

// Run runs the command with that standard input. The error carries the end of what the command said.
func (c *Commands) Run(ctx context.Context, in io.Reader, argv ...string) (string, error) {
	program := argv[0]
	if strings.HasPrefix(program, "mooring") {
		program = filepath.Join(c.Bin, program)
	}
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Env, cmd.Stdin = c.Env, in
	cmd.WaitDelay = 5 * time.Second // a grandchild may keep the pipes
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, Tail(said.String()+out.String(), 600))
	}
	return strings.TrimSpace(out.String()), nil
}

// Tail returns the last n bytes of what a command said, on one line.
func Tail(said string, n int) string {
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > n {
		said = "…" + said[len(said)-n:]
	}
	return said
}

// Wait tries check until it returns nil, for at most limit. It spends at most a quarter of the time on tries: what is asked may be a machine that needs its processors for what is
// waited for. The error names what was waited for and why the last try failed.
func Wait(ctx context.Context, what string, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	var last error
	for {
		began := time.Now()
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err // not the one that the deadline itself caused
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(context.Cause(ctx), last))
		case <-time.After(max(200*time.Millisecond, 3*time.Since(began))):
		}
	}
}
