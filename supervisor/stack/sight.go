package stack

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// The labels that both versions of compose give their containers.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	// service:condition:whether a restart is passed on, for each that it depends on
	labelDependsOn = "com.docker.compose.depends_on"
	labelOneOff    = "com.docker.compose.oneoff" // of a `compose run`; v1 writes True and False, v2 likewise
)

const (
	// lookLimit is how long Docker may take to say one thing. While it mounts a container's volumes it does not answer for that container.
	lookLimit = 2 * time.Second
	// slowly is the time between two looks when Docker's events tell of no change.
	slowly = time.Minute
	// listenPause is the time between two tries to listen to Docker.
	listenPause = 500 * time.Millisecond
	// hearsay is how long the end of a container is not believed before its event has come, which tells who ended it.
	hearsay = 3 * time.Second
)

// sight is what was last seen of the containers.
type sight struct {
	containers map[string]docker.Container // by ID; those of `compose run` are not among them
	dirty      map[string]bool             // something happened to these
	full       bool                        // look at all of them
	at         time.Time
	err        error // why it could not be looked

	listening time.Time // since when Docker's events are heard; zero: they are not
	served    time.Time // when the dockerd that was waited for served its API; zero if it did when the stack was made
	root      string    // of dockerd's data; empty: not known yet
	keeps     bool      // dockerd takes containers over that ran before it was started
	lost      map[string]bool
	witnessed map[string]witnessed
}

