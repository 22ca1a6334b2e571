package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
)

// dialTimeout is for a connection, and for TLS on it.
const dialTimeout = 10 * time.Second

// newConnections returns what is below a transport. HTTP/2 stays off, as it does for any dialer of one's own: blobs that are read at the same time
// would share one connection and its flow control.
func newConnections(conf *tls.Config, idle time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return newIdleConn(conn, addr, idle)
		},
		TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: idle / 2,
		DisableCompression: true, // what is hashed is what is stored
		ReadBufferSize:     64 << 10, MaxResponseHeaderBytes: 1 << 20,
	}
}

// idleConn is a connection that fails when for so long nothing comes that is awaited, or nothing goes. A blob may take hours; it may not stand still.
type idleConn struct {
	net.Conn
	idle time.Duration
}

// newIdleConn refuses what calls itself localhost and is elsewhere: plain http goes there.
func newIdleConn(conn net.Conn, addr string, idle time.Duration) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); err == nil && ok && host == "localhost" && !tcp.IP.IsLoopback() {
		_ = conn.Close()
		return nil, fmt.Errorf("localhost is %s: %w", tcp.IP, mooring.ErrInvalid)
	}
	return &idleConn{Conn: conn, idle: idle}, nil
}

func (c *idleConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *idleConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// gate keeps every request back while the registry wants to be left alone.
type gate struct {
	mu    sync.Mutex
	until time.Time
}

func (g *gate) hold(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.Before(until) {
		g.until = until
	}
}

func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		left := time.Until(g.until)
		g.mu.Unlock()
		if err := wait(ctx, left); err != nil || left <= 0 {
			return err
		}
	}
}

// callers are those who wait for something from the registry. What is done for them in a context of nobody's ends when the last of them is gone.
type callers struct {
	mu   sync.Mutex
	n    int
	gone chan struct{} // closed, and replaced, when n becomes 0
}

// enter counts one in until leave is called or the context ends.
func (c *callers) enter(ctx context.Context) (leave func()) {
	c.mu.Lock()
	c.n++
	if c.gone == nil {
		c.gone = make(chan struct{})
	}
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, c.leave)
	return func() {
		if stop() {
			c.leave()
		}
	}
}

func (c *callers) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		close(c.gone)
		c.gone = nil
	}
}

// join returns a context that ends with the last caller.
func (c *callers) join(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone == nil { // whoever wanted it is gone already
		cancel()
		return ctx, cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
