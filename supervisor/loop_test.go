package supervisor_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

// stage is a world in real time, as a stack, volumes, a witness and somebody to tell.
type stage struct {
	mu       sync.Mutex
	world    *world
	looks    int
	changed  chan struct{}
	hang     bool // whoever looks hears nothing, not even that time is up
	saw      []mooring.Sighting
	sawErr   error
	messages []admin.Recovery
	prover   *prover // nil: the registry is a service like any other
}

func newStage(t *testing.T, happens ...string) *stage {
	t.Helper()
	p := harbor(t, happens...)
	p.now, p.trace = time.Now(), func(string, ...any) {}
	p.world.boot(false)
	return &stage{world: &p.world, changed: make(chan struct{}, 1)}
}

// with does something to the world, which has caught up with the time before.
func (s *stage) with(do func(w *world)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for time.Since(s.world.now) >= time.Second {
		s.world.pass()
	}
	do(s.world)
}

// looked returns how often somebody has looked.
func (s *stage) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *stage) Observe(ctx context.Context) (state supervisor.StackState) {
	s.with(func(w *world) {
		s.looks++
		o := w.seen()
		state = supervisor.StackState{Docker: o.Docker, Project: o.Project, Services: o.Services, Storage: o.Storage}
	})
	if s.hang {
		select {}
	}
	return state
}

func (s *stage) Changed() <-chan struct{} { return s.changed }

func (s *stage) act(v supervisor.Verb, name supervisor.ServiceName) (err error) {
	s.with(func(w *world) { _, err = w.do(supervisor.Action{Verb: v, Service: name}) })
	return err
}

func (s *stage) Start(_ context.Context, n supervisor.ServiceName) error {
	return s.act(supervisor.Start, n)
}

func (s *stage) Restart(_ context.Context, n supervisor.ServiceName) error {
	return s.act(supervisor.Restart, n)
}

func (s *stage) Reload(_ context.Context, n supervisor.ServiceName) error {
	return s.act(supervisor.Reload, n)
}

func (s *stage) Flush(_ context.Context, n supervisor.ServiceName) error {
	return s.act(supervisor.Flush, n)
}

func (s *stage) Ask(context.Context) (a supervisor.Answer) {
	s.with(func(w *world) { a = w.answer() })
	return a
}

func (s *stage) Restarts(context.Context, time.Time) ([]mooring.Sighting, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saw, s.sawErr
}

func (s *stage) Notify(_ context.Context, rep admin.Recovery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, rep)
	return nil
}

// plugin is the stage's volumes.
type plugin struct{ *stage }

func (p plugin) Observe(context.Context) (list []supervisor.Volume, reach supervisor.Reach) {
	p.with(func(w *world) { o := w.seen(); list, reach = o.Volumes, o.Plugin })
	return list, reach
}

// life is one life of a supervisor.
type life struct {
	*supervisor.Supervisor

	t       *testing.T
	journal *supervisor.Journal
	fed     int
	end     func()
}

// live starts a supervisor on the stage, in a boot.
func live(t *testing.T, s *stage, dir string, boot mooring.BootID) *life {
	t.Helper()
	j, err := supervisor.OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	parts := supervisor.Parts{
		Journal: j, Reports: supervisor.Reports{Dir: filepath.Join(dir, "recoveries"), Keep: 3}, Log: slog.New(slog.DiscardHandler),
	}
	if s != nil {
		parts.Stack, parts.Volumes, parts.Witness, parts.Notifier = s, plugin{s}, s, s
		if s.prover != nil {
			parts.Images = s.prover
		}
	}
	l := &life{t: t, journal: j}
	l.Supervisor = supervisor.New(parts, supervisor.Settings{Boot: boot, Booted: time.Now(), Limits: limits(), Version: "v1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { l.Run(ctx, func() { l.fed++ }); close(done) }()
	l.end = func() {
		cancel()
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	return l
}

// ask asks the admin socket.
func (l *life) ask(method, path, body string, answer any) int {
	l.t.Helper()
	rec := httptest.NewRecorder()
	l.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(l.t.Context(), method, path, strings.NewReader(body)))
	if err := json.Unmarshal(rec.Body.Bytes(), answer); err != nil {
		l.t.Fatalf("%s %s: %v in %s", method, path, err, rec.Body)
	}
	return rec.Code
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the time of a synctest bubble passes by this alone
	synctest.Wait()
}

// The host dies, and the stack comes back: journalled, reported as JSON and as a page, told once, with what vCenter saw when it answers at last.
func TestStackComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newStage(t)
		s.sawErr = mooring.ErrUnavailable
		first := live(t, s, dir, "boot-1")
		pass(time.Minute)
		first.end()
		s.with(func(w *world) { w.boot(false) })
		pass(time.Minute)
		l := live(t, s, dir, "boot-2")
		pass(time.Minute)
		if st := l.Recovery(); st.Phase != supervisor.Settled || st.Origin != supervisor.Failover {
			t.Errorf("got %s after a %s, want settled after a failover", st.Phase, st.Origin)
		}
		s.with(func(*world) {
			s.sawErr, s.saw = nil, []mooring.Sighting{{At: time.Now(), Type: "com.vmware.vc.ha.VmRestartedByHAEvent", Host: "esx2", Text: "vSphere HA restarted"}}
		})
		pass(time.Minute)
		var rep admin.Recovery
		if code := l.ask(http.MethodGet, admin.RecoveryPath(admin.LastRecovery), "", &rep); code != http.StatusOK || len(rep.Evidence) != 1 || rep.Damaged || rep.Phase != "settled" {
			t.Errorf("report: got %d, %+v", code, rep)
		}
		if down := rep.Began.Sub(rep.Died); down < 55*time.Second || down > 75*time.Second {
			t.Errorf("last seen %s before, want about a minute", down)
		}
		page, err := os.ReadFile(filepath.Join(dir, "recoveries", rep.ID+".txt"))
		if err != nil || !strings.Contains(string(page), "vSphere HA restarted") {
			t.Errorf("page: got %s, %v", page, err)
		}
		var list admin.Recoveries
		if l.ask(http.MethodGet, admin.RecoveriesPath, "", &list); len(list.Recoveries) != 2 || list.Recoveries[0].ID != rep.ID {
			t.Errorf("recoveries: got %+v, want two, the newest first", list)
		}
		l.end()
		if len(s.messages) != 1 || s.messages[0].ID != rep.ID {
			t.Errorf("told: %+v, want the report once", s.messages)
		}
	})
}

