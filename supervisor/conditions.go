package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	healCure   = "mooring stack heal"
	patience   = time.Minute      // a service that is ready again within it is no condition
	wrongAfter = 30 * time.Second // and so is an answer that is right again
	beginning  = 10 * time.Second // of a recovery, in which Docker starts and the project is read
	tellTries  = 10
)

// conditions returns what is wrong now. While a recovery is under way, what it still waits for is not wrong yet.
func (s *step) conditions() []admin.Condition {
	found := []admin.Condition{}
	add := func(code string, severity admin.Severity, title, text, cure string) {
		found = append(found, admin.Condition{Code: code, Severity: severity, Title: title, Text: text, Cure: cure})
	}
	begun := s.o.Now.Sub(s.r.Began) >= beginning
	if !s.o.Docker.OK() && begun {
		add("docker", admin.Failing, "Docker does not answer", s.o.Docker.Err, s.o.Docker.Cure)
	}
	if !s.o.Project.OK() && s.o.Docker.OK() && begun {
		add("project", admin.Failing, "the stack cannot be read", s.o.Project.Err, s.o.Project.Cure)
	}
	for _, v := range s.services {
		t := s.track(v.Name)
		o, blocked := s.obstacles[v.Name]
		switch {
		case t.Stopped:
		case blocked && o.Root == v.Name && !s.waitedFor(o):
			add("service-blocked", admin.Failing, "service is kept down", s.blockedText(v, o), o.Cure)
		case blocked:
		case t.GaveUp:
			add("service-down", admin.Failing, "service does not come up",
				fmt.Sprintf("Tried %d times: %s", t.Tries, s.why(v)), cureOf(v)+"; when it is put right: "+healCure)
		case !t.Ready && s.overdue(t):
			add("service-unready", admin.Failing, "service is not ready", s.why(v), cureOf(v))
		case t.FlushErr != "" && s.r.Phase.final():
			add("cache", admin.Warning, "cache may be stale", "The cache of "+string(v.Name)+" could not be flushed: "+t.FlushErr, cureOf(v))
		}
	}
	if a := s.r.Doors.Answer; s.r.Phase.final() && s.known() && s.open() && !s.r.Doors.Wrong.IsZero() &&
		(s.r.Phase == Failed || s.o.Now.Sub(s.r.Doors.Wrong) >= wrongAfter) {
		add("doors", admin.Failing, "the stack does not answer right", a.Text, doorsCure)
	}
	s.imageConditions(add)
	if s.r.Message.Tries >= tellTries {
		add("notify", admin.Warning, "nobody could be told", s.r.Message.Err, "check notify in the supervisor's configuration")
	}
	if s.r.Images.Storage.Service != "" {
		found = append(found, s.o.Images.Conditions...)
	}
	return found
}

// waitedFor says that the obstacle may still go by itself, and that the recovery still waits for that.
func (s *step) waitedFor(o obstacle) bool {
	return o.Passing && (s.r.Phase == Fencing || s.r.Phase == Attaching)
}

// overdue says that nobody waits any more for the service to become ready.
func (s *step) overdue(t *Track) bool {
	return s.r.Phase.final() && (!t.Down.After(s.r.Since) || s.o.Now.Sub(t.Down) >= patience)
}

// blockedText names the service, what stands in its way, and what else stays down for that.
func (s *step) blockedText(v Service, o obstacle) string {
	text := "Service " + string(v.Name) + " is not started: " + o.Text
	if !down(v) { // Docker did
		text = "Service " + string(v.Name) + " runs all the same: " + o.Text
	}
	var others []string
	for _, other := range s.services {
		if other.Name != v.Name && s.obstacles[other.Name].Root == v.Name {
			others = append(others, string(other.Name))
		}
	}
	if slices.Sort(others); len(others) > 0 {
		text += ". With it: " + strings.Join(others, ", ")
	}
	return text
}

// tell sees to it that who wants to know learns how a recovery ended. One that a reboot in order made necessary, and that went well, is nobody's business.
func (s *step) tell(before Phase) {
	m := &s.r.Message
	if s.r.Phase != before && s.r.Phase.final() {
		alarm := s.r.Origin == Failover || s.r.Origin == Unclear || s.r.Phase == Failed || before == Failed || s.r.damaged()
		if alarm {
			*m = Message{Due: true}
		}
	}
	if p := &s.r.Images; s.r.Phase.final() {
		now := p.Damage.Images + p.Damage.Others
		if now > p.Told {
			*m = Message{Due: true}
		}
		p.Told = now
	}
	if m.Due && m.Tries < tellTries && !s.o.Now.Before(m.Next) {
		s.act(Notify, "")
	}
}

// told remembers what came of telling.
func (s *step) told(e Outcome) {
	m := &s.r.Message
	if m.Err = e.Err; e.Err == "" {
		*m = Message{}
		return
	}
	m.Tries++
	m.Next = e.At.Add(pause(m.Tries))
}
