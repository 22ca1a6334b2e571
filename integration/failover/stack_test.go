package failover_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/failover"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/internal/admin"
)

// at is a moment, counted from the death of the machine of these tests.
func at(seconds int) time.Time {
	return time.Date(2030, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

// back is a stack that came back as it should: each service was started when the last was ready, and the proxy last of all.
func back() failover.Stack {
	s := failover.Stack{
		Boot: "b2", Acked: 10, Pulled: push.Verdict{Images: 12}, Told: []string{"the stack is back"},
		Containers: map[string]failover.Box{}, Want: failover.Wanted{Origin: "failover", Told: 1, Evidence: true},
		Report: admin.Recovery{
			ID: "r", Boot: "b2", Origin: "failover", Phase: "settled", Ended: at(100),
			Timeline: []admin.Passage{{Phase: "starting"}, {Phase: "settled"}}, Evidence: []mooring.Sighting{{Text: "restarted by HA"}},
		},
	}
	s.Now.Doors.Right = true
	for i, name := range []string{"log", "redis", "postgresql", "registry", "registryctl", "portal", "core", "jobservice", "proxy"} {
		v := admin.Service{Name: name, State: "running", Ready: true, ReadyAt: at(10*i + 5), Tries: 1}
		s.Report.Services = append(s.Report.Services, v)
		s.Now.Services = append(s.Now.Services, v)
		box := failover.Box{State: "running", Policy: "always", Started: at(10 * i)}
		if name == failover.Entry {
			box.Policy = "no"
		}
		s.Containers[name] = box
	}
	return s
}

// service changes what the supervisor says of a service now, and what Docker says of its container.
func service(s *failover.Stack, name string, v func(*admin.Service), b func(*failover.Box)) {
	i := slices.IndexFunc(s.Now.Services, func(v admin.Service) bool { return v.Name == name })
	v(&s.Now.Services[i])
	box := s.Containers[name]
	b(&box)
	s.Containers[name] = box
}

func shut(v *admin.Service)   { v.Ready, v.Blocked, v.State = false, true, "exited" }
func left(v *admin.Service)   { v.Ready, v.Stopped, v.State = false, true, "exited" }
func ended(b *failover.Box)   { b.State = "exited" }
func same(*failover.Box)      {}
func alike(*admin.Service)    {}
func open(b *failover.Box)    { b.Policy = "always" }
func early(b *failover.Box)   { b.Started = at(1) }
func unwell(v *admin.Service) { v.Ready = false }

// A check that finds nothing must be one that would have found it.
func TestJudgeStackFindsEachBreach(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(s *failover.Stack)
		want  string
	}{
		{"the report is of another boot", func(s *failover.Stack) { s.Boot = "b3" }, "of boot b2, and the machine runs b3"},
		{"a failover is taken for a reboot", func(s *failover.Stack) { s.Report.Origin = "reboot" }, `cause is "reboot", want "failover"`},
		{"it failed", func(s *failover.Stack) { s.Report.Phase = "failed" }, "phase is failed"},
		{"it has not ended", func(s *failover.Stack) { s.Report.Ended = time.Time{} }, "want settled"},
		{"it is damaged", func(s *failover.Stack) { s.Report.Damaged = true }, "with damage: true, want false"},
		{"damage is not seen", func(s *failover.Stack) { s.Want.Damaged = true }, "with damage: false, want true"},
		{"a limit passed", func(s *failover.Stack) { s.Report.Timeline[0].Missed = []string{"core is not ready"} }, "limit of starting passed while it waited: core"},
		{"no evidence came", func(s *failover.Stack) { s.Report.Evidence = nil }, "nothing of what vCenter saw"},
		{"a service is not known", func(s *failover.Stack) { s.Now.Services = s.Now.Services[1:] }, "log: the supervisor does not know it"},
		{"a service is not ready", func(s *failover.Stack) { service(s, "core", unwell, same) }, "core: ready false"},
		{"a container does not run", func(s *failover.Stack) { service(s, "redis", alike, ended) }, "redis: ready true, its container exited"},
		{"a service runs on a damaged volume", func(s *failover.Stack) {
			s.Want.Down = []string{"postgresql"}
			service(s, "postgresql", shut, same)
		}, "postgresql: ready false, blocked true, its container running, want it kept down"},
		{"a service is down, and nobody knows why", func(s *failover.Stack) {
			s.Want.Down = []string{"postgresql"}
			service(s, "postgresql", unwell, ended)
		}, "blocked false"},
		{"a service works without its database", func(s *failover.Stack) { s.Want.Idle = []string{"core"} }, "core: ready true, blocked false, want it to wait"},
		{"what a person stopped was started", func(s *failover.Stack) { s.Want.Stopped = []string{"registryctl"} }, "registryctl: ready true"},
		{"what a person stopped is taken for a crash", func(s *failover.Stack) {
			s.Want.Stopped = []string{"registryctl"}
			service(s, "registryctl", unwell, ended)
		}, "stopped by a person false"},
		{"dockerd would open the doors", func(s *failover.Stack) { service(s, "proxy", alike, open) }, `proxy: restart policy "always", want "no"`},
		{"a policy changed", func(s *failover.Stack) { s.Want.Policies = map[string]string{"redis": "unless-stopped"} }, `redis: restart policy "always", want "unless-stopped"`},
		{"the doors answer wrong", func(s *failover.Stack) { s.Now.Doors = admin.Doors{Text: "401"} }, "the doors answer wrong: 401"},
		{"the doors were opened too early", func(s *failover.Stack) { service(s, "proxy", alike, early) }, "proxy was started at 03:00:01.000, before core was ready"},
		{"a service was started too early", func(s *failover.Stack) { service(s, "core", alike, early) }, "core was started at 03:00:01.000, before log was ready"},
		{"what is wrong is not said", func(s *failover.Stack) { s.Want.Wrong = map[string][]string{"service-blocked": nil} }, "no condition service-blocked"},
		{"the cure is not said", func(s *failover.Stack) {
			s.Now.Conditions = []admin.Condition{{Code: "service-blocked", Text: "damaged", Cure: "pray"}}
			s.Want.Wrong = map[string][]string{"service-blocked": {"damaged", "e2fsck"}}
		}, `does not say "e2fsck"`},
		{"a false alarm", func(s *failover.Stack) { s.Now.Conditions = []admin.Condition{{Code: "doors", Text: "no answer"}} }, "a condition doors is reported: no answer"},
		{"a push is lost", func(s *failover.Stack) {
			s.Pulled.Misses = []push.Miss{{Repository: "a", Reference: "v1", What: "404"}}
		}, "is not there: a v1: 404"},
		{"few were pulled", func(s *failover.Stack) { s.Pulled.Images = 9 }, "9 images were pulled, and 10 pushes"},
		{"nothing was pushed", func(s *failover.Stack) { s.Acked = 0 }, "not one push"},
		{"a push in flight was dropped", func(s *failover.Stack) { s.Lost = []string{"EOF"} }, "dropped: EOF"},
		{"nobody was told", func(s *failover.Stack) { s.Told = nil }, "0 messages were sent, want 1"},
		{"somebody was told of a reboot", func(s *failover.Stack) { s.Want.Told = 0 }, "1 messages were sent, want 0"},
		{"somebody was told often", func(s *failover.Stack) {
			s.Want.Twice, s.Told = true, []string{"a", "b", "c"}
		}, "3 messages were sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := back()
			if got := failover.JudgeStack(s); len(got) != 0 {
				t.Fatalf("before: %q", got)
			}
			c.spoil(&s)
			got := failover.JudgeStack(s)
			if !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got %q, want one with %q", got, c.want)
			}
		})
	}
}

