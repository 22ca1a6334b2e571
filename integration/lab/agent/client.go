package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
)

// Options says what a [Client] does with what comes by itself. Both functions are called one call at a time, each from a goroutine of its own.
type Options struct {
	OnLine func(stream, line string) // a line of [LinesSocket]; nil: dropped
	OnBoot func(boot string)         // an agent answers, of the boot with this ID; nil: nobody asks
}

// errGone ends the jobs of a session that is over.
var errGone = fmt.Errorf("the agent of the guest is gone: %w", mooring.ErrUnavailable)

// Client is the host's half. Its methods may be called from any goroutine.
type Client struct {
	opts  Options
	conn  io.ReadWriter
	hang  func() error // closes the connection; once
	out   *queue[frame]
	lines *queue[string]
	stop  context.CancelCauseFunc
	ctx   context.Context //nolint:containedctx // the life of the connection: jobs end with it, whatever their own context is
	wg    sync.WaitGroup

	mu      sync.Mutex
	session uint64 // 0: nobody answers
	gone    uint64 // the last session that is over: what it left in the pipe counts no more
	boot    string
	kernel  string
	beat    time.Time
	jobs    map[uint32]*job
	last    uint32
}

// NewClient talks over conn, which it owns from now on, until [Client.Close] or until the connection ends.
func NewClient(ctx context.Context, conn io.ReadWriteCloser, opts Options) *Client {
	c := &Client{opts: opts, conn: conn, hang: sync.OnceValue(conn.Close), out: newQueue[frame](), lines: newQueue[string](), jobs: map[uint32]*job{}}
	c.ctx, c.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	c.wg.Go(func() { c.end(send(c.ctx, conn, c.out)) })
	c.wg.Go(func() { c.end(c.receive()) })
	c.wg.Go(c.tellLines)
	return c
}

// Close ends the connection and all jobs, and waits for the client's goroutines.
func (c *Client) Close() error {
	c.stop(errGone)
	err := c.hang()
	c.wg.Wait()
	c.Forget()
	return err
}

// end makes the end of one half the end of both.
func (c *Client) end(err error) {
	c.stop(errors.Join(errGone, err))
	_ = c.hang() // so that the other half ends too; the first error is the cause
	c.Forget()
}

// Forget ends what was begun in the guest, which was reset. Who answers next, says so.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
}

// forget is Forget for who holds c.mu.
func (c *Client) forget() {
	if c.session != 0 {
		c.gone = c.session
	}
	c.session, c.boot = 0, ""
	c.out.clear()
	for id, j := range c.jobs {
		delete(c.jobs, id)
		j.cancel(errGone)
	}
}

// Boot returns the boot ID that the guest's agent told; empty while none answers.
func (c *Client) Boot() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// Kernel returns the release of the guest's kernel; empty before the first agent answered.
func (c *Client) Kernel() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kernel
}

// Heartbeat returns when the guest last gave a sign of life; zero: never.
func (c *Client) Heartbeat() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beat
}

// receive handles frames until the connection ends. It never waits for anything else: a slow reader of one stream would stop the heartbeats.
func (c *Client) receive() error {
	frames := newFrameReader(c.conn)
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		if f.kind == kindHello {
			c.welcome(f)
			continue
		}
		c.mu.Lock()
		if f.session == c.session { // otherwise what an earlier agent left in the pipe
			c.handle(f)
		}
		c.mu.Unlock()
	}
}

// handle takes one frame of the session. The caller holds c.mu.
func (c *Client) handle(f frame) {
	c.beat = time.Now()
	j := c.jobs[f.job]
	switch f.kind {
	case kindBeat:
	case kindLine:
		c.lines.put(string(f.payload), false)
	case kindCredit:
		if j != nil {
			j.input.give(creditOf(f.payload))
		}
	default: // kindStdout, kindStderr, kindExit
		if j != nil {
			j.got.put(f, false)
		}
	}
}

// welcome begins the session of an agent that says hello, unless it has begun: then the agent has not read our welcome yet.
func (c *Client) welcome(f frame) {
	var h hello
	if json.Unmarshal(f.payload, &h) != nil || f.session == 0 {
		return
	}
	c.mu.Lock()
	if f.session == c.gone {
		c.mu.Unlock()
		return
	}
	fresh := f.session != c.session
	if fresh {
		c.forget()
		c.session, c.boot, c.kernel = f.session, h.Boot, h.Kernel
		c.out.put(frame{session: f.session, kind: kindWelcome}, true)
	}
	c.beat = time.Now()
	c.mu.Unlock()
	if fresh && c.opts.OnBoot != nil {
		c.opts.OnBoot(h.Boot)
	}
}

// tellLines hands over the forwarded lines, and tells the agent how many more may come.
func (c *Client) tellLines() {
	for {
		text, ok := c.lines.next(c.ctx)
		if !ok {
			return
		}
		stream, line, _ := strings.Cut(text, " ")
		if c.opts.OnLine != nil {
			c.opts.OnLine(stream, line)
		}
		c.reply(linesJob, kindCredit, creditPayload(len(text)))
	}
}

// reply queues a frame of the current session.
func (c *Client) reply(id uint32, k kind, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != 0 {
		c.out.put(frame{session: c.session, kind: k, job: id, payload: payload}, k.urgent())
	}
}
