package supervisor_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

func limits() supervisor.Limits {
	return supervisor.Limits{
		Fencing: 2 * time.Minute, Attaching: 5 * time.Minute, Starting: 10 * time.Minute, Verifying: 2 * time.Minute, Tries: 10,
		Images: 10 * time.Minute, Rehash: 7 * 24 * time.Hour,
	}
}

// play is a recovery as a story: a world, and the supervisor in it.
type play struct {
	world
	t        *testing.T
	boot     supervisor.Boot
	boots    int
	begun    time.Time
	recovery supervisor.Recovery // as journalled
	doors    supervisor.Answer
	underway []supervisor.Action
	ended    []supervisor.Outcome
	asked    string // heal, up
	was      map[string]bool
	phase    supervisor.Phase
	damaged  bool // when it settled
	lines    []string
	// cut is where the supervisor is killed in each of its steps from the given one on, once: see crash_test.go.
	cut   func(step int) death
	steps int
}

func newPlay(t *testing.T) *play {
	t.Helper()
	p := &play{t: t, world: world{now: time.Date(2030, 1, 2, 3, 0, 0, 0, time.UTC)}, was: map[string]bool{}}
	p.trace = p.say
	return p
}

func (p *play) say(format string, args ...any) {
	d := p.now.Sub(p.begun)
	p.lines = append(p.lines, fmt.Sprintf("%d:%02d ", int(d.Minutes()), int(d.Seconds())%60)+fmt.Sprintf(format, args...))
}

// death is where in a step the supervisor is killed.
type death int

const (
	lives death = iota
	beforeJournal
	beforeActing
	afterActing
)

// step is one turn of the supervisor's loop; what is begun in one turn has ended in the next.
func (p *play) step() {
	ended := p.readOn()
	o := p.seen()
	o.Boot, o.Doors, o.Underway, o.Ended = p.boot, p.doors, append(p.underway, p.under()...), append(p.ended, ended...)
	o.Heal, o.Up = p.asked == "heal", p.asked == "up"
	p.underway, p.ended, p.asked = nil, nil, ""
	r, actions := supervisor.Step(p.recovery, o, limits())
	p.steps++
	death := lives
	if p.cut != nil {
		death = p.cut(p.steps)
	}
	if death == beforeJournal {
		p.kill()
		return
	}
	p.recovery = r
	p.tellChanges(r)
	if death == beforeActing {
		p.kill()
		return
	}
	for _, a := range actions {
		if a.Verb != supervisor.Ask {
			p.say("%s %s", a.Verb, a.Service)
		}
		switch a.Verb {
		case supervisor.Verify, supervisor.Keep, supervisor.Rehash:
			p.read(a.Verb)
			continue
		case supervisor.LetGo:
			p.ended = append(p.ended, p.letGo()...)
			continue
		default:
		}
		answer, err := p.do(a)
		out := supervisor.Outcome{Action: a, Began: p.now, At: p.now}
		if err != nil {
			out.Err = err.Error()
			p.say("  %v", err)
		}
		if a.Verb == supervisor.Ask {
			if answer.Right != p.doors.Right || answer.Text != p.doors.Text {
				p.say("the doors answer: %s", answer.Text)
			}
			p.doors = answer
		}
		p.ended = append(p.ended, out)
	}
	if p.images.broken != "" {
		p.t.Fatalf("%s: %s\n%s", p.now.Sub(p.begun), p.images.broken, strings.Join(p.lines, "\n"))
	}
	if death == afterActing {
		p.kill()
	}
}

// kill leaves nothing but the journal.
func (p *play) kill() {
	journal, err := json.Marshal(p.recovery)
	if err != nil {
		p.t.Fatal(err)
	}
	p.recovery, p.doors, p.underway, p.ended = supervisor.Recovery{}, supervisor.Answer{}, nil, nil
	p.forget()
	if err := json.Unmarshal(journal, &p.recovery); err != nil {
		p.t.Fatal(err)
	}
}

// tellChanges writes down what changed since the last step.
func (p *play) tellChanges(r supervisor.Recovery) {
	if p.phase != r.Phase {
		if i := len(r.Timeline) - 2; i >= 0 {
			for _, missed := range r.Timeline[i].Missed {
				p.say("the limit has passed: %s", missed)
			}
		}
		p.say("-- %s --", r.Phase)
		p.phase, p.damaged = r.Phase, supervisor.ReportOf(r, p.images.state).Damaged
	}
	now := map[string]bool{}
	note := func(line string) {
		now[line] = true
		if !p.was[line] {
			p.say("%s", line)
		}
	}
	for _, t := range r.Services {
		if t.Ready {
			note(string(t.Name) + " is ready")
		}
		if t.Stopped {
			note(string(t.Name) + " was stopped by a person")
		}
	}
	if r.Images.State != "" {
		note("images: " + string(r.Images.State))
	}
	for _, c := range r.Conditions {
		note(conditionText(c))
	}
	for _, line := range sortedKeys(p.was) {
		if !now[line] {
			p.say("no more: %s", line)
		}
	}
	p.was = now
}

