package failover_test

import (
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
)

const seeds = 2000

func machines() []string { return []string{"docker1", "docker2"} }

// A failure is worth nothing if its seed does not bring it back.
func TestOneSeedOneSchedule(t *testing.T) {
	texts := map[string]uint64{}
	for seed := range uint64(seeds) {
		s := failover.Plan(seed, machines()).String()
		if again := failover.Plan(seed, machines()).String(); again != s {
			t.Fatalf("seed %d:\n%s\nand then\n%s", seed, s, again)
		}
		texts[s] = seed
	}
	if len(texts) < seeds*99/100 {
		t.Errorf("%d seeds make %d schedules", seeds, len(texts))
	}
}

func TestSchedulesAreWhatTheySay(t *testing.T) {
	seen := map[failover.Fault]int{}
	for seed := range uint64(seeds) {
		s := failover.Plan(seed, machines())
		if len(s.Writers) < 2 || len(s.Writers) > 4 {
			t.Errorf("seed %d: %d writers", seed, len(s.Writers))
		}
		fatal := 0
		var last time.Duration
		until := map[string]time.Duration{}
		for _, step := range s.Steps {
			seen[step.Fault]++
			if step.Fault.Fatal() {
				fatal++
			}
			if step.At < last || step.At > 2*time.Minute {
				t.Errorf("seed %d: %s comes at %s, after %s", seed, step.Fault, step.At, last)
			}
			last = step.At
			if (step.For > 0) != step.Fault.Lasting() {
				t.Errorf("seed %d: %s lasts %s", seed, step.Fault, step.For)
			}
			vcenters := step.Fault == failover.VCenterDown || step.Fault == failover.VCenterSlow
			if (step.Machine == "") != vcenters {
				t.Errorf("seed %d: %s has the machine %q", seed, step.Fault, step.Machine)
			}
			if step.At < until[step.Machine] {
				t.Errorf("seed %d: %s comes while %q bears another fault", seed, step, step.Machine)
			}
			until[step.Machine] = step.At + step.For
		}
		if fatal < 1 || fatal > 2 {
			t.Errorf("seed %d: %d faults take a machine's memory, want 1 or 2", seed, fatal)
		}
	}
	for _, f := range failover.Faults() {
		if seen[f] < seeds/20 {
			t.Errorf("%s: in %d of %d schedules", f, seen[f], seeds)
		}
	}
}
