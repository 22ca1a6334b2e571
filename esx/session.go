package esx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	govmomisession "github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mooring-sh/mooring"
)

const (
	userAgent = "mooring"
	// answerLimit is how long vCenter may take for one answer, and for a whole login. No request of ours takes long there: work that does is a task.
	// The product promises to say within ten seconds that vCenter cannot be reached.
	answerLimit = 8 * time.Second
	dialLimit   = 5 * time.Second
	// keepAliveEvery is well within the 30 minutes after which vCenter ends an idle session.
	keepAliveEvery = 5 * time.Minute
	// refusalRest is how long a refused account rests: vCenter's single sign-on locks an account after five refusals within 180 s.
	refusalRest = 3 * time.Minute
)

// errStalled is the cause with which a request ends that vCenter accepts and does not answer.
var errStalled = fmt.Errorf("vCenter did not answer within %s", answerLimit)

// Session is the one session that Mooring has with vCenter. It is made when it is first needed and made again when vCenter has ended it;
// callers that wait for that share one login. Its methods may be called concurrently.
type Session struct {
	account  Account
	endpoint *url.URL
	tls      *tls.Config
	log      *slog.Logger

	keepAliveEvery time.Duration
	refusalRest    time.Duration

	stop chan struct{} // closed by Close
	work sync.WaitGroup

	mu      sync.Mutex
	link    *link // nil until the first login
	logins  int
	joining *login
	refusal error     // why the account was refused last
	rested  time.Time // until when a refused account rests
	alive   bool      // the keep-alive runs
	closed  bool
}

// link is one login.
type link struct {
	number int           // logins are counted
	vim    *vim25.Client // knows nothing of other logins
}

// login is an attempt to log in, shared by all who wait for it.
type login struct {
	done chan struct{} // closed when link or err stands
	link *link
	err  error
}

// NewSession returns a session that has not connected yet: that vCenter cannot be reached is never a reason not to start.
// The error says what in the account cannot be right, and wraps [mooring.ErrInvalid].
func NewSession(a Account, log *slog.Logger) (*Session, error) {
	u, err := a.endpoint()
	if err != nil {
		return nil, err
	}
	if a.Username == "" {
		return nil, fmt.Errorf("vCenter account: names no user: %w", mooring.ErrInvalid)
	}
	config, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	return &Session{
		account: a, endpoint: u, tls: config, log: log,
		keepAliveEvery: keepAliveEvery, refusalRest: refusalRest,
		stop: make(chan struct{}),
	}, nil
}

// Close logs out, so that vCenter does not keep a dead session (it has room for 2000), and waits for what the session has running.
// It does not fail because vCenter is away.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	close(s.stop)
	idle := make(chan struct{})
	go func() { s.work.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	s.leave(ctx, l)
	return nil
}

// leave ends a login, which vCenter may have ended before, and its connections.
func (s *Session) leave(ctx context.Context, l *link) {
	defer l.vim.CloseIdleConnections()
	err := limited(ctx, func(ctx context.Context) error { return govmomisession.NewManager(l.vim).Logout(ctx) })
	if err != nil && classOf(err) != session {
		s.log.Debug("log out of vCenter", "err", explain(err))
	}
}

// after returns a login that is newer than the one with the number seen, logging in if there is none.
func (s *Session) after(ctx context.Context, seen int) (*link, error) {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return nil, fmt.Errorf("vCenter: the session is closed: %w", mooring.ErrUnavailable)
	case s.link != nil && s.link.number > seen:
		defer s.mu.Unlock()
		return s.link, nil
	case time.Now().Before(s.rested):
		defer s.mu.Unlock()
		return nil, fmt.Errorf("%w; no further attempt before %s, so that the account is not locked", s.refusal, s.rested.Format(time.TimeOnly))
	}
	j := s.joining
	if j == nil {
		j = &login{done: make(chan struct{})}
		s.joining = j
		s.work.Go(func() { s.join(context.WithoutCancel(ctx), j) })
	}
	s.mu.Unlock()
	select {
	case <-j.done:
		return j.link, j.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join logs in and tells everybody who waits.
func (s *Session) join(ctx context.Context, j *login) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errStalled)
	defer cancel()
	l, err := s.dial(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(j.done)
	s.joining = nil
	if err != nil {
		j.err = fmt.Errorf("log in to vCenter at %s as %s: %w", s.endpoint.Host, s.account.Username, explain(withCause(ctx, err)))
		if classOf(err) == refused {
			j.err = &mooring.HintError{Err: j.err, Hint: "check the user name and the password of the vCenter account"}
			s.refusal, s.rested = j.err, time.Now().Add(s.refusalRest)
		}
		return
	}
	if old := s.link; old != nil {
		s.work.Go(func() { s.leave(context.WithoutCancel(ctx), old) })
	}
	s.logins++
	l.number = s.logins
	s.link, j.link = l, l
	s.refusal, s.rested = nil, time.Time{}
	if !s.alive {
		s.alive = true
		s.work.Go(func() { s.keepAlive(context.WithoutCancel(ctx)) })
	}
}

// dial connects and logs in.
func (s *Session) dial(ctx context.Context) (*link, error) {
	client := soap.NewClient(s.endpoint, false)
	client.UserAgent = userAgent
	secure(client.DefaultTransport(), s.tls)
	vim, err := vim25.NewClient(ctx, client)
	if err != nil {
		client.CloseIdleConnections()
		return nil, err
	}
	user := url.UserPassword(s.account.Username, string(s.account.Password))
	if err := govmomisession.NewManager(vim).Login(ctx, user); err != nil {
		client.CloseIdleConnections()
		return nil, err
	}
	return &link{vim: vim}, nil
}

// secure makes t verify as config says and give up on hosts that do not answer. govmomi's own dialer knows neither contexts nor time limits,
// and tries an untrusted connection a second time without verification.
func secure(t *http.Transport, config *tls.Config) {
	t.DialTLSContext = nil
	t.DialContext = (&net.Dialer{Timeout: dialLimit, KeepAlive: 15 * time.Second}).DialContext
	t.TLSClientConfig = config.Clone()
	t.TLSHandshakeTimeout = dialLimit
}

// keepAlive keeps vCenter from ending the session for idleness. A failure is no reason to stop: the next request logs in again.
func (s *Session) keepAlive(ctx context.Context) {
	tick := time.NewTicker(s.keepAliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if err := s.ping(ctx); err != nil {
			s.log.Debug("keep the session with vCenter alive", "err", err)
		}
	}
}

// withCause returns err with the cause of ctx's end, which says more than "deadline exceeded".
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(cause, errStalled) {
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return err
}
