package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	tick         = time.Second
	restTick     = 10 * time.Second       // while nothing is to be done
	breath       = 200 * time.Millisecond // from what was told to the turn that it brings about, so that what is told together is heard together
	observeLimit = 15 * time.Second
	touchEvery   = 10 * time.Second
	// silence is how long the volume driver's last word counts after it has been heard: it may be in the middle of an upgrade, or have no processor on a machine that starts everything at
	// once. Nothing is risked by that: whatever mounts a volume asks the driver again.
	silence = time.Minute
)

// Notifier tells whoever wants to know.
type Notifier interface {
	// Notify sends the report. It is called again later if it fails, so that somebody may be told twice.
	Notify(ctx context.Context, rep admin.Recovery) error
}

// Parts is what a Supervisor is made of. Without a Stack it is idle; without Images a registry is a service like any other; without a Witness there is no
// evidence; without a Notifier nobody is told. Warnings may be nil.
type Parts struct {
	Stack    Stack
	Volumes  Volumes
	Images   Images
	Witness  Witness
	Notifier Notifier
	Journal  *Journal
	Reports  Reports
	Warnings func() []admin.Condition // what else is wrong: with the configuration, or how the stack is set up
	Log      *slog.Logger
}

// Settings are the supervisor's numbers and names.
type Settings struct {
	Boot    mooring.BootID
	Booted  time.Time // when the kernel started
	Limits  Limits
	Version string
}

// Supervisor is the loop around [Step]. Run it once; its handler may be asked at any time.
type Supervisor struct {
	Parts
	Settings

	// What follows is the loop's alone.
	clean    mooring.Fact // whether the boot before this one ended in order
	seen     time.Time    // when it was last seen to run
	doors    Answer
	volumes  []Volume  // as the volume driver told last
	heard    time.Time // when that was
	underway []Action
	cancels  map[Verb]context.CancelFunc // of what reads the images' storage
	touched  time.Time
	saved    admin.Recovery // the report as it was last written
	seeking  string         // the recovery for which evidence is being looked for

	work  sync.WaitGroup
	ended chan end
	heal  chan admin.Heal

	mu      sync.Mutex
	now     Recovery
	looked  time.Time // when what now says was seen; zero: in an earlier life
	trouble error     // the journal or a report could not be written
}

// end is how an action ended, or what the witness told.
type end struct {
	outcome  Outcome
	answer   Answer
	evidence []mooring.Sighting
}

// told is what the loop heard since its last turn.
type told struct {
	ended    []Outcome
	evidence []mooring.Sighting
	heal, up bool
}

// New returns a supervisor.
func New(p Parts, s Settings) *Supervisor {
	return &Supervisor{
		Parts: p, Settings: s, ended: make(chan end), heal: make(chan admin.Heal), cancels: make(map[Verb]context.CancelFunc),
	}
}

// Run looks after the stack until ctx ends, and returns when all that it began has ended. After each turn it calls alive: a watchdog that is fed by it knows
// that the loop runs.
func (s *Supervisor) Run(ctx context.Context, alive func()) {
	var changed <-chan struct{}
	if s.Stack != nil {
		s.resume()
		changed = s.Stack.Changed()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	soon := func() {
		if t := time.Now().Add(breath); t.Before(due) {
			due = t
			timer.Reset(breath)
		}
	}
	var heard told
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-changed:
			soon()
		case e := <-s.ended:
			s.hear(e, &heard)
			soon()
		case h := <-s.heal:
			heard.heal, heard.up = true, heard.up || h.Stopped
			soon()
		case <-timer.C:
			pause := restTick
			if s.Stack != nil {
				pause = s.turn(ctx, heard)
			}
			heard = told{}
			due = time.Now().Add(pause)
			timer.Reset(pause)
			alive()
		}
	}
	go func() { s.work.Wait(); close(s.ended) }()
	for e := range s.ended { // what comes of it is seen by the next supervisor
		s.hear(e, &heard)
	}
}

func (s *Supervisor) hear(e end, heard *told) {
	heard.evidence = append(heard.evidence, e.evidence...)
	if e.outcome.Verb == "" {
		return
	}
	if e.outcome.Verb == Ask {
		s.doors = e.answer
	}
	heard.ended = append(heard.ended, e.outcome)
	s.underway = slices.DeleteFunc(s.underway, func(a Action) bool { return a == e.outcome.Action })
}

// resume reads the journal, and finds out how the boot before this one ended.
func (s *Supervisor) resume() {
	last, err := s.Journal.Read()
	switch {
	case err == nil:
	case errors.Is(err, mooring.ErrNotFound):
		s.Log.Info("there is no journal yet")
	default:
		s.Log.Error("begin anew", "err", err)
		last = Recovery{Notes: []string{"What was known of earlier recoveries, and of services that a person had stopped, is lost: " + err.Error()}}
	}
	s.clean = EndedInOrder(last, s.Journal.Marked())
	if last.Boot != "" && last.Boot != s.Boot {
		s.seen = s.Journal.Seen()
	}
	if rep, err := s.Reports.Find(last.ID); err == nil {
		s.saved = rep
	}
	s.publish(last, time.Time{})
}

