package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/harborlike/push"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Stack is what is seen of the stack built like Harbor's when a case has ended.
type Stack struct {
	Boot   string         // of the machine
	Report admin.Recovery // of the last recovery
	Now    admin.Stack
	// Containers are those of the project, by the services' names.
	Containers map[string]Box
	Acked      int          // pushes that were acknowledged in this case
	Lost       []string     // pushes that failed and must not have
	Pulled     push.Verdict // of all that was ever acknowledged; nothing, if the doors are to be shut
	Told       []string     // subjects of the messages since the faults
	Want       Wanted
}

// Box is a container of the stack.
type Box struct {
	State   string
	Policy  string // of restarts
	Started time.Time
}

// Wanted is what a case expects of its stack.
type Wanted struct {
	Origin  string // of the recovery
	Damaged bool   // something keeps the stack from being whole
	// Down are services that what only a person can cure keeps down, Idle those among what depends on them that Docker may have started all the same, and
	// Stopped those that a person stopped.
	Down, Idle, Stopped []string
	// Wrong is what must be reported, and nothing else: by the condition's code, what its text and its cure must say.
	Wrong map[string][]string
	// Passed is when a phase's limit may have passed, and Orderless when nobody could know what depends on what: the doors come last all the same.
	Passed, Orderless bool
	// Told is how many messages there must be: none after a reboot in order. Twice says that one may have come once more.
	Told  int
	Twice bool
	// Policies are restart policies that are not those of Harbor's compose file.
	Policies map[string]string
	// Evidence says that vCenter's word on the restart must be in the report.
	Evidence bool
}

// After returns what each service of the stack depends on, as its compose file and Harbor's profile say.
func After() map[string][]string {
	return map[string][]string{
		"log": nil, "registry": {"log", "redis"}, "registryctl": {"log"}, "postgresql": {"log"}, "redis": {"log"}, "portal": {"log"},
		"core": {"log", "registry", "redis", "postgresql"}, "jobservice": {"core"}, "proxy": {"registry", "core", "portal", "log"},
	}
}

// Entry is the service that opens the doors.
const Entry = "proxy"

// JudgeStack returns what is not as it should be with a stack; nothing: all is well. Each finding is a sentence that names the thing.
func JudgeStack(s Stack) []string {
	var out []string
	out = append(out, judgeReport(s)...)
	out = append(out, judgeServices(s)...)
	out = append(out, judgeOrder(s)...)
	out = append(out, judgeConditions(s)...)
	out = append(out, judgePushes(s)...)
	return append(out, judgeMessages(s)...)
}

func judgeReport(s Stack) []string {
	var out []string
	add := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("recovery %s: ", s.Report.ID)+fmt.Sprintf(format, args...))
	}
	if string(s.Report.Boot) != s.Boot {
		add("it is of boot %s, and the machine runs %s", s.Report.Boot, s.Boot)
	}
	if s.Report.Origin != s.Want.Origin {
		add("its cause is %q, want %q", s.Report.Origin, s.Want.Origin)
	}
	if s.Report.Phase != "settled" || s.Report.Ended.IsZero() {
		add("its phase is %s, want settled", s.Report.Phase)
	}
	if s.Report.Damaged != s.Want.Damaged {
		add("settled with damage: %t, want %t", s.Report.Damaged, s.Want.Damaged)
	}
	for _, p := range s.Report.Timeline {
		if len(p.Missed) > 0 && !s.Want.Passed {
			add("the limit of %s passed while it waited: %s", p.Phase, strings.Join(p.Missed, "; "))
		}
	}
	if s.Want.Evidence && len(s.Report.Evidence) == 0 {
		add("it has nothing of what vCenter saw")
	}
	return out
}

