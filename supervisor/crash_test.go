package supervisor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
)

// harbor is a stack like Harbor's whose host has just died, with what happens to it besides.
func harbor(t *testing.T, happens ...string) *play {
	t.Helper()
	p := newPlay(t)
	for _, line := range []string{
		"log takes=2s", "registry after=log logs=log needs=r images=postgresql", "postgresql after=log logs=log needs=d takes=5s",
		"redis after=log logs=log needs=c cache", "core after=log,registry,redis,postgresql logs=log fatal=postgresql",
		"jobservice after=core logs=log", "proxy after=registry,core,log logs=log entry",
	} {
		p.addService(strings.Fields(line))
	}
	for _, s := range p.services {
		s.State = supervisor.Exited
	}
	for _, name := range []string{"r", "d", "c"} {
		p.setVolume(name + " mounted")
	}
	for _, h := range happens {
		p.set(h)
	}
	p.begin(mooring.No)
	p.world.boot(false)
	return p
}

// verdict is what the recovery came to, for comparison.
func (p *play) verdict() string {
	i := p.recovery.Images
	return fmt.Sprintf("damaged %t; images %s: %d damaged, tags %q, late %t", p.damaged, i.State, i.Damage.Images, i.Verdict.Tags, i.Late)
}

func mishaps() map[string][]string {
	return map[string][]string{
		"nothing else":       nil,
		"a stale proxy":      {"doors 401 Unauthorized"},
		"a stubborn proxy":   {"doors 401 Unauthorized", "stubborn"},
		"a crashing service": {"service core crashes=3"},
		"a dying service":    {"service redis dies=3"},
		"a damaged volume":   {"volume d damaged it is broken"},
		"a taken disk":       {"volume d taken by VM2"},
		"a fenced disk":      {"volume d fenced the host is not dead"},
		"a hopeless proxy":   {"doors 500", "hopeless"},
		"slow images":        {"images takes 15s"},
		"lost images":        {"images takes 3s", "images missing a:1: gone", "images missing b:2: gone"},
		"unreadable images":  {"images breaks 2", "images takes 2s"},
		"late images":        {"images takes 11m"},
		"a slow answer":      {"service postgresql answers=6s"},
		"unknown tags":       {"images silent relation does not exist"},
	}
}

// G23: The supervisor may be killed at any point of any step: before it has written the journal, before it acts, and before it hears what came of that. It goes on,
// and it all ends as if it had never been killed.
func TestKilledAtAnyPointItEndsTheSame(t *testing.T) {
	end := func(p *play) {
		p.run(20*time.Minute, true)
		p.run(5*time.Second, false) // till somebody was told
	}
	all := mishaps()
	delete(all, "a hopeless proxy") // there is no moment at which it is at rest
	for name, happens := range all {
		t.Run(name, func(t *testing.T) {
			whole := harbor(t, happens...)
			end(whole)
			want := fmt.Sprintf("%s, told %d\n%s\n%s", whole.phase, whole.told, whole.standing(), whole.verdict())
			if whole.phase != supervisor.Settled && whole.phase != supervisor.Failed {
				t.Fatalf("without a kill: %s", want)
			}
			interesting := min(whole.steps, 60)
			for at := 1; at <= interesting; at++ {
				for _, d := range []death{beforeJournal, beforeActing, afterActing} {
					p := harbor(t, happens...)
					p.cut = func(step int) death {
						if step == at {
							return d
						}
						return lives
					}
					end(p)
					got := fmt.Sprintf("%s, told %d\n%s\n%s", p.phase, min(p.told, 1), p.standing(), p.verdict()) // told twice is better than not at all
					if got != want {
						t.Fatalf("killed in step %d, at point %d: got %s\nwant %s\n%s", at, d, got, want, strings.Join(p.lines, "\n"))
					}
				}
			}
		})
	}
}

// However often the supervisor is killed: as long as it lives for a few steps now and then, it all ends the same.
func TestKilledAgainAndAgainItEndsTheSame(t *testing.T) {
	end := func(p *play) {
		p.run(20*time.Minute, true)
		if p.hopeless {
			p.run(13*time.Minute, false) // till nobody tries any more
		}
		p.run(5*time.Second, false)
	}
	ends := map[string]*play{}
	for name, happens := range mishaps() {
		ends[name] = harbor(t, happens...)
		end(ends[name])
	}
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.SampledFrom(sortedKeys(ends)).Draw(r, "mishap")
		whole, p := ends[name], harbor(t, mishaps()[name]...)
		p.cut = func(step int) death {
			if step > 300 || step%4 != 0 {
				return lives
			}
			return death(rapid.IntRange(int(lives), int(afterActing)).Draw(r, "death"))
		}
		end(p)
		if p.phase != whole.phase || p.standing() != whole.standing() || p.verdict() != whole.verdict() {
			r.Fatalf("got %s\n%s\n%s\nwant %s\n%s\n%s", p.phase, p.standing(), p.verdict(), whole.phase, whole.standing(), whole.verdict())
		}
	})
}
