package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
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

// prover proves images that there are not, in real time.
type prover struct {
	takes, rehash time.Duration
	lost          int // images

	mu      sync.Mutex
	state   supervisor.ImagesState
	reading map[supervisor.Verb]supervisor.Storage
	ends    []supervisor.Verb
}

func (p *prover) Observe() supervisor.ImagesState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// read reads until the time is over, and then says what was found.
func (p *prover) read(ctx context.Context, v supervisor.Verb, s supervisor.Storage, takes time.Duration, found func()) error {
	p.mu.Lock()
	p.reading[v] = s
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.reading, v)
		p.ends = append(p.ends, v)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(takes):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	found()
	return nil
}

func (p *prover) Verify(ctx context.Context, s supervisor.Storage) error {
	p.mu.Lock()
	p.state.Progress = supervisor.Progress{Tier: 1, What: "scanning", Done: 5, All: 10, Left: 90 * time.Second}
	p.mu.Unlock()
	return p.read(ctx, supervisor.Verify, s, p.takes, func() {
		p.state = supervisor.ImagesState{
			Verdict: supervisor.Verdict{At: time.Now(), Images: 1000, Intact: 1000 - p.lost, Tags: mooring.Yes}, Damage: supervisor.Damage{At: time.Now(), Images: p.lost},
		}
		for i := range p.lost {
			f := admin.Finding{Repository: "library/a", Tag: fmt.Sprintf("v%d", i), Text: "its layer is empty"}
			p.state.Findings = append(p.state.Findings, f)
			if i < 3 {
				p.state.Damage.Worst = append(p.state.Damage.Worst, f.Line())
			}
		}
	})
}

func (p *prover) Keep(ctx context.Context, s supervisor.Storage) error {
	err := p.read(ctx, supervisor.Keep, s, 365*24*time.Hour, func() {})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

func (p *prover) Rehash(ctx context.Context, s supervisor.Storage) error {
	return p.read(ctx, supervisor.Rehash, s, p.rehash, func() { p.state.Rehashed = time.Now() })
}

// reads returns what of the storage is being read.
func (p *prover) reads() map[supervisor.Verb]supervisor.Storage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.reading)
}

func newProver(takes, rehash time.Duration, lost int) *prover {
	return &prover{takes: takes, rehash: rehash, lost: lost, reading: make(map[supervisor.Verb]supervisor.Storage)}
}

// G22: The images are proved beside the start of the stack; how far that is can be seen; what is lost is in the report, every one by name, and in what is told, the first of
// them; and the report says in the end that everything was hashed.
func TestImagesAreProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newStage(t)
		first := live(t, s, dir, "boot-1")
		pass(time.Minute)
		first.end()
		s.with(func(w *world) { w.boot(false) })
		s.prover = newProver(30*time.Second, 10*time.Minute, 150)
		l := live(t, s, dir, "boot-2")
		pass(20 * time.Second)
		var st admin.Stack
		if l.ask(http.MethodGet, admin.StackPath, "", &st); st.Phase != "verifying" || st.Images == nil || st.Images.State != "verifying" || st.Images.Progress == nil ||
			st.Images.Progress.Sentence() != "tier 1: scanning: 5 of 10, 1m30s to go" {
			t.Errorf("under way: got %s, %+v", st.Phase, st.Images)
		}
		if got := s.prover.reads(); got[supervisor.Verify] != (supervisor.Storage{Service: "registry", Volume: "r", Dir: ".", Tags: "postgresql"}) {
			t.Errorf("reads %+v", got)
		}
		pass(40 * time.Second)
		var rep admin.Recovery
		l.ask(http.MethodGet, admin.RecoveryPath(admin.LastRecovery), "", &rep)
		if i := rep.Images; rep.Phase != "settled" || !rep.Damaged || i == nil || i.Damaged != 150 || len(i.Findings) != 150 || !i.Rehashed.IsZero() {
			t.Errorf("settled: got %s, damaged %t, %+v", rep.Phase, rep.Damaged, i)
		}
		if l.ask(http.MethodGet, admin.StackPath, "", &st); len(st.Images.Findings) != 100 || len(st.Conditions) != 1 || !strings.Contains(st.Conditions[0].Text, "library/a:v2: its layer is empty; and 147 more") {
			t.Errorf("stack: got %d findings, %+v", len(st.Images.Findings), st.Conditions)
		}
		pass(11 * time.Minute)
		l.ask(http.MethodGet, admin.RecoveryPath(admin.LastRecovery), "", &rep)
		if rep.Images.Rehashed.IsZero() || len(rep.Images.Findings) != 150 {
			t.Errorf("all is hashed: got %d findings, %s", len(rep.Images.Findings), rep.Images.Rehashed)
		}
		page, err := os.ReadFile(filepath.Join(dir, "recoveries", rep.ID+".txt"))
		if err != nil || !strings.Contains(string(page), "and 50 more: mooring recovery show") || !strings.Contains(string(page), "850 of 1000 images proved") {
			t.Errorf("page: got %s, %v", page, err)
		}
		l.end()
		if len(s.messages) != 1 || len(s.messages[0].Images.Findings) != 100 {
			t.Errorf("told: %d messages, want one with the first hundred", len(s.messages))
		}
	})
}

