package stack

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// view is all that is known at one moment, from which the services' states are put together.
type view struct {
	project    Project
	graph      map[supervisor.ServiceName][]supervisor.ServiceName
	entry      supervisor.ServiceName
	profile    Profile
	containers map[supervisor.ServiceName][]docker.Container
	ready      map[string]readiness
	lost       map[string]bool // containers that Docker says run, and does not reach
	stopped    map[supervisor.ServiceName]mooring.Fact
	volumes    map[string]volume
	dirs       func(supervisor.ServiceName) []supervisor.Dir
}

// Observe returns what is known of the project and its containers. It waits for Docker, and for the first reading of the project, no longer than a few seconds.
func (s *Stack) Observe(ctx context.Context) supervisor.StackState {
	err := s.look(ctx)
	first, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	select {
	case <-s.read:
	case <-first.Done():
	}
	v, project := s.view(ctx)
	state := supervisor.StackState{
		Docker:  reachOf(err, "systemctl status docker; journalctl -u docker"),
		Project: project,
		Storage: v.storage(),
	}
	for _, name := range v.names() {
		state.Services = append(state.Services, v.service(name))
	}
	return state
}

// view gathers what is known.
func (s *Stack) view(ctx context.Context) (view, supervisor.Reach) {
	s.mu.Lock()
	r := s.project
	v := view{profile: s.cfg.Profile, project: r.project, containers: byService(s.seen.containers), ready: maps.Clone(s.ready), lost: s.seen.lost}
	s.mu.Unlock()
	reach := reachOf(r.err, "")
	if !r.begun {
		reach = supervisor.Reach{Err: "the compose project has not been read yet", Cure: "wait", Pending: true}
	}
	ordered := v.project
	if !r.known {
		var told bool
		ordered, told = labelled(v.containers)
		reach.Pending = reach.Pending && !told
	}
	v.graph = dependencyGraph(ordered, v.profile)
	v.entry = entry(ordered, v.profile, s.cfg.Entry, v.graph)
	v.volumes = s.lookUpVolumes(ctx, v)
	v.stopped = s.judge(v)
	mounted, err := mountpoints()
	if err != nil {
		s.cfg.Log.Error("list mounts", "err", err)
	}
	v.dirs = func(name supervisor.ServiceName) []supervisor.Dir { return s.dirs(v, name, mounted) }
	return v, reach
}

// byService sorts the containers by their services, the first of each first.
func byService(all map[string]docker.Container) map[supervisor.ServiceName][]docker.Container {
	by := make(map[supervisor.ServiceName][]docker.Container)
	for _, c := range all {
		if name := supervisor.ServiceName(c.Labels[labelService]); name != "" {
			by[name] = append(by[name], c)
		}
	}
	for _, list := range by {
		slices.SortFunc(list, func(a, b docker.Container) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
		})
	}
	return by
}

// names returns the project's services; while it was never read, those of which containers tell.
func (v view) names() []supervisor.ServiceName {
	if len(v.project.Services) > 0 {
		return sorted(v.project.Services)
	}
	return sorted(v.containers)
}

// service puts one service's state together.
func (v view) service(name supervisor.ServiceName) supervisor.Service {
	worst := v.worst(name)
	s := supervisor.Service{
		Name: name, Needs: v.needs(name), Dirs: v.dirs(name), After: v.graph[name], Entry: name == v.entry,
		Cache: v.profile.Services[name].Flush != nil, State: supervisor.Missing, Stopped: v.stopped[name],
	}
	if worst != nil {
		s.State, s.Exit, s.Error = v.state(*worst), worst.Exit, worst.Error
		s.Restarts, s.StartedAt, s.Lost = worst.Restarts, worst.Started, v.lost[worst.ID]
	}
	s.Ready, s.ReadyWhy = v.readiness(name, worst)
	s.Asking = s.ReadyWhy == unansweredWhy
	return s
}

// worst returns the container by which the service is judged, or nil.
func (v view) worst(name supervisor.ServiceName) *docker.Container {
	list := v.containers[name]
	if len(list) == 0 {
		return nil
	}
	worst := slices.MinFunc(list, func(a, b docker.Container) int {
		return cmp.Or(rank(string(v.state(a)))-rank(string(v.state(b))), cmp.Compare(health(a.Health), health(b.Health)))
	})
	return &worst
}

// rank orders the states, the worst first.
func rank(s string) int {
	return slices.Index([]string{"dead", "exited", "created", "paused", "restarting", "running"}, s)
}

func health(s string) int { return slices.Index([]string{"unhealthy", "starting", "healthy", ""}, s) }

// state returns the container's state; one that is being removed counts as dead, and so does one that Docker has lost.
func (v view) state(c docker.Container) supervisor.ContainerState {
	if c.State == "removing" || v.lost[c.ID] {
		return supervisor.Dead
	}
	return supervisor.ContainerState(c.State)
}

