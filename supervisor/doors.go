package supervisor

import (
	"slices"
	"time"
)

const (
	askEagerly   = 2 * time.Second  // between two questions while the answer matters
	askAtRest    = 30 * time.Second // and while all is well
	wrongGrace   = 5 * time.Second  // a wrong answer may be a hiccup
	reloadGrace  = 10 * time.Second // for a reload to make the answer right
	restartGrace = 20 * time.Second // and for a restart
	reloads      = 1                // before the entry service is restarted
	doorsCure    = "docker compose ps; docker compose logs"
)

// mindDoors asks the doors, and cures a wrong answer. A proxy that found its upstreams under addresses that are others' by now reloads, which breaks
// no connection, and is restarted only if that is not enough. Neither is done before all services behind it are ready: till then the proxy is not to blame.
func (s *step) mindDoors() {
	d := &s.r.Doors
	if !s.known() || !s.open() || !s.r.Phase.final() && s.r.Phase != Verifying {
		return
	}
	entry, entries := Service{}, true
	for _, v := range s.services {
		if v.Entry && s.wanted(v) {
			entry = v
			entries = entries && s.track(v.Name).Ready
		}
	}
	if !entries {
		if d.Answer.Right {
			d.Answer = Answer{} // of a door that is down by now
		}
		return
	}
	if s.o.Now.Sub(d.Answer.At) >= s.pauseOfQuestions() {
		s.act(Ask, "")
	}
	if d.Answer.At.IsZero() || d.Answer.Right {
		d.Wrong, d.Reloads, d.Tries, d.GaveUp = time.Time{}, 0, 0, false
		return
	}
	if d.Wrong.IsZero() {
		d.Wrong = d.Answer.At
	}
	if entry.Name != "" {
		s.cureDoors(d, entry)
	}
}

// cureDoors does something about a wrong answer, if it is time, and one came since something was last done.
func (s *step) cureDoors(d *Doors, entry Service) {
	now := s.o.Now
	fresh := func(t *Track) bool { return !t.Ready || now.Sub(t.Up) < wrongGrace }
	switch {
	case now.Sub(d.Wrong) < wrongGrace, now.Before(d.Next), fresh(s.track(entry.Name)), s.anyBehind(entry, fresh):
	case d.Reloads < reloads:
		s.act(Reload, entry.Name)
	case d.Tries < s.limits.Tries:
		if now.Sub(d.Next) >= pause(d.Tries) {
			s.act(Restart, entry.Name)
		}
	case !d.GaveUp:
		d.GaveUp = true
		s.r.Message = Message{Due: true}
	}
}

// anyBehind says whether any of the services that the entry service depends on, directly or not, is so.
func (s *step) anyBehind(entry Service, is func(*Track) bool) bool {
	behind := entry.After
	for _, v := range slices.Backward(s.services) { // dependencies come before those that depend on them
		if !slices.Contains(behind, v.Name) {
			continue
		}
		if is(s.track(v.Name)) {
			return true
		}
		behind = append(slices.Clone(behind), v.After...)
	}
	return false
}

func stopped(t *Track) bool { return t.Stopped }

// pauseOfQuestions returns how long an answer is good for. After a service was started again it is not good for long: that is when addresses change hands.
func (s *step) pauseOfQuestions() time.Duration {
	if s.r.Phase != Settled || !s.r.Doors.Answer.Right {
		return askEagerly
	}
	for _, v := range s.services {
		if v.StartedAt.After(s.r.Doors.Answer.At) {
			return askEagerly
		}
	}
	return askAtRest
}