// judgeServices wants every service that nothing keeps down to be up, and every other to be down for the reason that is expected.
func judgeServices(s Stack) []string {
	var out []string
	seen := map[string]admin.Service{}
	for _, v := range s.Now.Services {
		seen[v.Name] = v
	}
	for _, name := range slices.Sorted(maps.Keys(After())) {
		v, ok := seen[name]
		box := s.Containers[name]
		down, idle, stopped := slices.Contains(s.Want.Down, name), slices.Contains(s.Want.Idle, name), slices.Contains(s.Want.Stopped, name)
		running := box.State == "running"
		switch {
		case !ok:
			out = append(out, name+": the supervisor does not know it")
		case down && (v.Ready || !v.Blocked || running):
			out = append(out, fmt.Sprintf("%s: ready %t, blocked %t, its container %s, want it kept down", name, v.Ready, v.Blocked, box.State))
		case stopped && (v.Ready || !v.Stopped || running):
			out = append(out, fmt.Sprintf("%s: ready %t, stopped by a person %t, its container %s, want it left alone", name, v.Ready, v.Stopped, box.State))
		case idle && (v.Ready || !v.Blocked):
			out = append(out, fmt.Sprintf("%s: ready %t, blocked %t, want it to wait for what it depends on", name, v.Ready, v.Blocked))
		case !down && !idle && !stopped && (!v.Ready || !running):
			out = append(out, fmt.Sprintf("%s: ready %t, its container %s, want it up; %s", name, v.Ready, box.State, v.Why))
		}
		want := "always"
		if name == Entry {
			want = "no" // or dockerd would open the doors
		}
		if p, ok := s.Want.Policies[name]; ok {
			want = p
		}
		if box.Policy != want {
			out = append(out, fmt.Sprintf("%s: restart policy %q, want %q", name, box.Policy, want))
		}
	}
	if shut := slices.Contains(s.Want.Down, Entry); !shut && !s.Now.Doors.Right {
		out = append(out, "the doors answer wrong: "+s.Now.Doors.Text)
	}
	return out
}

// judgeOrder wants the doors to have been opened last, and what the supervisor itself started to have been started after what it depends on was ready.
func judgeOrder(s Stack) []string {
	var out []string
	ready := map[string]time.Time{}
	for _, v := range s.Report.Services {
		ready[v.Name] = v.ReadyAt
	}
	before := func(name string, others []string) {
		for _, dep := range others {
			if at := ready[dep]; !at.IsZero() && s.Containers[name].Started.Before(at) {
				out = append(out, fmt.Sprintf("%s was started at %s, before %s was ready at %s", name, clock(s.Containers[name].Started), dep, clock(at)))
			}
		}
	}
	for _, v := range s.Report.Services {
		switch {
		case !v.Ready || s.Containers[v.Name].State != "running":
		case v.Name == Entry:
			before(v.Name, slices.DeleteFunc(slices.Sorted(maps.Keys(After())), func(n string) bool { return n == Entry }))
		case v.Tries > 0 && !s.Want.Orderless:
			before(v.Name, After()[v.Name])
		}
	}
	return out
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// judgeConditions wants what is wrong to be said, with what to do about it, and nothing else to be said.
func judgeConditions(s Stack) []string {
	var out []string
	for _, code := range slices.Sorted(maps.Keys(s.Want.Wrong)) {
		i := slices.IndexFunc(s.Now.Conditions, func(c admin.Condition) bool { return c.Code == code })
		if i < 0 {
			out = append(out, fmt.Sprintf("no condition %s is reported", code))
			continue
		}
		said := s.Now.Conditions[i].Text + "\n" + s.Now.Conditions[i].Cure
		for _, want := range s.Want.Wrong[code] {
			if !strings.Contains(said, want) {
				out = append(out, fmt.Sprintf("the condition %s does not say %q: %s", code, want, said))
			}
		}
	}
	for _, c := range s.Now.Conditions {
		if _, ok := s.Want.Wrong[c.Code]; !ok {
			out = append(out, fmt.Sprintf("a condition %s is reported: %s", c.Code, c.Text))
		}
	}
	return out
}

// judgePushes wants everything that was acknowledged to have been pulled again, and hashed.
func judgePushes(s Stack) []string {
	var out []string
	for _, l := range s.Lost {
		out = append(out, "a push in flight was dropped: "+l)
	}
	if s.Acked == 0 {
		out = append(out, "not one push was acknowledged: the case has shown nothing")
	}
	if slices.Contains(s.Want.Down, Entry) {
		return out
	}
	if s.Pulled.Images < s.Acked {
		out = append(out, fmt.Sprintf("%d images were pulled, and %d pushes were acknowledged in this case alone", s.Pulled.Images, s.Acked))
	}
	for _, m := range s.Pulled.Misses {
		out = append(out, "it was acknowledged and is not there: "+m.String())
	}
	return few(out)
}

func judgeMessages(s Stack) []string {
	n := len(s.Told)
	if n == s.Want.Told || s.Want.Twice && n == s.Want.Told+1 {
		return nil
	}
	return []string{fmt.Sprintf("%d messages were sent, want %d: %q", n, s.Want.Told, s.Told)}
}