// needs returns the volumes of Mooring's driver that the service mounts.
func (v view) needs(name supervisor.ServiceName) []mooring.Name {
	var names []mooring.Name
	for _, m := range v.mounts(name) {
		driver := cmp.Or(m.Driver, v.volumes[m.Volume].driver)
		if vol := mooring.Name(m.Volume); m.Volume != "" && driver == mooring.DriverName && !slices.Contains(names, vol) {
			names = append(names, vol)
		}
	}
	return names
}

// mounts returns what the service mounts: as its container has it, which is what a start uses, or else as the project says.
func (v view) mounts(name supervisor.ServiceName) []docker.Mount {
	var all []docker.Mount
	for _, c := range v.containers[name] {
		for _, m := range c.Mounts {
			if m.Type == "bind" || m.Type == "volume" {
				all = append(all, m)
			}
		}
	}
	if len(v.containers[name]) > 0 {
		return all
	}
	for _, m := range v.project.Services[name].Mounts {
		all = append(all, docker.Mount{Volume: m.Volume, Driver: m.Driver, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return all
}

// once reports whether the service runs once and is left as it ended.
func (v view) once(name supervisor.ServiceName) bool {
	return v.profile.Services[name].Once || v.project.Services[name].Once
}

// readiness says whether the service does what it is there for.
func (v view) readiness(name supervisor.ServiceName, c *docker.Container) (mooring.Fact, string) {
	switch {
	case c == nil:
		return mooring.No, "it has no container"
	case v.once(name) && c.State == "exited" && c.Exit == 0 && !c.Started.IsZero():
		return mooring.Yes, ""
	case v.once(name) && c.State == "running":
		return mooring.No, "it runs once, and has not ended yet"
	case c.State != "running":
		return mooring.No, "its container is " + c.State
	case v.lost[c.ID]:
		return mooring.No, lostWhy
	case c.Health == "unhealthy":
		return mooring.No, "its health check says: " + cmp.Or(c.Said, "unhealthy")
	case c.Health == "healthy" && v.profile.Services[name].Ready == nil:
		return mooring.Yes, "" // whatever it said when it was asked before
	}
	if r := v.ready[c.ID]; r.started.Equal(c.Started) && r.fact != mooring.Unknown {
		return r.fact, r.why
	}
	if asks(v.profile.Services[name], *c) {
		return mooring.No, unansweredWhy
	}
	return mooring.Unknown, ""
}

// judge says of each service whether a person stopped it, and keeps what was found out.
func (s *Stack) judge(v view) map[supervisor.ServiceName]mooring.Fact {
	s.mu.Lock()
	blind := s.seen.err != nil || s.seen.at.IsZero()
	s.mu.Unlock()
	facts := make(map[supervisor.ServiceName]mooring.Fact)
	keep := make(map[supervisor.ServiceName]memo)
	var forget []supervisor.ServiceName
	for _, name := range v.names() {
		c := v.worst(name)
		kept, remembered := s.memory.recall(name)
		switch {
		case c == nil && (blind || remembered && kept.Container == ""):
			facts[name] = kept.Person
		case c == nil:
			facts[name] = mooring.Unknown
		case c.State == "paused":
			facts[name] = mooring.Yes // Docker never pauses anything by itself
		case c.State == "running" || c.State == "restarting":
			facts[name] = mooring.No
			if remembered && !blind {
				forget = append(forget, name)
			}
		case remembered && kept.Container == c.ID && kept.Finished.Equal(c.Finished):
			facts[name] = kept.Person
		case c.Finished.IsZero(): // it was made, and never ran
		default:
			facts[name] = s.ending(c).byPerson()
			if facts[name] != mooring.Unknown {
				keep[name] = memo{Container: c.ID, Finished: c.Finished, Person: facts[name]}
			}
		}
	}
	s.keep(keep, forget)
	if len(v.containers) == 0 && slices.Contains(slices.Collect(maps.Values(facts)), mooring.Yes) {
		for name := range facts { // the whole project was taken down, with what was not running
			facts[name] = mooring.Yes
		}
	}
	return facts
}

// ending returns what is known of the end of the container.
func (s *Stack) ending(c *docker.Container) ending {
	s.mu.Lock()
	w, root, served := s.seen.witnessed[c.ID], s.seen.root, s.seen.served
	alive := s.seen.err == nil && s.seen.at.After(w.at)
	s.mu.Unlock()
	return ending{
		Exit: c.Exit, Finished: c.Finished, Requested: requested(root, c.ID),
		Watched: w.ended, Killed: w.killed && !w.ours, Alive: alive,
		Daemon: written(s.cfg.DaemonFile), Served: served,
	}
}