// What reads the storage is ended when a person stops the registry, and when the supervisor ends.
func TestStorageIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.prover = newProver(time.Second, time.Hour, 0)
		l := live(t, s, t.TempDir(), "boot-1")
		pass(time.Minute)
		if got := s.prover.reads(); len(got) != 2 {
			t.Fatalf("settled: reads %v, want to keep the manifest and to hash", got)
		}
		s.with(func(w *world) {
			r := w.service("registry")
			r.State, r.manual, r.seen = supervisor.Exited, true, true
		})
		s.changed <- struct{}{}
		pass(2 * time.Second)
		if got := s.prover.reads(); len(got) != 0 {
			t.Errorf("two seconds after it was stopped: reads %v", got)
		}
		pass(time.Minute)
		s.with(func(w *world) {
			if err := w.start(w.service("registry"), true); err != nil {
				t.Error(err)
			}
		})
		pass(time.Minute)
		if got := s.prover.reads(); len(got) != 2 {
			t.Errorf("started again: reads %v", got)
		}
		l.end()
		if got := s.prover.reads(); len(got) != 0 || s.prover.ends[0] != supervisor.Verify {
			t.Errorf("ended: reads %v", got)
		}
	})
}

// Whoever has put a blob back has the registry's cache flushed; a service that cannot flush its own is restarted.
func TestRegistrysCacheIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.prover = newProver(time.Second, time.Hour, 0)
		l := live(t, s, t.TempDir(), "boot-1")
		pass(time.Minute)
		var got admin.Flushed
		if code := l.ask(http.MethodPost, admin.FlushPath, "", &got); code != http.StatusOK || got != (admin.Flushed{}) {
			t.Errorf("no cache: got %d, %+v", code, got)
		}
		for cache, want := range map[supervisor.ServiceName]admin.Flushed{"redis": {Service: "redis"}, "registry": {Service: "registry", Restarted: true}} {
			s.with(func(w *world) { w.images.at.Cache = cache })
			pass(time.Minute)
			before := time.Now()
			pass(time.Second)
			if code := l.ask(http.MethodPost, admin.FlushPath, "", &got); code != http.StatusOK || got != want {
				t.Errorf("%s: got %d, %+v, want %+v", cache, code, got, want)
			}
			s.with(func(w *world) {
				if started := w.service(cache).StartedAt; started.After(before) != want.Restarted {
					t.Errorf("%s was started at %s", cache, started)
				}
			})
		}
		l.end()
	})
}

// While images are kept and hashed, no more is looked at than at rest.
func TestHashingIsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.prover = newProver(time.Second, time.Hour, 0)
		l := live(t, s, t.TempDir(), "boot-1")
		pass(time.Minute)
		before := s.looked()
		pass(10 * time.Minute)
		if n := s.looked() - before; n > 10*10 {
			t.Errorf("looked %d times in ten minutes", n)
		}
		l.end()
	})
}