// turn is one turn of the loop: observe, step, write the journal, act. It returns how long the next one may wait.
func (s *Supervisor) turn(ctx context.Context, heard told) time.Duration {
	o := s.observe(ctx)
	if ctx.Err() != nil {
		return tick // what is seen while everything is being stopped says nothing
	}
	o.Ended, o.Evidence, o.Heal, o.Up = heard.ended, heard.evidence, heard.heal || heard.up, heard.up
	last := s.Recovery()
	r, actions := Step(last, o, s.Limits)
	s.record(last, r, o.Now)
	for _, a := range actions {
		s.begin(ctx, a, r)
	}
	s.seekEvidence(ctx, r)
	busy := slices.ContainsFunc(s.underway, func(a Action) bool { return a.Verb != Keep && a.Verb != Rehash })
	if o.Docker.OK() && len(actions) == 0 && !busy && r.atRest() {
		return restTick
	}
	return tick
}

// observe looks at everything. The plugin is asked only when somebody needs its volumes: it need not be there.
func (s *Supervisor) observe(ctx context.Context) Observation {
	looking, cancel := context.WithTimeout(ctx, observeLimit)
	defer cancel()
	o := Observation{
		Boot:  Boot{ID: s.Boot, Started: s.Booted, Clean: s.clean, Seen: s.seen},
		Doors: s.doors, Underway: slices.Clone(s.underway),
	}
	state := s.Stack.Observe(looking)
	o.Docker, o.Project, o.Services = state.Docker, state.Project, state.Services
	if s.Images != nil {
		o.Storage, o.Images = state.Storage, s.Images.Observe()
	}
	if slices.ContainsFunc(o.Services, func(v Service) bool { return len(v.Needs) > 0 }) {
		o.Volumes, o.Plugin = s.lookAtVolumes(looking)
	}
	o.Now = time.Now()
	return o
}

// lookAtVolumes asks the volume driver.
func (s *Supervisor) lookAtVolumes(ctx context.Context) ([]Volume, Reach) {
	volumes, reach := s.Volumes.Observe(ctx)
	switch {
	case reach.OK():
		s.volumes, s.heard = volumes, time.Now()
	case time.Since(s.heard) < silence:
		return s.volumes, Reach{}
	}
	return volumes, reach
}

// record writes down what has changed, for the next supervisor, for people, and for whoever asks. A disk that is full does not keep the stack down.
func (s *Supervisor) record(last, r Recovery, looked time.Time) {
	trouble := s.Journal.Write(r)
	if trouble == nil && s.Journal.Marked() != "" {
		trouble = s.Journal.Unmark()
	}
	if now := time.Now(); trouble == nil && now.Sub(s.touched) >= touchEvery {
		s.touched = now
		trouble = s.Journal.Touch(now)
	}
	if rep, news := renew(s.saved, r, s.found()); news {
		if err := s.Reports.Save(rep); err != nil {
			trouble = errors.Join(trouble, err)
		} else {
			s.saved = rep
		}
	}
	s.mu.Lock()
	before := s.trouble
	s.trouble = trouble
	s.mu.Unlock()
	if trouble != nil && before == nil {
		s.Log.Error("write down", "err", trouble)
	}
	s.publish(r, looked)
	s.logChanges(last, r)
}

// logChanges writes a line for each change of phase, and for each condition that comes or goes.
func (s *Supervisor) logChanges(last, r Recovery) {
	log := s.Log.With("recovery", r.ID, "phase", r.Phase)
	if r.ID != last.ID {
		log.Info("recovery begins", "boot", r.Boot, "origin", r.Origin)
	}
	if r.Phase != last.Phase || r.ID != last.ID {
		if n := len(r.Timeline); n > 1 && len(r.Timeline[n-2].Missed) > 0 {
			log.Warn("limit passed", "missed", r.Timeline[n-2].Missed)
		}
		log.Info("phase", "took", r.Since.Sub(r.Began))
	}
	for _, c := range r.Conditions {
		if !slices.Contains(last.Conditions, c) {
			log.Warn("condition", "code", c.Code, "text", c.Text, "cure", c.Cure)
		}
	}
	for _, c := range last.Conditions {
		if !slices.Contains(r.Conditions, c) {
			log.Info("condition is gone", "code", c.Code, "text", c.Text)
		}
	}
}

// Recovery returns the recovery as it is now.
func (s *Supervisor) Recovery() Recovery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *Supervisor) publish(r Recovery, looked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.looked = r, looked
}

// MarkShutdown records that the machine is about to be shut down in order. It is called after Run.
func (s *Supervisor) MarkShutdown() error {
	if s.Stack == nil {
		return nil
	}
	return s.Journal.Mark(s.Boot)
}

// atRest says that nothing changes by waiting for a second or two: all is well, or what is not is known and waits for a person.
func (r Recovery) atRest() bool {
	return r.Phase.final() && !r.Message.Due && (r.Doors.Answer.Right || r.Doors.GaveUp || r.Doors.Answer.At.IsZero()) &&
		r.Images.State != ProofRuns && !slices.ContainsFunc(r.Services, func(t Track) bool { return !t.Ready && !t.Stopped && !t.Blocked && !t.GaveUp })
}
