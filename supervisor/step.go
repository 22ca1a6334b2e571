package supervisor

import (
	"cmp"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
)

const (
	steady     = 3 * time.Second  // a service of which nobody can tell whether it is ready is, once it has run so long
	stable     = 10 * time.Minute // a service that was well for so long has all its tries again
	firstPause = time.Second      // between two tries; each pause is twice the one before
	lastPause  = time.Minute
	flushPause = 5 * time.Second
	reading    = 30 * time.Second // for compose to read the project, on a machine that has just started
)

// Step returns the recovery as it is after the observation, and what is to be done. It reads no clock and does no I/O.
//
// Actions are not remembered: one that was not carried out, because the supervisor was killed before, is asked for again. What came of one is
// remembered when the observation tells.
func Step(r Recovery, o Observation, l Limits) (Recovery, []Action) {
	s := &step{r: r.clone(), o: o, limits: l}
	if s.r.Boot != o.Boot.ID {
		s.begin()
	}
	before := s.r.Phase
	s.look()
	s.followImages()
	s.takeOutcomes()
	s.follow()
	s.findObstacles()
	s.awaitImages()
	s.advance()
	s.mend()
	s.mindDoors()
	s.prove()
	s.explain()
	s.r.Conditions = s.conditions()
	s.tell(before)
	return s.r, s.actions
}

// step is one call of Step under way.
type step struct {
	r      Recovery
	o      Observation
	limits Limits

	services  []Service // each after those that it depends on
	volumes   map[mooring.Name]Volume
	beyond    map[ServiceName]bool // services that depend on the door: their turn comes after it
	obstacles map[ServiceName]obstacle
	readable  bool   // the registry's storage
	awaits    string // what of the images is waited for; empty: nothing
	actions   []Action
}

// begin begins a new recovery in a new boot. What a person stopped is all that is kept of the last.
func (s *step) begin() {
	old, boot := s.r, s.o.Boot
	origin := Failover
	switch {
	case boot.Clean == mooring.Yes:
		origin = Reboot
	case len(old.Notes) > 0 && old.Boot == "":
		origin = Unclear
	case old.Boot == "":
		origin = First
	}
	s.r = Recovery{
		ID: s.o.Now.UTC().Format("20060102T150405Z"), Boot: boot.ID, Origin: origin, Died: boot.Seen, Booted: boot.Started, Began: s.o.Now,
		Phase: Fencing, Since: s.o.Now, Timeline: []Passage{{Phase: Fencing, From: s.o.Now}},
	}
	if old.Boot == "" {
		s.r.Notes = old.Notes
	}
	for _, t := range old.Services {
		if t.Stopped {
			s.r.Services = append(s.r.Services, Track{Name: t.Name, Stopped: true})
		}
	}
}

// known says whether it is known which services there are, and how they are. What the containers tell while the project cannot be read may have no order and no
// door: it has to do only where the project was given time to be read.
func (s *step) known() bool {
	return s.o.Docker.OK() && (s.o.Project.OK() || len(s.o.Services) > 0 && !s.o.Project.Pending && s.o.Now.Sub(s.r.Began) >= reading)
}

