package supervisor

import (
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
)

// unwell is how long a service that was ready may be unready before it is restarted. One that was not ready since it was started is left alone, for
// it may be replaying a log.
const unwell = 2 * time.Minute

// mend starts what is to be up and is not, in its order, and restarts what has fallen over. The same rules hold in a recovery and ever after.
func (s *step) mend() {
	for _, v := range s.services {
		t := s.track(v.Name)
		if !s.wanted(v) || s.o.Now.Before(t.Next) {
			continue
		}
		switch {
		case down(v):
			if s.turn(v, t) {
				s.try(Start, v, t)
			}
		case v.Cache && t.Ready && !t.Flushed.Equal(v.StartedAt):
			s.act(Flush, v.Name)
		case s.fell(v, t):
			s.try(Restart, v, t)
		}
	}
}

// try asks for a try, or gives up loudly when there were enough.
func (s *step) try(verb Verb, v Service, t *Track) {
	if t.Tries < s.limits.Tries {
		s.act(verb, v.Name)
		return
	}
	if !t.GaveUp {
		t.GaveUp = true
		s.r.Message = Message{Due: true}
	}
}

// down says that nobody but us would start the service.
func down(v Service) bool {
	switch v.State {
	case Missing, Created, Exited, Dead:
		return v.Ready != mooring.Yes // it has not done what it runs for once
	case Running, Restarting, Paused:
		return false
	default:
		return false
	}
}

// fell says that a service was ready since it was started, and has not been for a while. The door is not to blame while something behind it is not ready.
func (s *step) fell(v Service, t *Track) bool {
	return s.r.Phase.final() && v.State == Running && v.Ready == mooring.No && !t.Ready &&
		!t.Run.IsZero() && t.Run.Equal(v.StartedAt) && s.o.Now.Sub(t.Down) >= unwell &&
		!(v.Entry && s.anyBehind(v, unready))
}

func unready(t *Track) bool { return !t.Ready && !t.Stopped && !t.GaveUp }

// turn says whether it is the service's turn to be started: all that it depends on is ready. What a person stopped or what was given up is not waited
// for, and nothing is waited for longer than a start may take. The door's turn comes when all else is done, caches are flushed, and the images are proved.
func (s *step) turn(v Service, t *Track) bool {
	if v.Entry && (s.awaits != "" || s.r.Phase == Fencing || s.r.Phase == Attaching || s.r.Phase == Starting) {
		return false
	}
	if s.o.Now.Sub(t.Down) >= s.limits.Starting {
		return true
	}
	return !slices.ContainsFunc(s.services, func(other Service) bool {
		o := s.track(other.Name)
		switch {
		case !s.wanted(other) || o.GaveUp:
			return false
		case slices.Contains(v.After, other.Name):
			return !o.Ready
		default:
			return v.Entry && other.Cache && o.Ready && !o.Flushed.Equal(other.StartedAt)
		}
	})
}