func conditionText(c admin.Condition) string {
	return fmt.Sprintf("CONDITION %s: %s [%s]", c.Code, c.Text, c.Cure)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (p *play) run(d time.Duration, settle bool) {
	for range int(d / time.Second) {
		p.step()
		if settle && (p.phase == supervisor.Settled || p.phase == supervisor.Failed) && len(p.ended) == 0 {
			return
		}
		p.pass()
	}
}

// TestScenarios plays the files in testdata: each is a recovery as a story. A command's lines say what happens; the lines below ---- are what the
// supervisor does, with the time since the boot. `go test ./supervisor -run TestScenarios -rewrite` writes them anew.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			p := newPlay(t)
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				t.Helper()
				p.t, p.lines = t, nil
				p.command(d)
				if len(p.lines) == 0 {
					return "ok\n"
				}
				return strings.Join(p.lines, "\n") + "\n"
			})
		})
	}
}

func (p *play) command(d *datadriven.TestData) {
	switch d.Cmd {
	case "stack":
		for line := range strings.Lines(d.Input) {
			p.addService(strings.Fields(line))
		}
	case "volumes":
		for line := range strings.Lines(d.Input) {
			p.setVolume(strings.TrimSpace(line))
		}
	case "running": // the supervisor has looked after the stack for a while, and all is well
		p.begin(mooring.Unknown)
		for _, s := range p.services {
			s.State, s.StartedAt, s.seen = supervisor.Running, p.now.Add(-time.Hour), true
			for _, v := range s.Needs {
				p.volume(v).State = supervisor.VolumeMounted
			}
		}
		p.run(time.Minute, false)
		if p.phase != supervisor.Settled {
			p.t.Fatalf("a stack that runs does not settle: %s\n%s", p.phase, strings.Join(p.lines, "\n"))
		}
		p.lines = nil
	case "first-start":
		p.begin(mooring.Unknown)
	case "host-dies":
		p.begin(mooring.No)
		p.world.boot(false)
	case "reboot":
		p.begin(mooring.Yes)
		p.world.boot(true)
	case "supervisor-dies":
		p.kill()
	case "journal-damaged":
		p.recovery = supervisor.Recovery{Notes: []string{"The journal was damaged: this is a new one."}}
	case "run":
		limit, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			p.t.Fatal(err)
		}
		p.run(limit, d.HasArg("until-settled"))
	case "set":
		for line := range strings.Lines(d.Input) {
			p.set(strings.TrimSpace(line))
		}
	case "report":
		for line := range strings.Lines(supervisor.Page(supervisor.ReportOf(p.recovery, p.images.state))) {
			p.lines = append(p.lines, strings.TrimRight(line, "\n"))
		}
	case "answer": // what people are told of the doors
		if a := supervisor.ReportOf(p.recovery, p.images.state).Doors; a.Asked.IsZero() {
			p.lines = append(p.lines, "none")
		} else {
			p.lines = append(p.lines, fmt.Sprintf("right: %t %s", a.Right, a.Text))
		}
	default:
		p.t.Fatalf("unknown command %s", d.Cmd)
	}
}

// begin begins a boot.
func (p *play) begin(clean mooring.Fact) {
	p.boots++
	p.boot = supervisor.Boot{ID: mooring.BootID("boot-" + strconv.Itoa(p.boots)), Started: p.now, Clean: clean}
	if clean != mooring.Unknown {
		p.boot.Seen, p.boot.Started = p.now, p.now.Add(45*time.Second)
		p.now = p.now.Add(time.Minute)
	}
	p.begun, p.was, p.phase, p.images.compared = p.now, map[string]bool{}, "", false
	p.kill()
	p.asks = time.Time{} // what was running has ended
}

func (p *play) addService(words []string) {
	s := &service{takes: 3 * time.Second, answers: time.Second, always: true, Service: supervisor.Service{Name: supervisor.ServiceName(words[0]), State: supervisor.Missing}}
	for _, word := range words[1:] {
		p.attribute(s, word)
	}
	p.services = append(p.services, s)
}

