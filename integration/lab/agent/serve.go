package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// beatEvery is the time between two heartbeats, and between two attempts at whatever did not work.
const beatEvery = time.Second

// Guest says what the guest's half serves.
type Guest struct {
	Port   string    // the device of the port; empty: that of the virtio-serial port with the name [Port]
	Lines  string    // path of the socket for lines; empty: [LinesSocket]
	Report io.Writer // where it complains: the console, or the journal
}

// Serve is the guest's half: it answers on the port until ctx ends. A port that is missing or breaks is tried again every second.
func Serve(ctx context.Context, g Guest) error {
	if g.Lines == "" {
		g.Lines = LinesSocket
	}
	lines, err := listenLines(ctx, g.Lines)
	if err != nil {
		return err
	}
	defer lines.close()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	complained := ""
	for {
		err := servePort(ctx, g.Port, lines)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && err.Error() != complained {
			complained = err.Error()
			_, _ = fmt.Fprintf(g.Report, "%s: serve the host: %v\n", Program, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// servePort answers on the device until it fails.
func servePort(ctx context.Context, device string, lines *lineServer) error {
	if device == "" {
		found, err := findPort("/sys/class/virtio-ports", "/dev")
		if err != nil {
			return err
		}
		device = found
	}
	// Blocking, as a file that the runtime does not poll: to a poller, a port whose host has gone looks readable for ever.
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", device, err)
	}
	return ServeConn(ctx, os.NewFile(uintptr(fd), device), lines.texts)
}

// findPort returns the device of the port by what the kernel says of it: udev's link comes later, and in a small guest never.
func findPort(sys, dev string) (string, error) {
	names, err := filepath.Glob(filepath.Join(sys, "*", "name"))
	if err != nil {
		return "", err
	}
	for _, file := range names {
		name, err := os.ReadFile(file) //nolint:gosec // found in sysfs
		if err == nil && strings.TrimSpace(string(name)) == Port {
			return filepath.Join(dev, filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", fmt.Errorf("find the virtio-serial port %s: there are %d others: %w", Port, len(names), mooring.ErrNotFound)
}

// server is one session of the guest's half.
type server struct {
	session uint64
	hello   frame
	out     *queue[frame]
	ctx     context.Context //nolint:containedctx // the life of the session, which ends all its jobs
	wg      sync.WaitGroup  // jobs

	mu       sync.Mutex
	welcomed chan struct{} // closed when the host answers this session
	jobs     map[uint32]*work
}

// ServeConn answers on one connection, which it owns, until it ends or ctx does. Lines that come from texts are forwarded.
func ServeConn(ctx context.Context, conn io.ReadWriteCloser, texts <-chan string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &server{session: newSession(), out: newQueue[frame](), ctx: ctx, welcomed: make(chan struct{}), jobs: map[uint32]*work{}}
	h, err := whoAmI()
	if err != nil {
		cancel(err)
		return errors.Join(err, conn.Close())
	}
	s.hello = frame{session: s.session, kind: kindHello, payload: h}
	lines := newWork(ctx)
	s.jobs[linesJob] = lines
	var wg sync.WaitGroup
	wg.Go(func() { cancel(send(ctx, conn, s.out)) })
	wg.Go(s.beat)
	wg.Go(func() { s.forward(texts, lines) })
	wg.Go(func() { cancel(s.receive(conn)) })
	<-ctx.Done()
	err = context.Cause(ctx)
	closed := conn.Close()
	wg.Wait()
	s.wg.Wait()
	if errors.Is(err, io.EOF) {
		err = closed // nobody is at the other end
	}
	return err
}

// whoAmI returns what a hello says.
func whoAmI() ([]byte, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot ID: %w", err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, fmt.Errorf("read the kernel's release: %w", err)
	}
	return json.Marshal(hello{Boot: strings.TrimSpace(string(boot)), Kernel: strings.TrimSpace(string(kernel)), PID: os.Getpid()})
}

// beat says hello until somebody listens, and then gives a sign of life every second.
func (s *server) beat() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.welcomed:
			s.out.put(frame{session: s.session, kind: kindBeat}, true)
		default:
			s.out.put(s.hello, true)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forward sends lines, from the moment when somebody listens. While none does, or he is slow, those who write them wait.
func (s *server) forward(texts <-chan string, lines *work) {
	select {
	case <-s.ctx.Done():
		return
	case <-s.welcomed:
	}
	for {
		select {
		case <-s.ctx.Done():
			return
		case text := <-texts:
			if lines.output.take(s.ctx, len(text)) != nil {
				return
			}
			s.out.put(frame{session: s.session, kind: kindLine, payload: []byte(text)}, false)
		}
	}
}

// receive handles what the host sends, until the connection ends.
func (s *server) receive(conn io.Reader) error {
	frames := newFrameReader(conn)
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		if f.session == s.session { // otherwise it was meant for an agent before us
			s.handle(f)
		}
	}
}

func (s *server) handle(f frame) {
	if f.kind == kindWelcome {
		select {
		case <-s.welcomed:
		default:
			close(s.welcomed)
		}
		return
	}
	s.mu.Lock()
	w := s.jobs[f.job]
	if f.kind == kindStart && w == nil {
		w = newWork(s.ctx)
		s.jobs[f.job] = w
		s.wg.Go(func() { s.do(f, w) })
	}
	s.mu.Unlock()
	if w == nil {
		return // it has ended
	}
	switch f.kind {
	case kindInput, kindInputEnd:
		w.input.put(f, false)
	case kindCredit:
		w.output.give(creditOf(f.payload))
	case kindKill:
		w.cancel(context.Canceled)
	default:
	}
}