// A supervisor that ends in the middle is followed by one that goes on with the same recovery, and says nothing about it.
func TestNextSupervisorGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newStage(t)
		l := live(t, s, dir, "boot-1")
		pass(7 * time.Second)
		r := l.Recovery()
		l.end()
		if r.Phase != supervisor.Starting {
			t.Fatalf("after some seconds: %s", r.Phase)
		}
		for range 3 {
			l = live(t, s, dir, "boot-1")
			pass(time.Minute)
			if got := l.Recovery(); got.ID != r.ID || got.Phase != supervisor.Settled {
				t.Errorf("got %s, %s, want %s settled", got.ID, got.Phase, r.ID)
			}
			l.end()
		}
		if len(s.messages) != 0 {
			t.Errorf("told %d times of a first start that went well", len(s.messages))
		}
	})
}

// A reboot in order, a failover, a restart of the supervisor alone and a record that was lost are told apart.
func TestBootsAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newStage(t)
		expect := func(l *life, want supervisor.Origin, notes int) {
			t.Helper()
			pass(30 * time.Second)
			if r := l.Recovery(); r.Origin != want || r.Phase != supervisor.Settled || len(r.Notes) != notes {
				t.Errorf("got %s, %s, %q, want %s, settled, %d notes", r.Origin, r.Phase, r.Notes, want, notes)
			}
			l.end()
		}
		expect(live(t, s, dir, "boot-1"), supervisor.First, 0)
		l := live(t, s, dir, "boot-1")
		expect(l, supervisor.First, 0)
		l = live(t, s, dir, "boot-1")
		l.end()
		mark := func() {
			t.Helper()
			j, err := supervisor.OpenJournal(filepath.Join(dir, "journal"))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(j.Mark("boot-1"), j.Close()); err != nil {
				t.Fatal(err)
			}
		}
		mark()
		expect(live(t, s, dir, "boot-2"), supervisor.Reboot, 0)
		expect(live(t, s, dir, "boot-3"), supervisor.Failover, 0) // the mark is gone
		mark()                                                    // of another boot than the last
		expect(live(t, s, dir, "boot-4"), supervisor.Failover, 0)
		if err := os.WriteFile(filepath.Join(dir, "journal", "journal"), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(live(t, s, dir, "boot-5"), supervisor.Unclear, 1)
		if n := len(s.messages); n != 3 {
			t.Errorf("told %d times, want of two failovers and of what is unclear", n)
		}
	})
}

// The watchdog is fed by the loop: one that hangs starves it.
func TestLoopThatHangsIsNotAlive(t *testing.T) {
	dir := t.TempDir()
	s := newStage(t)
	j, err := supervisor.OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.hang = true
	alive := make(chan struct{}, 1)
	sup := supervisor.New(supervisor.Parts{Stack: s, Volumes: plugin{s}, Journal: j, Log: slog.New(slog.DiscardHandler)}, supervisor.Settings{Boot: "b", Limits: limits()})
	go sup.Run(t.Context(), func() { alive <- struct{}{} })
	select {
	case <-alive:
		t.Error("fed by a loop that hangs")
	case <-time.After(2 * time.Second):
	}
}