// look puts the services into their order, and finds the volumes that they need.
func (s *step) look() {
	s.volumes = make(map[mooring.Name]Volume)
	for _, v := range s.o.Volumes {
		s.volumes[v.Name] = v
	}
	if !s.known() {
		return
	}
	s.services = inOrder(s.o.Services)
	s.beyond = make(map[ServiceName]bool)
	for _, v := range s.services {
		s.beyond[v.Name] = slices.ContainsFunc(v.After, func(dep ServiceName) bool {
			return s.service(dep).Entry || s.beyond[dep]
		})
	}
	needed := make(map[mooring.Name]bool)
	for _, v := range s.services {
		for _, name := range v.Needs {
			needed[name] = true
		}
	}
	s.r.Volumes = []Volume{}
	for _, v := range s.o.Volumes {
		if needed[v.Name] {
			s.r.Volumes = append(s.r.Volumes, v)
		}
	}
	slices.SortFunc(s.r.Volumes, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
}

// inOrder returns the services, each after those that it depends on, and else by name. Names that no service has are no dependencies, and a circle is
// cut where it is met.
func inOrder(services []Service) []Service {
	byName := make(map[ServiceName]Service, len(services))
	names := make([]ServiceName, 0, len(services))
	for _, v := range services {
		byName[v.Name] = v
		names = append(names, v.Name)
	}
	slices.Sort(names)
	ordered := make([]Service, 0, len(services))
	var visit func(ServiceName)
	visit = func(name ServiceName) {
		v, there := byName[name]
		if !there {
			return
		}
		delete(byName, name)
		for _, dep := range slices.Sorted(slices.Values(v.After)) {
			visit(dep)
		}
		ordered = append(ordered, v)
	}
	for _, name := range names {
		visit(name)
	}
	return ordered
}

// service returns what is seen of a service; nothing, of one that there is not.
func (s *step) service(name ServiceName) Service {
	i := slices.IndexFunc(s.services, func(v Service) bool { return v.Name == name })
	if i < 0 {
		return Service{}
	}
	return s.services[i]
}

// track returns what is remembered of a service, for changing it.
func (s *step) track(name ServiceName) *Track {
	i, found := slices.BinarySearchFunc(s.r.Services, name, func(t Track, n ServiceName) int { return cmp.Compare(t.Name, n) })
	if !found {
		s.r.Services = slices.Insert(s.r.Services, i, Track{Name: name})
	}
	return &s.r.Services[i]
}

// up says whether the service does what it is there for.
func (s *step) up(v Service) bool {
	return v.Ready == mooring.Yes ||
		v.Ready == mooring.Unknown && v.State == Running && s.o.Now.Sub(v.StartedAt) >= steady
}

// follow remembers how the services are.
func (s *step) follow() {
	s.r.Evidence = append(s.r.Evidence, s.o.Evidence...)
	if s.o.Doors.At.After(s.r.Doors.Answer.At) {
		s.r.Doors.Answer = s.o.Doors
	}
	if s.known() && s.o.Project.OK() {
		s.r.Services = slices.DeleteFunc(s.r.Services, func(t Track) bool {
			return !slices.ContainsFunc(s.services, func(v Service) bool { return v.Name == t.Name })
		})
	}
	for _, v := range s.services {
		s.followOne(v, s.track(v.Name))
	}
	if s.o.Heal || s.o.Up {
		s.heal()
	}
}

func (s *step) followOne(v Service, t *Track) {
	now, before := s.o.Now, t.State
	t.State = v.State
	switch {
	case v.State == Running || v.State == Restarting:
		t.Stopped, t.Wanted = false, false
	case t.Wanted:
		t.Stopped = false
	case v.State == Paused || v.Stopped == mooring.Yes:
		t.Stopped = true
	case v.Stopped == mooring.No:
		t.Stopped = false
	}
	if v.Asking && t.Ready && t.Run.Equal(v.StartedAt) {
		return // it is as the supervisor before this one found it, until it answers
	}
	if v.Lost && before != Dead {
		t.Tries, t.Next = 0, time.Time{} // the death of dockerd is no failure of the service's, ready as yet or not
	}
	if t.Ready = s.up(v); !t.Ready {
		t.Up = time.Time{}
		if t.Down.IsZero() {
			t.Down = now
		}
		return
	}
	t.Down, t.Run, t.GaveUp, t.Forced, t.Err = time.Time{}, v.StartedAt, false, false, ""
	if t.ReadyAt.IsZero() {
		t.ReadyAt = now
	}
	if t.Up.IsZero() {
		t.Up = now
	}
	if t.Tries > 0 && now.Sub(t.Up) >= stable {
		t.Tries = 0
	}
}

// heal gives everything its tries again, because a person asked.
func (s *step) heal() {
	for _, v := range s.services {
		t := s.track(v.Name)
		t.Tries, t.Next, t.GaveUp, t.Forced = 0, time.Time{}, false, !t.Ready
		if s.o.Up && t.Stopped {
			t.Stopped, t.Wanted, t.Down = false, true, s.o.Now
		}
	}
	s.r.Doors.Reloads, s.r.Doors.Tries, s.r.Doors.Next, s.r.Doors.GaveUp = 0, 0, time.Time{}, false
	p := &s.r.Images
	p.Tries, p.Next, p.GaveUp, p.Keeping.Next, p.Rehashing.Next = 0, time.Time{}, false, time.Time{}, time.Time{}
	p.Again = p.Damage.grave() || p.Damage.Unfinished > 0 || p.Verdict.Gone > 0 || p.Verdict.Tags == mooring.No
}

// takeOutcomes remembers what came of actions.
func (s *step) takeOutcomes() {
	for _, e := range s.o.Ended {
		switch e.Verb {
		case Ask, LetGo: // the observation has the answer
		case Verify:
			s.verified(e)
		case Keep:
			s.r.Images.Keeping.ended(e)
		case Rehash:
			s.r.Images.Rehashing.ended(e)
		case Notify:
			s.told(e)
		case Reload:
			s.r.Doors.Reloads++
			if e.Err == "" {
				s.r.Doors.Next = e.At.Add(reloadGrace)
			}
		case Flush:
			t := s.track(e.Service)
			t.Next, t.FlushErr = e.At.Add(flushPause), e.Err
			// A cache that was started anew meanwhile holds again what its disk says.
			if v := s.service(e.Service); e.Err == "" && !v.StartedAt.After(e.Began) {
				t.Flushed = v.StartedAt
			}
		case Start, Restart:
			t := s.track(e.Service)
			t.Err, t.Forced = e.Err, false
			if e.Verb == Restart && s.service(e.Service).Entry {
				s.r.Doors.Tries++
				s.r.Doors.Next = e.At.Add(restartGrace)
				break
			}
			t.Tries++
			t.Next = e.At.Add(pause(t.Tries))
		}
	}
}

// pause returns how long to wait after so many tries.
func pause(tries int) time.Duration {
	if tries > 6 {
		return lastPause
	}
	return min(firstPause<<max(tries-1, 0), lastPause)
}

// act asks for an action, unless something is being done to the service already.
func (s *step) act(verb Verb, service ServiceName) {
	busy := slices.ContainsFunc(s.o.Underway, func(a Action) bool {
		return a.Service == service && (service != "" || a.Verb == verb)
	})
	if !busy {
		s.actions = append(s.actions, Action{Verb: verb, Service: service})
	}
}
