package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// lineServer takes the lines that processes of the guest want to get out. Each connection's lines keep their order.
type lineServer struct {
	listener net.Listener
	texts    chan string
	ctx      context.Context //nolint:containedctx // the life of the socket
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// listenLines serves the socket. Everybody may write: containers do, whatever user they run as.
func listenLines(ctx context.Context, path string) (*lineServer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // bind-mounted into containers
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an earlier agent's socket: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // see above
		return nil, errors.Join(err, l.Close())
	}
	s := &lineServer{listener: l, texts: make(chan string), conns: map[net.Conn]bool{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.wg.Go(s.accept)
	return s, nil
}

func (s *lineServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Go(func() { s.read(conn) })
	}
}

// read hands over one connection's lines. A line that is too long for a frame is cut, and so is the connection.
func (s *lineServer) read(conn net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		_ = conn.Close() // only read from
	}()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, chunk)
	for lines.Scan() {
		text := strings.TrimSuffix(lines.Text(), "\r")
		if text == "" {
			continue
		}
		select {
		case <-s.ctx.Done():
			return
		case s.texts <- text:
		}
	}
}

func (s *lineServer) close() {
	s.cancel()
	_ = s.listener.Close() // also removes the socket
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close() // ends its reader
	}
	s.mu.Unlock()
	s.wg.Wait()
}
