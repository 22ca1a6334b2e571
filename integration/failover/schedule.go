package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Fault is one thing that goes wrong in a random schedule.
type Fault string

// The faults. Those of the first group take the machine's memory.
const (
	HostKilled   Fault = "host killed"
	MachineReset Fault = "machine reset"
	GuestPanic   Fault = "guest panic"

	GuestFrozen   Fault = "guest frozen" // and thawed before anybody gives up on it
	VCenterDown   Fault = "vcenter down"
	VCenterSlow   Fault = "vcenter slow"
	LinkCut       Fault = "link to vcenter cut"
	PluginKilled  Fault = "plugin killed"
	DockerKilled  Fault = "dockerd killed"
	DockerRestart Fault = "dockerd restarted"
	WriterKilled  Fault = "writer killed"
)

// Faults returns all of them.
func Faults() []Fault {
	return append(fatal(), GuestFrozen, VCenterDown, VCenterSlow, LinkCut, PluginKilled, DockerKilled, DockerRestart, WriterKilled)
}

// fatal returns those after which the machine boots.
func fatal() []Fault { return []Fault{HostKilled, MachineReset, GuestPanic} }

// Lasting says whether the fault is a state that ends, and no event.
func (f Fault) Lasting() bool {
	return slices.Contains([]Fault{GuestFrozen, VCenterDown, VCenterSlow, LinkCut}, f)
}

// Fatal says whether the machine boots after the fault.
func (f Fault) Fatal() bool { return slices.Contains(fatal(), f) }

// Writer is a container with a volume that writes all the time.
type Writer struct {
	Machine  string
	Volume   string
	FSType   string
	Interval time.Duration // between two records
}

// Step is a fault at a time.
type Step struct {
	At      time.Duration // since the writers began
	Fault   Fault
	Machine string        // empty: it is vCenter's
	For     time.Duration // of a lasting fault
}

// String returns the step as a line of a report.
func (s Step) String() string {
	out := fmt.Sprintf("%6s  %s", s.At.Round(100*time.Millisecond), s.Fault)
	if s.Machine != "" {
		out += " (" + s.Machine + ")"
	}
	if s.For > 0 {
		out += fmt.Sprintf(" for %s", s.For.Round(100*time.Millisecond))
	}
	return out
}

// Schedule is what one random run does. It follows from its seed and the names of the machines alone.
type Schedule struct {
	Seed    uint64
	Writers []Writer
	Steps   []Step // by time
}

// String returns the schedule as a report has it.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "SEED=%d\n", s.Seed)
	for _, w := range s.Writers {
		fmt.Fprintf(&b, "        %s writes to %s (%s) every %s\n", w.Machine, w.Volume, w.FSType, w.Interval)
	}
	for _, step := range s.Steps {
		fmt.Fprintf(&b, "%s\n", step)
	}
	return b.String()
}

// recovery is the time that a machine is given to boot again before the next fault that it may be asked to bear alone.
const recovery = 15 * time.Second

// Plan makes the schedule of a seed: two to four writers, three to five faults of which one or two take a machine's memory, at times that fall into
// each other's consequences: a dockerd is killed while it starts the containers again, vCenter goes while a host dies.
func Plan(seed uint64, machines []string) Schedule {
	r := rand.New(rand.NewPCG(seed, 0x6d6f6f72)) //nolint:gosec // a schedule, no secret
	s := Schedule{Seed: seed}
	for i := range 2 + r.IntN(3) {
		s.Writers = append(s.Writers, Writer{
			Machine: machines[i%len(machines)], Volume: fmt.Sprintf("rnd%d", i), FSType: []string{"ext4", "xfs"}[r.IntN(2)],
			Interval: time.Duration(20+r.IntN(80)) * time.Millisecond,
		})
	}
	faults := []Fault{fatal()[r.IntN(3)]}
	if r.IntN(3) == 0 {
		faults = append(faults, fatal()[r.IntN(3)])
	}
	for range 2 + r.IntN(2) {
		faults = append(faults, Faults()[3+r.IntN(len(Faults())-3)])
	}
	r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	at := time.Duration(0)
	busy := map[string]time.Duration{} // until when a machine, or vCenter (""), has a fault of its own
	for _, f := range faults {
		at += time.Duration(500+r.IntN(5500)) * time.Millisecond
		step := Step{Fault: f}
		if f != VCenterDown && f != VCenterSlow {
			step.Machine = machines[r.IntN(len(machines))]
		}
		if f.Lasting() {
			step.For = time.Duration(1000+r.IntN(9000)) * time.Millisecond
		}
		at = max(at, busy[step.Machine])
		step.At = at
		busy[step.Machine] = at + step.For
		if f.Fatal() {
			busy[step.Machine] = at + recovery
		}
		s.Steps = append(s.Steps, step)
	}
	return s
}
