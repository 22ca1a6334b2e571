package supervisor_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
)

// world is a stack with Docker, volumes and doors that obey rules: a container does not start without its volume or its log driver, Docker starts
// everything at once at a boot and asks nobody's leave, a proxy may keep a stale address. Its time is the test's.
type world struct {
	now      time.Time
	services []*service
	volumes  []supervisor.Volume
	docker   supervisor.Reach
	plugin   supervisor.Reach
	project  supervisor.Reach
	stale    string    // why the doors answer wrong; empty: right
	stubborn int       // reloads that do not help
	hopeless bool      // not even a restart helps
	deaf     bool      // nobody can be told
	asks     time.Time // since when this supervisor asks the services
	labels   bool      // while the project cannot be read, the containers tell which services there are
	told     int
	images   images
	trace    func(format string, args ...any)
}

// service is one service and what its program is like.
type service struct {
	supervisor.Service

	answers time.Duration // that its answer takes to a supervisor which has just started
	takes   time.Duration // from the start of its container until it is ready
	crashes int           // so often it ends before it is ready, and Docker starts it again
	dies    int           // so often it ends before it is ready, and nobody starts it again
	always  bool          // restart: always
	logs    supervisor.ServiceName
	fatal   supervisor.ServiceName // it ends, and Docker starts it again, as long as that is not ready
	hung    bool                   // it runs, and is not ready
	manual  bool                   // a person stopped it
	seen    bool                   // the supervisor saw who ended it
	back    time.Time
	refuses string // why Docker cannot start it
}

func (w *world) service(name supervisor.ServiceName) *service {
	i := slices.IndexFunc(w.services, func(s *service) bool { return s.Name == name })
	if i < 0 {
		panic("no service " + name)
	}
	return w.services[i]
}

func (w *world) volume(name mooring.Name) *supervisor.Volume {
	i := slices.IndexFunc(w.volumes, func(v supervisor.Volume) bool { return v.Name == name })
	if i < 0 {
		panic("no volume " + name)
	}
	return &w.volumes[i]
}

// boot is the end of all containers, and what Docker makes of them: it starts those that it always does, all at once.
func (w *world) boot(orderly bool) {
	for _, s := range w.services {
		if s.State != supervisor.Missing {
			s.State, s.Exit, s.seen = supervisor.Exited, 255, false
			if orderly {
				s.Exit = 0
			}
		}
	}
	for _, s := range w.services {
		if s.always && s.State == supervisor.Exited {
			if err := w.start(s, false); err != nil {
				w.trace("Docker cannot start %s: %v", s.Name, err)
			}
		}
	}
}

// start starts a container as Docker does.
func (w *world) start(s *service, logsUp bool) error {
	if s.State == supervisor.Running {
		return nil
	}
	err := error(nil)
	switch {
	case s.refuses != "":
		err = errors.New(s.refuses)
	case s.logs != "" && !(logsUp && w.ready(w.service(s.logs))):
		err = errors.New("failed to initialize logging driver: connection refused")
	}
	for _, name := range s.Needs {
		if v := w.volume(name); v.State != supervisor.VolumeMounted && v.State != supervisor.VolumePresent && v.State != supervisor.VolumeAbsent {
			err = fmt.Errorf("error while mounting volume %s: it is %s", name, v.State)
		}
	}
	if err != nil {
		s.State, s.Error = supervisor.Exited, err.Error()
		return err
	}
	for _, name := range s.Needs {
		w.volume(name).State = supervisor.VolumeMounted
	}
	s.State, s.Error, s.StartedAt, s.Lost, s.manual, s.seen = supervisor.Running, "", w.now, false, false, true
	return nil
}

func (w *world) ready(s *service) bool {
	return s.State == supervisor.Running && !s.hung && w.now.Sub(s.StartedAt) >= s.takes && s.crashes == 0 && s.dies == 0
}

