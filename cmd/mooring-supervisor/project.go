package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

// probeVerb is the argument by which this program is the child process that tries to write into a directory.
const probeVerb = "probe-directory"

// dockerdFile is written by dockerd when it starts.
const dockerdFile = "/run/docker.pid"

// project is the stack that the configuration names, with what it is made of. The zero value is no stack.
type project struct {
	stack  supervisor.Stack
	own    *stack.Stack
	engine *docker.Engine
	hold   bool // dockerd must not open the doors
	log    *slog.Logger
}

// holdEvery is how often it is looked whether dockerd would open the doors: an installer may have written the project anew.
const holdEvery = time.Minute

// newProject returns the stack that the configuration names; none, if it names none.
func newProject(cfg config.Supervisor, log *slog.Logger) (project, error) {
	if !cfg.Stack.Configured() {
		return project{}, nil
	}
	profile, err := stack.LoadProfile(cfg.Stack.Profile)
	if err != nil {
		return project{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return project{}, err
	}
	engine, err := docker.New(cfg.DockerHost)
	if err != nil {
		return project{}, err
	}
	own, err := stack.New(stack.Config{
		Files:   stack.Files{Dir: cfg.Stack.Directory, Compose: cfg.Stack.Files, Project: cfg.Stack.Project},
		Profile: profile, Entry: supervisor.ServiceName(cfg.Stack.Entry), MustBeMounted: cfg.Stack.MustBeMounted,
		Verify: verify(cfg.Verify), Memory: filepath.Join(cfg.StateDir, "stopped"), Probe: []string{self, probeVerb}, DaemonFile: dockerdFile, Log: log,
	}, engine)
	if own == nil {
		return project{}, errors.Join(err, engine.Close())
	}
	if err != nil {
		log.Error("begin anew", "err", err)
	}
	return project{stack: own, own: own, engine: engine, hold: cfg.Stack.HoldDoors, log: log}, nil
}

func verify(v config.Verify) stack.Verify {
	return stack.Verify{Account: v.Account, Password: v.Password, Image: v.Image, CAFile: v.CAFile, Host: v.Host}
}

// run does what the stack does besides being looked after, until ctx ends.
func (p project) run(ctx context.Context) {
	if p.own == nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.own.Run(ctx) })
	if p.hold {
		both.Go(func() { p.holdDoors(ctx) })
	}
	both.Wait()
}

// holdDoors sees to it, again and again, that dockerd does not start the entry service by itself. What keeps it from that is logged once.
func (p project) holdDoors(ctx context.Context) {
	every := time.NewTicker(holdEvery)
	defer every.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		written, err := p.own.CloseDoors(ctx)
		if written != "" {
			p.log.Info("dockerd does not open the doors any more", "file", written)
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			p.log.Warn("keep dockerd from opening the doors", "err", err)
		}
	}
}

// warnings returns what is wrong with how the stack is set up.
func (p project) warnings() []admin.Condition {
	if p.own == nil {
		return nil
	}
	return p.own.Conditions()
}

func (p project) close() error {
	if p.engine == nil {
		return nil
	}
	return p.engine.Close()
}
