package supervisor

import (
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
)

// advance goes on to the phase whose turn it is. A phase is over when nothing is waited for, or when its limit has passed; then what was
// waited for is written down, and the recovery goes on without it. No phase is gone back to.
func (s *step) advance() {
	for !s.r.Phase.final() {
		waits := s.waits(s.r.Phase)
		if len(waits) > 0 && !s.late() {
			s.r.Waits = waits
			return
		}
		s.r.Images.Late = s.r.Images.Late || s.r.Phase == Verifying && s.awaits != ""
		s.pass(s.next(waits), waits)
	}
	s.r.Waits = nil
	if s.r.Phase == Failed && s.well() {
		s.pass(Settled, nil)
	}
}

// late says that the phase's limit has passed. What comes after the proof of the images has its own time.
func (s *step) late() bool {
	spent := func(since time.Time) time.Duration { return s.o.Now.Sub(since) }
	limit := s.limits.of(s.r.Phase)
	if s.r.Phase != Verifying {
		return spent(s.r.Since) >= limit
	}
	return spent(s.r.Since) >= limit+s.limits.Images || s.awaits == "" && spent(s.r.Since) >= limit && spent(s.r.Images.Freed) >= limit
}

// next returns the phase after this one, of which so much was still waited for.
func (s *step) next(missed []string) Phase {
	switch s.r.Phase {
	case Fencing:
		return Attaching
	case Attaching:
		return Starting
	case Starting:
		if !s.known() {
			return Failed
		}
		return Verifying
	default:
		if len(missed) > 0 {
			return Failed
		}
		return Settled
	}
}

func (s *step) pass(next Phase, missed []string) {
	last := &s.r.Timeline[len(s.r.Timeline)-1]
	last.To, last.Missed = s.o.Now, append(slices.Clip(last.Missed), missed...)
	s.r.Phase, s.r.Since = next, s.o.Now
	s.r.Timeline = append(s.r.Timeline, Passage{Phase: next, From: s.o.Now})
}

// well says that nothing would be waited for if the recovery were verifying.
func (s *step) well() bool {
	return len(s.waits(Starting)) == 0 && len(s.waits(Verifying)) == 0
}

// waits returns what the phase waits for, each as a sentence without a full stop.
func (s *step) waits(p Phase) []string {
	// Attaching passes where nothing was known before it: the limit of Fencing has been waited for then. A supervisor that was restarted in it has still to read the project.
	if !s.known() && (p != Attaching || len(s.r.Services) > 0) {
		return []string{s.unknown()}
	}
	switch p {
	case Fencing:
		return s.waitsForVolumes(func(v Service) bool { return len(v.Needs) > 0 && !s.o.Plugin.OK() || s.needs(v, VolumeFenced) })
	case Attaching:
		return s.waitsForVolumes(func(v Service) bool { return !s.needs(v, VolumeFenced) })
	case Starting:
		return s.waitsForServices()
	case Verifying:
		return s.waitsForDoors()
	default:
		return nil
	}
}

// unknown says why it is not known which services there are, with the cure.
func (s *step) unknown() string {
	reach := s.o.Docker
	if reach.OK() {
		reach = s.o.Project
	}
	return sentence(reach.Err, reach.Cure)
}

// waitsForVolumes returns the passing obstacles of services themselves, as far as they count.
func (s *step) waitsForVolumes(counts func(Service) bool) []string {
	var waits []string
	for _, v := range s.services {
		o, blocked := s.obstacles[v.Name]
		if blocked && o.Passing && o.Root == v.Name && !s.track(v.Name).Stopped && counts(v) {
			waits = append(waits, sentence(o.Text, o.Cure))
		}
	}
	return waits
}

func (s *step) needs(v Service, state VolumeState) bool {
	return slices.ContainsFunc(v.Needs, func(n mooring.Name) bool { return s.volumes[n].State == state })
}

// waitsForServices returns which services that are to be up, but the door and what comes after it, are not, and which caches are still to be flushed.
func (s *step) waitsForServices() []string {
	var waits []string
	for _, v := range s.services {
		t := s.track(v.Name)
		switch {
		case v.Entry || s.beyond[v.Name] || !s.wanted(v) || t.GaveUp:
		case !t.Ready:
			waits = append(waits, sentence(s.why(v), cureOf(v)))
		case v.Cache && !t.Flushed.Equal(v.StartedAt):
			waits = append(waits, sentence("the cache of "+string(v.Name)+" is not flushed", t.FlushErr))
		}
	}
	return waits
}

// waitsForDoors returns what keeps the doors from being open and answering right. Doors that are kept shut are not waited for.
func (s *step) waitsForDoors() []string {
	var waits []string
	if s.awaits != "" {
		waits = append(waits, s.awaits)
	}
	excused := false // a person stopped what the answer needs
	for _, v := range s.services {
		excused = excused || v.Entry && s.anyBehind(v, stopped)
		if s.awaits != "" && down(v) {
			continue // its turn has not come
		}
		t := s.track(v.Name)
		switch {
		case !s.wanted(v):
		case v.Asking && !t.GaveUp: // whatever an earlier supervisor found: what is settled was seen to be so
			waits = append(waits, sentence("service "+string(v.Name)+": "+v.ReadyWhy, cureOf(v)))
		case (v.Entry || s.beyond[v.Name] && !t.GaveUp) && !t.Ready:
			waits = append(waits, sentence(s.why(v), cureOf(v)))
		}
	}
	a := s.r.Doors.Answer
	switch {
	case !s.open():
	case a.At.Before(s.r.Since) && s.r.Phase == Verifying, a.At.IsZero():
		waits = append(waits, "the doors have not answered yet")
	case !a.Right && !excused:
		waits = append(waits, sentence("the doors answer wrong: "+a.Text, doorsCure))
	}
	return waits
}

// open says whether the doors are to be open: the stack has no entry service, or one that is to be up.
func (s *step) open() bool {
	shut := false
	for _, v := range s.services {
		if v.Entry && s.wanted(v) {
			return true
		}
		shut = shut || v.Entry
	}
	return !shut
}

func cureOf(v Service) string { return "docker compose logs " + string(v.Name) }

// sentence joins what is wrong and what to do.
func sentence(text, cure string) string {
	if cure == "" {
		return text
	}
	return text + " (" + cure + ")"
}