// listen hears Docker's events until ctx ends.
func (s *Stack) listen(ctx context.Context) {
	waited := false
	again := time.NewTicker(listenPause)
	defer again.Stop()
	for {
		begun := time.Now() // before Docker begins to tell: the answer may take its time
		opened := func() {
			s.mu.Lock()
			s.seen.listening, s.seen.full = begun, true
			clear(s.seen.witnessed)
			s.seen.served, s.seen.root = time.Time{}, ""
			if waited {
				s.seen.served = begun
			}
			s.mu.Unlock()
			s.change()
		}
		err := s.engine.Events(ctx, labelProject, opened, s.hear)
		s.mu.Lock()
		lost := !s.seen.listening.IsZero()
		s.seen.listening, s.seen.full = time.Time{}, true
		clear(s.seen.witnessed)
		s.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if lost {
			s.cfg.Log.Debug("docker's events ended", "err", err)
			s.change()
		}
		waited = true
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// hear takes in one event.
func (s *Stack) hear(e docker.Event) {
	if e.Labels[labelOneOff] == "True" {
		return
	}
	s.mu.Lock()
	if name := s.projectName(); name != "" && e.Labels[labelProject] != name {
		s.mu.Unlock()
		return
	}
	s.seen.dirty[e.ID] = true
	s.seen.witnessed[e.ID] = s.seen.witnessed[e.ID].hear(e)
	w := s.seen.witnessed[e.ID]
	s.mu.Unlock()
	if e.Action == "destroy" {
		s.removed(supervisor.ServiceName(e.Labels[labelService]), e.ID, w)
	}
	s.change()
}

// removed keeps that a person has removed the service's container: one that a person had stopped before, or that was killed for it.
func (s *Stack) removed(name supervisor.ServiceName, id string, w witnessed) {
	kept, ok := s.memory.recall(name)
	if w.killed || ok && kept.Container == id && kept.Person == mooring.Yes {
		s.keep(map[supervisor.ServiceName]memo{name: {Person: mooring.Yes}}, nil)
	}
}

func (s *Stack) keep(keep map[supervisor.ServiceName]memo, forget []supervisor.ServiceName) {
	if err := s.memory.update(keep, forget); err != nil {
		s.cfg.Log.Error("memory of stopped services", "err", err)
	}
}

// projectName returns the project's name as far as it is known; the caller holds the mutex.
func (s *Stack) projectName() string {
	if s.project.known {
		return s.project.project.Name
	}
	if s.cfg.Files.Project != "" {
		return s.cfg.Files.Project
	}
	return s.cfg.Files.name() // as compose would, from the directory
}

// look sees to it that what is known of the containers is what Docker says. It asks only for what has changed.
func (s *Stack) look(ctx context.Context) error {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	full := s.seen.full || s.seen.listening.IsZero()
	due := full || len(s.seen.dirty) > 0 || time.Since(s.seen.at) > slowly
	dirty, known, name := maps.Clone(s.seen.dirty), maps.Clone(s.seen.containers), s.projectName()
	root, keeps := s.seen.root, s.seen.keeps
	err := s.seen.err
	if due {
		s.seen.full = false
		clear(s.seen.dirty)
	}
	s.mu.Unlock()
	if !due {
		return err
	}
	listCtx, cancel := context.WithTimeout(ctx, lookLimit)
	list, err := s.engine.List(listCtx, labelProject+"="+name)
	if err == nil && root == "" {
		root, keeps, err = s.engine.Daemon(listCtx)
	}
	cancel()
	var found map[string]docker.Container
	var again []string
	if err == nil {
		found, again = s.inspect(ctx, list, known, func(id string) bool { return full || dirty[id] })
	}
	var lost map[string]bool
	if !keeps {
		lost = lostContainers(found, s.cfg.DaemonFile)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.err = err
	if err != nil {
		s.seen.full = true
		return err
	}
	s.seen.containers, s.seen.at, s.seen.root, s.seen.keeps, s.seen.lost = found, time.Now(), root, keeps, lost
	for _, id := range again {
		s.seen.dirty[id] = true
	}
	return nil
}

// inspect looks at those of the listed containers that are not known as they are, all at the same time. Those for which Docker did not answer stay as
// they were, but for the state that the list tells, and are to be looked at again.
func (s *Stack) inspect(ctx context.Context, list []docker.Summary, known map[string]docker.Container, dirty func(string) bool) (map[string]docker.Container, []string) {
	var mu sync.Mutex
	var again []string
	found := make(map[string]docker.Container, len(list))
	var all sync.WaitGroup
	for _, l := range list {
		if l.Labels[labelOneOff] == "True" {
			continue
		}
		old, ok := known[l.ID]
		if ok && !dirty(l.ID) && old.State == l.State {
			mu.Lock()
			found[l.ID] = old
			mu.Unlock()
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, lookLimit)
			defer cancel()
			c, err := s.engine.Container(ctx, l.ID)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && ok && s.untold(c):
				found[l.ID] = old
				again = append(again, l.ID)
			case err == nil:
				found[l.ID] = c
			case errors.Is(err, mooring.ErrNotFound): // removed since it was listed
			default:
				old.ID, old.State, old.Labels = l.ID, l.State, l.Labels
				found[l.ID] = old
				again = append(again, l.ID)
			}
		})
	}
	all.Wait()
	return found, again
}

// untold reports whether the container has just ended and Docker's event of that is still to come.
func (s *Stack) untold(c docker.Container) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.seen.listening
	return c.State == "exited" && !since.IsZero() && c.Finished.After(since) && time.Since(c.Finished) < hearsay && !s.seen.witnessed[c.ID].ended
}

// requested reads Docker's record of whether its API was asked to signal the container. It is no part of the API; Docker has kept it under this
// name since 1.10, and goes by it itself for the restart policy unless-stopped.
func requested(root, id string) mooring.Fact {
	if root == "" {
		return mooring.Unknown
	}
	text, err := os.ReadFile(filepath.Join(root, "containers", id, "config.v2.json"))
	if err != nil {
		return mooring.Unknown
	}
	var record struct {
		HasBeenManuallyStopped *bool
	}
	if err := json.Unmarshal(text, &record); err != nil || record.HasBeenManuallyStopped == nil {
		return mooring.Unknown
	}
	return mooring.FactOf(*record.HasBeenManuallyStopped)
}

// written returns when the file was written last, or zero.
func written(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