// attribute sets what a service is like: after=a,b needs=v entry cache logs=x takes=5s answers=9s crashes=3 dies=3 restart=no hung lost well refuses=why
// dir=/x unmounted=/x unwritable=/x fatal=x.
func (p *play) attribute(s *service, word string) {
	key, value, _ := strings.Cut(word, "=")
	var err error
	switch key {
	case "after":
		for name := range strings.SplitSeq(value, ",") {
			s.After = append(s.After, supervisor.ServiceName(name))
		}
	case "needs":
		for name := range strings.SplitSeq(value, ",") {
			s.Needs = append(s.Needs, mooring.Name(name))
		}
	case "logs":
		s.logs = supervisor.ServiceName(value)
	case "fatal":
		s.fatal = supervisor.ServiceName(value)
	case "entry":
		s.Entry, s.always = true, false
	case "cache":
		s.Cache = true
	case "images": // it is the registry, whose database of tags may be another service
		p.images.at = supervisor.Storage{Service: s.Name, Dir: ".", Tags: supervisor.ServiceName(value)}
		if len(s.Needs) > 0 {
			p.images.at.Volume = s.Needs[0]
		}
	case "takes":
		s.takes, err = time.ParseDuration(value)
	case "answers":
		s.answers, err = time.ParseDuration(value)
	case "crashes":
		s.crashes, err = strconv.Atoi(value)
	case "dies":
		s.dies, err = strconv.Atoi(value)
		s.State = supervisor.Running
	case "hung":
		s.hung, s.ReadyWhy = true, "the health check fails"
	case "refuses":
		s.refuses = strings.ReplaceAll(value, "_", " ")
	case "lost":
		s.State, s.Lost = supervisor.Dead, true
	case "well":
		s.hung, s.refuses, s.ReadyWhy = false, "", ""
	case "dir":
		s.Dirs = []supervisor.Dir{{Path: value, UID: 999, Mounted: mooring.Yes, Writable: mooring.Yes}}
	case "unmounted":
		s.Dirs = []supervisor.Dir{{Path: value, UID: 999, Mounted: mooring.No, Writable: mooring.No, Cure: "mount " + value}}
	case "unwritable":
		s.Dirs = []supervisor.Dir{{Path: value, UID: 999, Mounted: mooring.Yes, Writable: mooring.No, Why: "read-only file system", Cure: "chown 999 " + value}}
	default:
		err = fmt.Errorf("unknown attribute %s", word)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// setVolume sets how a volume is: name, state and the text of what is wrong.
func (p *play) setVolume(line string) {
	name, rest, _ := strings.Cut(line, " ")
	state, text, _ := strings.Cut(rest, " ")
	v := supervisor.Volume{Name: mooring.Name(name), State: supervisor.VolumeState(state), Text: text}
	if i := slices.IndexFunc(p.volumes, func(o supervisor.Volume) bool { return o.Name == v.Name }); i >= 0 {
		p.volumes[i] = v
		return
	}
	p.volumes = append(p.volumes, v)
}

// set changes the world.
func (p *play) set(line string) {
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "volume":
		p.setVolume(rest)
	case "service":
		words := strings.Fields(rest)
		for _, word := range words[1:] {
			p.attribute(p.service(supervisor.ServiceName(words[0])), word)
		}
	case "person":
		p.person(rest)
	case "images":
		p.setImages(rest)
	case "doors":
		p.stale = rest
	case "stubborn":
		p.stubborn = 1
	case "hopeless":
		p.hopeless = true
	case "deaf":
		p.deaf = rest != "no"
	case "labels":
		p.labels = true
	case "docker":
		p.docker = supervisor.Reach{Err: rest, Cure: "systemctl status docker"}
	case "plugin":
		p.plugin = supervisor.Reach{Err: rest, Cure: "systemctl status mooring-plugin"}
	case "pending":
		p.project = supervisor.Reach{Err: "the compose project has not been read yet", Pending: true}
	case "project":
		p.project = supervisor.Reach{Err: rest, Cure: "docker compose config"}
	default:
		p.t.Fatalf("set what? %s", line)
	}
	switch rest {
	case "answers", "readable":
		p.docker, p.plugin, p.project = supervisor.Reach{}, supervisor.Reach{}, supervisor.Reach{}
	}
}

// setImages sets what becomes of the images: takes 20s, rehash 5m, breaks 3, unmanifest, missing NAME: WHAT, torn NAME: WHAT, hidden NAME: WHAT, repaired, silent WHY.
func (p *play) setImages(rest string) {
	i := &p.images
	what, value, _ := strings.Cut(rest, " ")
	var err error
	switch what {
	case "takes":
		i.takes, err = time.ParseDuration(value)
	case "rehash":
		i.rehash, err = time.ParseDuration(value)
	case "breaks":
		i.breaks, err = strconv.Atoi(value)
	case "unmanifest":
		i.unmanifest = true
	case "missing":
		i.missing = append(i.missing, value)
	case "torn":
		i.torn = append(i.torn, value)
	case "hidden":
		i.hidden = append(i.hidden, value)
	case "repaired":
		i.missing, i.torn = nil, nil
	case "silent":
		i.tagsErr = value
	default:
		err = fmt.Errorf("unknown fate of images: %s", rest)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) person(rest string) {
	what, name, _ := strings.Cut(rest, " ")
	switch what {
	case "stops":
		s := p.service(supervisor.ServiceName(name))
		s.State, s.Exit, s.manual, s.seen = supervisor.Exited, 0, true, true
	case "starts":
		if err := p.start(p.service(supervisor.ServiceName(name)), true); err != nil {
			p.t.Fatal(err)
		}
	case "heal", "up":
		p.asked = what
	default:
		p.t.Fatalf("a person does what? %s", rest)
	}
}
