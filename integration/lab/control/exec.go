package control

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Command is what is run in a machine. Output is written while it runs.
type Command struct {
	Args           []string  // the program and its arguments; no shell is between
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer
}

// protocol is what the connection of a command is upgraded to: frames of one byte that says what it is, four bytes of length, most
// significant first, and as many bytes. The client sends stdin, the server stdout and stderr and, at the end, one result. The client sends no
// more of stdin until the server says that the command has read what came: so the server can always tell that the client has gone.
const protocol = "mooring-lab-exec"

const (
	frameStdin  = 'i' // empty: the end
	frameMore   = 'm' // empty: the command has read the last of stdin
	frameStdout = 'o'
	frameStderr = 'e'
	frameResult = 'r'

	maxFrame = 1 << 20
)

// result is how a command ended: with an exit status, or not at all.
type result struct {
	Exit    int            `json:"exit"`
	Problem *admin.Problem `json:"problem,omitempty"`
}

// frames writes frames of one kind to a connection that others write to.
type frames struct {
	kind byte
	mu   *sync.Mutex
	w    io.Writer
}

func (f frames) Write(p []byte) (int, error) {
	sent := 0
	for {
		part := p[sent:min(len(p), sent+maxFrame)]
		if err := f.send(part); err != nil {
			return sent, err
		}
		if sent += len(part); sent == len(p) {
			return sent, nil
		}
	}
}

func (f frames) send(part []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{f.kind}, uint32(len(part))) //nolint:gosec // at most maxFrame
	_, err := f.w.Write(append(head, part...))
	return err
}

// receive returns the next frame.
func receive(r io.Reader) (kind byte, part []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", n, mooring.ErrInvalid)
	}
	part = make([]byte, n)
	_, err = io.ReadFull(r, part)
	return head[0], part, err
}

// serveExec runs a command for a client, until it ends, the client goes, or the lab does.
func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != protocol {
		answer(w, nil, fmt.Errorf("exec: want an upgrade to %s: %w", protocol, mooring.ErrInvalid))
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		answer(w, nil, err)
		return
	}
	s.wg.Add(1) // Shutdown waits for no connection that was taken over
	defer s.wg.Done()
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	mu := new(sync.Mutex)
	stdin, feed := io.Pipe()
	parts := make(chan []byte, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		receiveStdin(rw.Reader, parts)
		cancel() // the client has gone
	})
	wg.Go(func() {
		for part := range parts {
			_, _ = feed.Write(part) // nobody reads it after the end
			_, _ = frames{frameMore, mu, conn}.Write(nil)
		}
		_ = feed.Close()
	})
	wg.Go(func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	})
	c := Command{Args: r.URL.Query()["arg"], Stdin: stdin, Stdout: frames{frameStdout, mu, conn}, Stderr: frames{frameStderr, mu, conn}}
	var res result
	res.Exit, err = s.house.Exec(ctx, r.URL.Query().Get("vm"), c)
	if err != nil {
		problem, _ := admin.ProblemOf(err)
		res.Problem = &problem
	}
	if text, err := json.Marshal(res); err == nil {
		_, _ = frames{frameResult, mu, conn}.Write(text) // the client has gone if this fails
	}
	_ = errors.Join(stdin.Close(), conn.Close())
	wg.Wait()
}

// receiveStdin passes on what the client sends, closes parts at the end of it, and returns when the client has gone.
func receiveStdin(r io.Reader, parts chan<- []byte) {
	open := true
	defer func() {
		if open {
			close(parts)
		}
	}()
	for {
		kind, part, err := receive(r)
		if err != nil || kind != frameStdin || !open {
			return
		}
		if len(part) == 0 {
			close(parts)
			open = false
			continue
		}
		select {
		case parts <- part:
		default: // it did not wait for its turn
			return
		}
	}
}

// Exec runs a command in a machine of the lab and returns its exit status. It returns when the command has ended; a read of c.Stdin
// that is under way then, as from a terminal, is left behind.
func (c *Client) Exec(ctx context.Context, vm string, cmd Command) (int, error) {
	query := url.Values{"vm": {vm}, "arg": cmd.Args}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://lab/exec?"+query.Encode(), nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	res, err := c.http.Do(req)
	if err != nil {
		return 0, noLab(err)
	}
	defer func() { _ = res.Body.Close() }()
	conn, ok := res.Body.(io.ReadWriter)
	if res.StatusCode != http.StatusSwitchingProtocols || !ok {
		return 0, problem(res)
	}
	defer context.AfterFunc(ctx, func() { _ = res.Body.Close() })()
	more := make(chan struct{}, 1)
	go sendStdin(conn, cmd.Stdin, more)
	exit, err := collect(conn, cmd, more)
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return exit, err
}

// sendStdin sends what there is to read, a piece whenever more is closed or says so.
func sendStdin(w io.Writer, stdin io.Reader, more <-chan struct{}) {
	out := frames{frameStdin, new(sync.Mutex), w}
	buf := make([]byte, 32<<10)
	for stdin != nil {
		n, err := stdin.Read(buf)
		if n > 0 {
			if out.send(buf[:n]) != nil {
				return
			}
			<-more
		}
		if err != nil {
			break
		}
	}
	_ = out.send(nil) // the command has ended if this fails
}

// collect passes on what the command prints, and returns how it ended. Then it closes more.
func collect(r io.Reader, cmd Command, more chan<- struct{}) (int, error) {
	defer close(more)
	for {
		kind, part, err := receive(r)
		if err != nil {
			return 0, fmt.Errorf("the lab went away while the command ran: %w", errors.Join(err, mooring.ErrUnavailable))
		}
		switch kind {
		case frameMore:
			more <- struct{}{} // it waits for it
		case frameStdout:
			_, err = cmd.Stdout.Write(part)
		case frameStderr:
			_, err = cmd.Stderr.Write(part)
		case frameResult:
			return ended(part)
		}
		if err != nil {
			return 0, fmt.Errorf("pass on what the command prints: %w", err)
		}
	}
}

// ended reads how the command ended.
func ended(text []byte) (int, error) {
	var res result
	if err := json.Unmarshal(text, &res); err != nil {
		return 0, fmt.Errorf("read how the command ended: %w", err)
	}
	if res.Problem != nil {
		return 0, res.Problem.Err()
	}
	return res.Exit, nil
}
