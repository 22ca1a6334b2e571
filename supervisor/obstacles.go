package supervisor

import (
	"fmt"
	"strings"

	"github.com/mooring-sh/mooring"
)

// obstacle is why a service must not be started.
type obstacle struct {
	Root    ServiceName // the service that it began with
	Text    string      // a sentence without a full stop
	Cure    string
	Passing bool // it may go by itself, so that the phases fencing and attaching wait for it
}

// findObstacles finds out which services must not be started: those whose disks or directories are not in order, and those that depend on them.
// What a person stopped stands in nobody's way.
func (s *step) findObstacles() {
	s.obstacles = make(map[ServiceName]obstacle)
	for _, v := range s.services {
		if o, found := s.ownObstacle(v); found {
			s.obstacles[v.Name] = o
			continue
		}
		for _, dep := range v.After {
			if o, found := s.obstacles[dep]; found && !s.track(dep).Stopped {
				s.obstacles[v.Name] = o
				break
			}
		}
	}
	for _, v := range s.services {
		_, blocked := s.obstacles[v.Name]
		t := s.track(v.Name)
		if t.Blocked && !blocked && !t.Ready {
			t.Down = s.o.Now // it has had no chance before
		}
		t.Blocked = blocked
		t.Forced = t.Forced && (s.needs(v, VolumeTaken) || s.needs(v, VolumeDamaged)) // what a person asked for was about these
	}
}

// ownObstacle returns what of the service's own is not in order.
func (s *step) ownObstacle(v Service) (obstacle, bool) {
	for _, name := range v.Needs {
		if o, found := s.volumeObstacle(v, name); found {
			return o, true
		}
	}
	for _, d := range v.Dirs {
		var text string
		switch {
		case d.Mounted == mooring.No:
			text = fmt.Sprintf("nothing is mounted at %s, which %s needs", d.Path, v.Name)
		case d.Writable == mooring.No:
			text = fmt.Sprintf("%s cannot write to %s as user %d", v.Name, d.Path, d.UID)
		default:
			continue
		}
		if d.Why != "" {
			text += ": " + d.Why
		}
		return obstacle{Root: v.Name, Text: text, Cure: d.Cure, Passing: d.Mounted == mooring.No}, true
	}
	return obstacle{}, false
}

// volumeObstacle returns what is wrong with a volume that the service needs.
func (s *step) volumeObstacle(v Service, name mooring.Name) (obstacle, bool) {
	vol, there := s.volumes[name]
	o := obstacle{Root: v.Name, Cure: vol.Cure}
	about := fmt.Sprintf("volume %s of %s ", name, v.Name)
	switch {
	case !s.o.Plugin.OK():
		o.Text, o.Cure, o.Passing = about+"cannot be seen: "+s.o.Plugin.Err, s.o.Plugin.Cure, true
	case !there:
		o.Text, o.Cure = about+"does not exist", "docker volume create --driver="+mooring.DriverName+" "+string(name)
	case vol.State == VolumeFenced:
		o.Text, o.Passing = about+"is fenced", true
	case vol.State == VolumeFetching:
		o.Text, o.Passing = about+"is not mounted yet", true
	case s.track(v.Name).Forced:
		return obstacle{}, false
	case vol.State == VolumeTaken:
		o.Text = about + "was taken by another machine"
	case vol.State == VolumeDamaged:
		o.Text = about + "is damaged"
	default:
		return obstacle{}, false
	}
	if there && vol.Text != "" {
		o.Text += ": " + vol.Text
	}
	if o.Cure == "" {
		o.Cure = "mooring volume inspect " + string(name)
	}
	return o, true
}

// wanted says whether the service is to be up: nobody stopped it, and nothing stands in its way.
func (s *step) wanted(v Service) bool {
	_, blocked := s.obstacles[v.Name]
	return !blocked && !s.track(v.Name).Stopped
}

// why returns why the service is not up, for a person.
func (s *step) why(v Service) string {
	t := s.track(v.Name)
	parts := []string{"service " + string(v.Name) + " is not ready"}
	switch {
	case v.State == Restarting || v.State == Running && v.Restarts > 0:
		parts = append(parts, "it does not stay up")
	case v.State == Exited || v.State == Dead:
		parts = append(parts, fmt.Sprintf("it has ended with code %d", v.Exit))
	case v.State != Running:
		parts = append(parts, "its container is "+string(v.State))
	}
	for _, text := range []string{v.Error, t.Err, v.ReadyWhy} {
		if text != "" {
			parts = append(parts, text)
			break
		}
	}
	return strings.Join(parts, ": ")
}