// What may be: services that dockerd itself has started, in any order; what is kept down, and said; what a person stopped; a message that came once more.
func TestJudgeStackLetsBeWhatMayBe(t *testing.T) {
	s := back()
	s.Want.Down, s.Want.Idle, s.Want.Stopped = []string{"postgresql", "jobservice", "proxy"}, []string{"core"}, []string{"registryctl"}
	s.Want.Damaged, s.Want.Twice = true, true
	s.Want.Wrong = map[string][]string{"service-blocked": {"vsanvol2", "e2fsck"}}
	s.Now.Conditions = []admin.Condition{{Code: "service-blocked", Text: "volume vsanvol2 is damaged", Cure: "e2fsck -f /dev/sdb"}}
	s.Report.Damaged, s.Now.Doors.Right, s.Told = true, false, []string{"back IN PART", "back IN PART"}
	for i, v := range s.Report.Services {
		s.Report.Services[i].Tries = 0
		if slices.Contains([]string{"postgresql", "jobservice", "proxy", "core", "registryctl"}, v.Name) {
			s.Report.Services[i].Ready, s.Report.Services[i].ReadyAt = false, time.Time{}
		}
	}
	for _, name := range s.Want.Down {
		service(&s, name, shut, ended)
	}
	service(&s, "core", shut, same)
	service(&s, "registryctl", left, ended)
	service(&s, "registry", alike, early)
	s.Pulled = push.Verdict{} // through doors that are shut
	if got := failover.JudgeStack(s); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
