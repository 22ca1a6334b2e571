// Package stack looks after one compose project: it reads it with compose's own command, observes its containers through Docker's API, asks them whether they are
// ready, tries whether their directories can be written, and starts, restarts, reloads and flushes them. It is the supervisor's [supervisor.Stack].
//
// It decides nothing about the order or the moment of anything. It never writes into a project's main file, never makes a container anew that exists, never
// starts what it was not asked to start, and stores nothing in a container or a volume.
// What has to be known of a particular stack beside its compose file is data: a [Profile].
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// NoEntry is the [Config.Entry] of a stack in which every service is started in its turn.
const NoEntry = "none"

// Config says what is looked after, and how.
type Config struct {
	Files   Files
	Profile Profile
	// Entry is the service that opens the doors. Empty: as the profile or the project has it.
	Entry supervisor.ServiceName
	// MustBeMounted are directories of the host on which something has to be mounted before a service that binds one of them, or anything
	// below it, may start.
	MustBeMounted []string
	Verify        Verify
	// Memory is the file in which it is kept who stopped what is down.
	Memory string
	// Probe is the command that calls [ProbeMain] with its last argument, as the user that it is started by.
	Probe []string
	// DaemonFile is the file into which dockerd writes its process ID when it starts, before it looks at its containers: /run/docker.pid.
	DaemonFile string
	Log        *slog.Logger
}

// Stack is one compose project. Make it with [New]; [Stack.Run] must run for it to hear of changes.
type Stack struct {
	cfg     Config
	engine  *docker.Engine
	memory  memory
	prober  prober
	changed chan struct{}
	read    chan struct{} // closed when the project was read for the first time, or could not be
	looking chan struct{} // held by whoever looks at the containers
	making  chan struct{} // held by whoever has compose make something: it is not safe against itself
	turns   chan struct{} // held by whoever asks a container, and for a while after: as many at once as there are processors

	mu      sync.Mutex
	project reading
	seen    sight
	ready   map[string]readiness // by container
	probes  map[dirKey]probed
	volumes map[string]volume
	marks   []string // directories that could not be made immutable, and why
}

// reading is what reading the project came to.
type reading struct {
	project Project
	known   bool // it was read once, and project is what it was then
	err     error
	stamp   string // of the files that it was read from
	compose composeCommand
	begun   bool
}

// New returns the stack of the configuration, with Docker's API at the engine. Nothing is contacted yet. A damaged memory is an error beside a stack that works.
func New(cfg Config, engine *docker.Engine) (*Stack, error) {
	for _, dir := range cfg.MustBeMounted {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("must_be_mounted %q: want an absolute path: %w", dir, mooring.ErrInvalid)
		}
	}
	if cfg.Files.Dir == "" && len(cfg.Files.Compose) == 0 {
		return nil, fmt.Errorf("stack: want the project's directory: %w", mooring.ErrInvalid)
	}
	s := &Stack{
		cfg: cfg, engine: engine, memory: memory{file: cfg.Memory}, prober: newProber(cfg.Probe),
		changed: make(chan struct{}, 1), read: make(chan struct{}), looking: make(chan struct{}, 1), making: make(chan struct{}, 1),
		turns: make(chan struct{}, runtime.GOMAXPROCS(0)),
		ready: make(map[string]readiness), probes: make(map[dirKey]probed), volumes: make(map[string]volume),
		seen: sight{containers: make(map[string]docker.Container), dirty: make(map[string]bool), witnessed: make(map[string]witnessed)},
	}
	return s, s.memory.load()
}

// Changed gets a value when Docker told of something that may change what Observe returns, or when a question was answered otherwise than before.
func (s *Stack) Changed() <-chan struct{} { return s.changed }

func (s *Stack) change() {
	select {
	case s.changed <- struct{}{}:
	default: // one waits already
	}
}

// tick is how often the project's files, the questions and the directories are looked after; each has a pace of its own.
const tick = time.Second

// Run listens to Docker, reads the project when its files change, and asks the services, until ctx ends. It waits for all that it has started.
func (s *Stack) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.listen(ctx) })
	all.Go(func() { s.keepProject(ctx) })
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		s.guardAll()
		s.askAll(ctx, &all)
		s.probeAll(ctx, &all)
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// keepProject reads the project at the beginning and when its files change. While it cannot be read it tries again, ever more slowly.
func (s *Stack) keepProject(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	var retry time.Time
	pause := tick
	for {
		stamp := s.cfg.Files.stamp()
		now := time.Now()
		s.mu.Lock()
		last := s.project
		s.mu.Unlock()
		if !last.begun || stamp != last.stamp || last.err != nil && now.After(retry) {
			if stamp != last.stamp {
				pause = tick
			}
			s.readProject(ctx, stamp)
			pause = min(2*pause, time.Minute)
			retry = time.Now().Add(pause)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// readLimit is for docker-compose, which is slow, on a machine that has just started.
const readLimit = 2 * time.Minute

func (s *Stack) readProject(ctx context.Context, stamp string) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, errors.New("compose took too long"))
	defer cancel()
	s.mu.Lock()
	compose := s.project.compose
	s.mu.Unlock()
	var p Project
	var err error
	if compose == nil {
		compose, err = findCompose(ctx)
	}
	if err == nil {
		p, err = s.cfg.Files.read(ctx, compose)
	}
	s.mu.Lock()
	first := !s.project.begun
	s.project.begun, s.project.stamp, s.project.err = true, stamp, err
	if err == nil {
		s.project.project, s.project.known, s.project.compose = p, true, compose
	} else {
		s.project.compose = nil // it may have been removed, or replaced by the other one
	}
	s.seen.full = true
	s.mu.Unlock()
	if first {
		close(s.read)
	}
	s.change()
}

// reachOf returns err as what could not be reached, and the cure that it carries or the one given.
func reachOf(err error, cure string) supervisor.Reach {
	if err == nil {
		return supervisor.Reach{}
	}
	if own := hint(err); own != "" {
		cure = own
	}
	return supervisor.Reach{Err: err.Error(), Cure: cure}
}

var _ supervisor.Stack = (*Stack)(nil)
