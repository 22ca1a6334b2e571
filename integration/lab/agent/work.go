package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// work is the guest's side of a job.
type work struct {
	ctx    context.Context //nolint:containedctx // the life of the job: the host kills it, or the session ends
	cancel context.CancelCauseFunc
	input  *queue[frame] // bounded by the host's window
	output *window
}

func newWork(ctx context.Context) *work {
	w := &work{input: newQueue[frame](), output: newWindow()}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	return w
}

// do does the job and reports its end.
func (s *server) do(f frame, w *work) {
	defer w.cancel(nil)
	var st start
	code, err := 0, json.Unmarshal(f.payload, &st)
	if err == nil {
		code, err = s.perform(f.job, st, w)
	}
	e := exit{Code: code}
	if err != nil {
		e.Err = err.Error()
	}
	s.mu.Lock()
	delete(s.jobs, f.job)
	s.mu.Unlock()
	payload, err := json.Marshal(e)
	if err != nil {
		payload = []byte(`{"err":"the exit status cannot be told"}`)
	}
	s.out.put(frame{session: s.session, kind: kindExit, job: f.job, payload: payload}, false)
}

func (s *server) perform(job uint32, st start, w *work) (int, error) {
	stdin := &inputReader{server: s, job: job, work: w}
	stdout := &outputWriter{server: s, job: job, work: w, kind: kindStdout}
	switch st.Op {
	case opExec:
		return run(st, w, stdin, stdout, &outputWriter{server: s, job: job, work: w, kind: kindStderr})
	case opPut:
		return 0, putFile(st.Path, fs.FileMode(st.Mode), stdin)
	case opGet:
		return 0, getFile(st.Path, stdout)
	default:
		return 0, fmt.Errorf("operation %q: allowed are %s, %s and %s", st.Op, opExec, opPut, opGet)
	}
}

// run runs a command in a session of its own, which is killed when the job is.
func run(st start, w *work, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	cmd := exec.CommandContext(w.ctx, st.Args[0], st.Args[1:]...) //nolint:gosec // running what it is told is the agent's purpose
	cmd.Env = append(environment(), st.Env...)
	cmd.Dir = "/"
	if st.Dir != "" {
		cmd.Dir = st.Dir
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var outputs sync.WaitGroup
	defer outputs.Wait()
	for _, o := range []struct {
		end *io.Writer
		to  io.Writer
	}{{&cmd.Stdout, stdout}, {&cmd.Stderr, stderr}} {
		inner, err := pipe(w.ctx, o.to, &outputs)
		if err != nil {
			return 0, err
		}
		*o.end = inner
		defer func() { _ = inner.Close() }() // the command has its own descriptor
	}
	if st.Input {
		// Not cmd.Stdin: a command that ends without reading it would be waited for until the host has no more input.
		feed, err := cmd.StdinPipe()
		if err != nil {
			return 0, err
		}
		go func() {
			_, _ = io.Copy(feed, stdin) // the command has closed its end, or the job is over: both are its own affair
			_ = feed.Close()
		}()
	}
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	err := cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return 0, err
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return ended.ExitCode(), nil
}

// pipe returns the end of a pipe that a command writes to. What it writes goes to w, until nobody can write any more, or the job is killed: then those that
// the command left behind are not waited for.
func pipe(ctx context.Context, w io.Writer, wg *sync.WaitGroup) (*os.File, error) {
	outer, inner, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	unhook := context.AfterFunc(ctx, func() { _ = outer.Close() })
	wg.Go(func() {
		_, _ = io.Copy(w, outer) // ends with the job or with the pipe
		if unhook() {
			_ = outer.Close()
		}
	})
	return inner, nil
}

// environment is the agent's own, with what a program may expect and the first process of a small guest does not have.
func environment() []string {
	env := os.Environ()
	for _, def := range []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"} {
		key, _, _ := strings.Cut(def, "=")
		if os.Getenv(key) == "" {
			env = append(env, def)
		}
	}
	return env
}

// putFile makes the file durable before it has its name.
func putFile(path string, mode fs.FileMode, r io.Reader) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".mooring-lab-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir) //nolint:gosec // the path is the caller's, as all that the agent does
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func getFile(path string, w io.Writer) error {
	f, err := os.Open(path) //nolint:gosec // the path is the caller's, as all that the agent does
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// inputReader reads what the host sends for a job.
type inputReader struct {
	server *server
	job    uint32
	work   *work
	rest   []byte
	ended  bool
}

// Read returns what has come, and lets the host send as much more.
func (r *inputReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		f, ok := r.work.input.next(r.work.ctx)
		if !ok {
			return 0, context.Cause(r.work.ctx)
		}
		r.rest, r.ended = f.payload, f.kind == kindInputEnd
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.server.out.put(frame{session: r.server.session, kind: kindCredit, job: r.job, payload: creditPayload(n)}, true)
	return n, nil
}

// outputWriter sends what a job writes, as fast as the host takes it.
type outputWriter struct {
	server *server
	job    uint32
	work   *work
	kind   kind
}

// Write waits for the host when it is too far ahead.
func (w *outputWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := append([]byte(nil), p[:min(len(p), chunk)]...) // the queue keeps it
		if err := w.work.output.take(w.work.ctx, len(part)); err != nil {
			return written, err
		}
		w.server.out.put(frame{session: w.server.session, kind: w.kind, job: w.job, payload: part}, false)
		written += len(part)
		p = p[len(part):]
	}
	return written, nil
}