// At rest little is asked, and an event is heard at once.
func TestAtRestLittleIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		l := live(t, s, t.TempDir(), "boot-1")
		pass(time.Minute)
		before := s.looked()
		pass(10 * time.Minute)
		if n := s.looked() - before; n > 10*10 { // every 10 s, and twice for each question
			t.Errorf("looked %d times in ten minutes", n)
		}
		s.with(func(w *world) { w.service("core").State = supervisor.Exited })
		for range 100 { // events come in swarms
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
		before = s.looked()
		pass(2 * time.Second)
		s.with(func(w *world) {
			if w.service("core").State != supervisor.Running {
				t.Error("not healed within two seconds of the event")
			}
		})
		if n := s.looked() - before; n > 6 {
			t.Errorf("looked %d times in two seconds", n)
		}
		l.end()
	})
}

// A volume driver that does not answer in time, because it is being upgraded or the machine starts everything at once, has not lost its volumes: nothing is called kept down for that,
// and no recovery ends as damaged. One that stays away is missed.
func TestAVolumeDriverMayBeSilentForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		l := live(t, s, t.TempDir(), "boot-1")
		silent := func(is bool) {
			s.with(func(w *world) {
				w.plugin = supervisor.Reach{}
				if is {
					w.plugin = supervisor.Reach{Err: "context deadline exceeded"}
				}
			})
		}
		conditions := func() []admin.Condition {
			var st admin.Stack
			l.ask(http.MethodGet, admin.StackPath, "", &st)
			return st.Conditions
		}
		pass(time.Minute)
		for range 5 {
			silent(true)
			pass(40 * time.Second)
			if got := conditions(); len(got) > 0 {
				t.Fatalf("after 40 seconds of silence: got %+v, want nothing", got)
			}
			silent(false)
			pass(20 * time.Second)
		}
		silent(true)
		pass(2 * time.Minute)
		if got := conditions(); len(got) == 0 {
			t.Error("after two minutes of silence: got nothing, want a condition")
		}
		l.end()
	})
}

// What is asked over the admin socket is answered while the loop runs, and a person's word is heard.
func TestAPersonIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "volume d damaged it is broken")
		l := live(t, s, t.TempDir(), "boot-1")
		pass(time.Minute)
		var st admin.Stack
		l.ask(http.MethodGet, admin.StackPath, "", &st)
		if st.Phase != "settled" || len(st.Conditions) != 1 || st.Conditions[0].Code != "service-blocked" || !st.Configured || st.Version != "v1" {
			t.Errorf("stack: got %+v", st)
		}
		var order []string
		why := make(map[string]string)
		for _, v := range st.Services {
			order = append(order, v.Name)
			if !v.Ready {
				why[v.Name] = v.Why
			}
		}
		if got := strings.Join(order, " "); got != "log postgresql redis registry core jobservice proxy" {
			t.Errorf("order of the start: got %s, want the proxy last", got)
		}
		if want := "volume d of postgresql is damaged: it is broken"; len(why) != 4 || why["postgresql"] != want || why["proxy"] != want {
			t.Errorf("why: got %v, want four services that wait for the volume", why)
		}
		asked := st.Looked
		s.with(func(w *world) { w.volume("d").State = supervisor.VolumePresent })
		if code := l.ask(http.MethodPost, admin.HealPath, `{"stopped":true}`, &st); code != http.StatusOK {
			t.Errorf("heal: got %d", code)
		}
		pass(time.Minute)
		l.ask(http.MethodGet, admin.StackPath, "", &st)
		if len(st.Conditions) != 0 || !st.Doors.Right || !st.Looked.After(asked) {
			t.Errorf("healed: got %+v", st)
		}
		var problem admin.Problem
		if code := l.ask(http.MethodPost, admin.HealPath, `{`, &problem); code != http.StatusBadRequest {
			t.Errorf("nonsense: got %d", code)
		}
		if code := l.ask(http.MethodGet, admin.RecoveryPath("../journal/journal"), "", &problem); code != http.StatusNotFound {
			t.Errorf("a recovery that is none: got %d", code)
		}
		l.end()
	})
}

// Without a stack the supervisor runs, is alive, and has nothing to do.
func TestWithoutAStackItIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := live(t, nil, t.TempDir(), "boot-1")
		pass(time.Minute)
		var st admin.Stack
		if l.ask(http.MethodGet, admin.StackPath, "", &st); st.Configured || st.Phase != "" {
			t.Errorf("got %+v", st)
		}
		var problem admin.Problem
		if code := l.ask(http.MethodPost, admin.HealPath, "", &problem); code != http.StatusNotFound {
			t.Errorf("heal: got %d", code)
		}
		if err := l.MarkShutdown(); err != nil {
			t.Error(err)
		}
		l.end()
		if l.fed < 6 {
			t.Errorf("alive %d times in a minute", l.fed)
		}
	})
}

// A full disk does not keep the stack down.
func TestWithoutADiskTheStackComesBackAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newStage(t)
		l := live(t, s, dir, "boot-1")
		synctest.Wait() // it writes at once
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		var st admin.Stack
		l.ask(http.MethodGet, admin.StackPath, "", &st)
		if st.Phase != "settled" || len(st.Conditions) != 1 || st.Conditions[0].Code != "journal" {
			t.Errorf("got %+v", st)
		}
		l.end()
	})
}