// pass lets a second pass.
func (w *world) pass() {
	w.now = w.now.Add(time.Second)
	for _, s := range w.services {
		switch {
		case s.State == supervisor.Restarting && !w.now.Before(s.back):
			s.State, s.StartedAt = supervisor.Running, w.now
		case s.State == supervisor.Running && w.now.Sub(s.StartedAt) >= time.Second && s.crashes > 0:
			s.crashes--
			s.Restarts++
			s.State, s.back = supervisor.Restarting, w.now.Add(time.Second)
			w.trace("%s crashes", s.Name)
		case s.State == supervisor.Running && s.fatal != "" && !w.ready(w.service(s.fatal)):
			s.Restarts++
			s.State, s.back = supervisor.Restarting, w.now.Add(time.Duration(s.Restarts)*time.Second)
		case s.State == supervisor.Running && w.now.Sub(s.StartedAt) >= time.Second && s.dies > 0:
			s.dies--
			s.State, s.Exit = supervisor.Exited, 1
			w.trace("%s dies", s.Name)
		}
	}
}

// seen is what the world looks like to the supervisor.
func (w *world) seen() supervisor.Observation {
	o := supervisor.Observation{Now: w.now, Docker: w.docker, Plugin: w.plugin, Project: w.project, Images: w.images.state}
	if w.plugin.OK() {
		o.Volumes = slices.Clone(w.volumes)
	}
	if !w.docker.OK() || !w.project.OK() && !w.labels {
		return o
	}
	o.Storage = w.images.at
	for _, s := range w.services {
		v := s.Service
		v.Ready = mooring.FactOf(w.ready(s))
		if s.State == supervisor.Running && w.now.Sub(w.asks) < s.answers {
			v.Ready, v.Asking, v.ReadyWhy = mooring.No, true, "it has not answered yet"
		}
		v.Stopped = mooring.Unknown
		if !w.project.OK() {
			v.After, v.Entry, v.Cache = nil, false, false
		}
		if s.seen && s.State != supervisor.Running {
			v.Stopped = mooring.FactOf(s.manual)
		}
		o.Services = append(o.Services, v)
	}
	return o
}

// do carries out an action.
func (w *world) do(a supervisor.Action) (supervisor.Answer, error) {
	switch a.Verb {
	case supervisor.Start:
		return supervisor.Answer{}, w.start(w.service(a.Service), true)
	case supervisor.Restart:
		s := w.service(a.Service)
		s.State = supervisor.Exited
		if s.Entry && !w.hopeless {
			w.stale = ""
		}
		s.hung = false
		return supervisor.Answer{}, w.start(s, true)
	case supervisor.Reload:
		if w.stubborn > 0 {
			w.stubborn--
		} else if !w.hopeless {
			w.stale = ""
		}
	case supervisor.Flush:
		if !w.service(a.Service).Cache {
			return supervisor.Answer{}, mooring.ErrInvalid
		}
	case supervisor.Verify, supervisor.Keep, supervisor.Rehash, supervisor.LetGo: // what reads images: see read
	case supervisor.Ask:
		return w.answer(), nil
	case supervisor.Notify:
		if w.deaf {
			return supervisor.Answer{}, errors.New("connection refused")
		}
		w.told++
	}
	return supervisor.Answer{}, nil
}

func (w *world) answer() supervisor.Answer {
	a := supervisor.Answer{At: w.now, Right: true, Text: "Pong"}
	if w.stale != "" {
		a.Right, a.Text = false, w.stale
	}
	for _, s := range w.services {
		if s.Entry && s.State != supervisor.Running {
			a.Right, a.Text = false, "connection refused"
		}
		if s.Entry {
			for _, dep := range s.After {
				if !w.ready(w.service(dep)) {
					a.Right, a.Text = false, "502 Bad Gateway"
				}
			}
		}
	}
	return a
}

// standing returns how everything is, for comparison.
func (w *world) standing() string {
	var b strings.Builder
	for _, s := range w.services {
		fmt.Fprintf(&b, "%s %s %t\n", s.Name, s.State, w.ready(s))
	}
	return b.String() + w.answer().Text
}
