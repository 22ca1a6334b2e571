package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/mooring-sh/mooring"
)

// job is the host's side of what runs in the guest.
type job struct {
	id     uint32
	ctx    context.Context //nolint:containedctx // the life of the job: the caller's context, or the end of the session
	cancel context.CancelCauseFunc
	input  *window       // of the guest's standard input
	got    *queue[frame] // output that nobody has taken yet, and the exit
}

// Run runs a command in the guest and returns its exit status, 128 and the signal's number if a signal ended it. The error says why it could not be
// run or watched to its end; it wraps [mooring.ErrUnavailable] when no agent answers, or the guest was reset meanwhile. When ctx ends the command and
// its process group are killed, without waiting for it: the guest may be frozen.
//
// Like ssh, it waits until nobody has the command's output open any more, not only for the command.
func (c *Client) Run(ctx context.Context, cmd Command) (int, error) {
	st := start{Op: opExec, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Input: cmd.Stdin != nil}
	if len(cmd.Args) == 0 {
		return 0, fmt.Errorf("run a command in the guest: it is empty: %w", mooring.ErrInvalid)
	}
	code, err := c.do(ctx, st, cmd.Stdin, cmd.Stdout, cmd.Stderr)
	if err != nil {
		return 0, fmt.Errorf("run %s in the guest: %w", cmd.Args[0], err)
	}
	return code, nil
}

// Shell runs a script with sh -e and returns what it wrote to standard output. The error carries the exit status and the end of standard error.
func (c *Client) Shell(ctx context.Context, script string) (string, error) {
	var out, errs bytes.Buffer
	code, err := c.Run(ctx, Command{Args: []string{"sh", "-ec", script}, Stdout: &out, Stderr: &errs})
	if err == nil && code != 0 {
		err = fmt.Errorf("shell in the guest: exit status %d: %s", code, tail(errs.String()))
	}
	return out.String(), err
}

// tail returns the end of a command's complaints, fit for an error.
func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 2000 {
		s = "… " + s[len(s)-2000:]
	}
	return s
}

// CopyIn makes the file of the guest hold what r has, at once and durably: it is written beside, synced and renamed. Its directory must exist.
func (c *Client) CopyIn(ctx context.Context, r io.Reader, path string, mode fs.FileMode) error {
	if _, err := c.do(ctx, start{Op: opPut, Path: path, Mode: uint32(mode.Perm()), Input: true}, r, nil, nil); err != nil {
		return fmt.Errorf("copy to %s of the guest: %w", path, err)
	}
	return nil
}

// CopyOut writes the file of the guest to w.
func (c *Client) CopyOut(ctx context.Context, path string, w io.Writer) error {
	if _, err := c.do(ctx, start{Op: opGet, Path: path}, nil, w, nil); err != nil {
		return fmt.Errorf("copy from %s of the guest: %w", path, err)
	}
	return nil
}

// do runs a job from its start to its exit.
func (c *Client) do(ctx context.Context, st start, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	payload, err := json.Marshal(st)
	if err != nil {
		return 0, err
	}
	if len(payload) > chunk {
		return 0, fmt.Errorf("arguments and environment take %d bytes, %d are allowed: %w", len(payload), chunk, mooring.ErrInvalid)
	}
	j, err := c.begin(ctx, payload)
	if err != nil {
		return 0, err
	}
	defer j.cancel(nil)
	if stdin != nil {
		go c.feed(j, stdin) // not waited for: a terminal's Read cannot be ended
	}
	code, err := c.drain(j, stdout, stderr)
	if err != nil {
		c.reply(j.id, kindKill, nil)
	}
	c.mu.Lock()
	delete(c.jobs, j.id)
	c.mu.Unlock()
	return code, err
}

// begin registers a job and asks the agent to start it.
func (c *Client) begin(ctx context.Context, payload []byte) (*job, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == 0 || c.ctx.Err() != nil {
		return nil, fmt.Errorf("no agent answers in the guest: %w", mooring.ErrUnavailable)
	}
	c.last++
	j := &job{id: c.last, input: newWindow(), got: newQueue[frame]()}
	j.ctx, j.cancel = context.WithCancelCause(ctx)
	c.jobs[j.id] = j
	c.out.put(frame{session: c.session, kind: kindStart, job: j.id, payload: payload}, false)
	return j, nil
}

// feed sends the standard input. When it cannot be read the job is ended with that error, rather than told that its input ended.
func (c *Client) feed(j *job, r io.Reader) {
	for {
		buf := make([]byte, chunk) // the queue keeps it
		n, err := r.Read(buf)
		if n > 0 {
			if j.input.take(j.ctx, n) != nil {
				return // the job is over: whoever waits for it knows why
			}
			c.reply(j.id, kindInput, buf[:n])
		}
		if errors.Is(err, io.EOF) {
			c.reply(j.id, kindInputEnd, nil)
			return
		}
		if err != nil {
			j.cancel(fmt.Errorf("read its standard input: %w", err))
			return
		}
	}
}

// drain hands over the job's output until it exits.
func (c *Client) drain(j *job, stdout, stderr io.Writer) (int, error) {
	for {
		f, ok := j.got.next(j.ctx)
		if !ok {
			return 0, context.Cause(j.ctx)
		}
		if f.kind == kindExit {
			var e exit
			if err := json.Unmarshal(f.payload, &e); err != nil {
				return 0, fmt.Errorf("read its exit status: %w", err)
			}
			if e.Err != "" {
				return e.Code, errors.New(e.Err)
			}
			return e.Code, nil
		}
		w := stdout
		if f.kind == kindStderr {
			w = stderr
		}
		if w != nil {
			if _, err := w.Write(f.payload); err != nil {
				return 0, fmt.Errorf("write its output: %w", err)
			}
		}
		c.reply(j.id, kindCredit, creditPayload(len(f.payload)))
	}
}
