package supervisor

import (
	"fmt"
	"slices"
	"strings"
)

// explain writes down, for people, in what order the services are started and why those that are not ready are not. Nothing is decided by it.
func (s *step) explain() {
	for i, v := range s.services {
		t := s.track(v.Name)
		t.Place = i
		if v.Entry || s.beyond[v.Name] {
			t.Place += len(s.services) // after everything else
		}
		t.Why = s.excuse(v, t)
	}
}

// excuse returns why the service is not ready, in a few words; empty: it is.
func (s *step) excuse(v Service, t *Track) string {
	o, blocked := s.obstacles[v.Name]
	why := strings.TrimPrefix(s.why(v), "service "+string(v.Name)+" is not ready")
	why = strings.TrimPrefix(why, ": ")
	switch {
	case t.Ready:
		return ""
	case t.Stopped:
		return "a person stopped it"
	case blocked:
		return o.Text
	case t.GaveUp:
		return strings.TrimSuffix(fmt.Sprintf("given up after %d tries: %s", t.Tries, why), ": ")
	case down(v) && t.Tries == 0:
		i := slices.IndexFunc(v.After, func(dep ServiceName) bool {
			d := s.service(dep)
			return d.Name == dep && s.wanted(d) && !s.track(dep).Ready
		})
		if i >= 0 {
			return "waits for " + string(v.After[i])
		}
		if v.Entry && s.awaits != "" && (s.r.Phase == Verifying || s.r.Phase.final()) {
			return "waits for the images' verification"
		}
		if v.Entry && !s.r.Phase.final() {
			return "comes last"
		}
	}
	return why
}
