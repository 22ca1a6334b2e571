package stack

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

const (
	// asking is the time between two questions to a service that is not ready, settled that to one that is and has no health check.
	asking  = time.Second
	settled = 30 * time.Second
	// restLimit is how long a place stays empty at most after a question that took long.
	restLimit = 2 * time.Second
	// bodyLimit is how much of a page is read.
	bodyLimit = 64 << 10
)

// readiness is the last answer of one container.
type readiness struct {
	fact    mooring.Fact
	why     string
	started time.Time // of the container: an answer is worth nothing after a restart
	at      time.Time // when it was asked last
	busy    bool
	unended string // Docker's ID of a question's command that had not ended within its limit
}

// unansweredWhy is why a service is not ready that was not heard yet.
const unansweredWhy = "it has not answered yet"

// asks reports whether there is something to ask the service by.
func asks(i Instruction, c docker.Container) bool { return i.Ready != nil || len(c.Check) > 0 }

// due reports whether the container is to be asked now. Docker's own health check is relied on as soon as it has spoken once; until then, and that takes its
// whole interval after each start, the same command is run here.
func (r readiness) due(i Instruction, c docker.Container, now time.Time) bool {
	if c.State != "running" || r.busy || !asks(i, c) {
		return false
	}
	fresh := r.started.Equal(c.Started) && r.fact == mooring.Yes
	switch {
	case !fresh && i.Ready == nil && c.Health != "starting":
		return false // Docker's word counts
	case !fresh:
		return now.Sub(r.at) >= asking || !r.started.Equal(c.Started)
	case len(c.Check) > 0:
		return false
	default:
		return now.Sub(r.at) >= settled
	}
}

// askAll begins to ask those services that are due.
func (s *Stack) askAll(ctx context.Context, all *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, c := range s.seen.containers {
		i := s.cfg.Profile.Services[supervisor.ServiceName(c.Labels[labelService])]
		r := s.ready[id]
		if !r.due(i, c, now) || s.seen.lost[id] {
			continue
		}
		r.busy = true
		s.ready[id] = r
		all.Go(func() { s.askOne(ctx, i, c) })
	}
	for id := range s.ready {
		if _, ok := s.seen.containers[id]; !ok && !s.ready[id].busy {
			delete(s.ready, id)
		}
	}
}

// askOne waits for its turn, and lets as much time pass after its question as that took: a command in a container costs a machine that has just started much, and questions
// are not to be what keeps everything from starting.
func (s *Stack) askOne(ctx context.Context, i Instruction, c docker.Container) {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return
	}
	q := i.Ready
	if q == nil {
		q = checkup(c)
	}
	s.mu.Lock()
	old := s.ready[c.ID]
	s.mu.Unlock()
	began := time.Now()
	why, unended := s.putAgain(ctx, q, c, old.unended)
	took := time.Since(began)
	s.mu.Lock()
	s.ready[c.ID] = readiness{fact: mooring.FactOf(why == ""), why: why, started: c.Started, at: time.Now(), unended: unended}
	s.mu.Unlock()
	if old.fact != mooring.FactOf(why == "") || !old.started.Equal(c.Started) {
		s.change()
	}
	rest := time.NewTimer(min(took, restLimit))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
	}
}

// putAgain puts the question, unless a command of the last one still goes on: they would become ever more. It returns why the container is not ready, or nothing, and
// which command goes on.
func (s *Stack) putAgain(ctx context.Context, q *Question, c docker.Container, unended string) (why, left string) {
	if unended != "" {
		limit, cancel := context.WithTimeout(ctx, q.limit())
		defer cancel()
		if on, err := s.engine.Unended(limit, unended); on || err != nil {
			return cmp.Or(text(err), "the last question has not been answered yet"), unended
		}
	}
	err := s.put(ctx, q, c)
	if e, ok := errors.AsType[*docker.UnendedError](err); ok {
		left = e.Command
	}
	return text(err), left
}

// checkup returns the container's own health check as a question.
func checkup(c docker.Container) *Question {
	if c.Check[0] == "CMD-SHELL" {
		return &Question{Exec: append([]string{"/bin/sh", "-c"}, c.Check[1:]...)}
	}
	return &Question{Exec: c.Check[1:]}
}

// put asks the question; an error says why the container is not ready.
func (s *Stack) put(ctx context.Context, q *Question, c docker.Container) error {
	ctx, cancel := context.WithTimeoutCause(ctx, q.limit(), fmt.Errorf("no answer in %s", q.limit()))
	defer cancel()
	switch {
	case len(q.Exec) > 0:
		exit, said, err := s.engine.Exec(ctx, c.ID, q.User, q.Exec)
		switch {
		case err != nil:
			return err
		case exit != 0:
			return fmt.Errorf("%s: exit code %d: %s", q.Exec[0], exit, oneLine(said))
		case !says(said, q.Says):
			return fmt.Errorf("%s: said %q, want %q", q.Exec[0], oneLine(said), q.Says)
		}
		return nil
	case q.HTTP != nil:
		address, err := addressOf(c, q.HTTP.Port)
		if err == nil {
			err = fetch(ctx, address, *q.HTTP, q.Says)
		}
		return err
	default:
		address, err := addressOf(c, q.TCP)
		if err == nil {
			err = dial(ctx, address)
		}
		return err
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// addressOf returns where the container's port is reached from the host.
func addressOf(c docker.Container, port int) (string, error) {
	switch {
	case c.OnHost:
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
	case len(c.Address) == 0:
		return "", errors.New("its container has no address")
	default:
		return net.JoinHostPort(c.Address[0], strconv.Itoa(port)), nil
	}
}

func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func fetch(ctx context.Context, address string, page Page, want string) error {
	scheme := "http"
	if page.TLS {
		scheme = "https"
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// The container's own address, on a network of this host: nobody is between, and no certificate has its name.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+page.Path, nil)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req) // a redirect is not followed: it leads elsewhere
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(res.Body, bodyLimit))
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("GET %s: status %d", page.Path, res.StatusCode)
	case !says(string(body), want):
		return fmt.Errorf("GET %s: said %q, want %q", page.Path, oneLine(string(body)), want)
	}
	return nil
}

// says reports whether what was said is, or begins with, what was wanted.
func says(said, want string) bool { return strings.HasPrefix(strings.TrimSpace(said), want) }

// oneLine shortens what somebody said so that it fits into a sentence.
func oneLine(said string) string {
	lines := slices.DeleteFunc(strings.Split(said, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
	said = strings.Join(lines, " | ")
	if r := []rune(said); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return said
}
