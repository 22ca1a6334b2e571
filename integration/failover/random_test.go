//go:build machines

package failover_test

import (
	"sync"
	"time"

	"github.com/mooring-sh/mooring/integration/failover"
)

// random carries out the schedule of a seed.
type random struct {
	plan   failover.Schedule
	booted map[string]bool
	hosts  []string                 // that were killed
	lasts  map[string]chan struct{} // by machine, and "" for vCenter: closed when its lasting fault has ended
}

func (r *random) setup(s *scene) {
	say("the schedule:\n%s", r.plan)
	r.booted, r.lasts = map[string]bool{}, map[string]chan struct{}{}
	for _, w := range r.plan.Writers {
		v := s.volume(w.Machine, w.Volume, w.FSType)
		s.write(v, "always")
	}
}

// fault lets each step come at its time. Steps that last end by themselves, beside those of others that follow: to one machine the next is done when the last has ended.
func (r *random) fault(s *scene) {
	begun := time.Now()
	var lasting sync.WaitGroup
	defer lasting.Wait()
	for _, step := range r.plan.Steps {
		s.pause(step.At - time.Since(begun))
		if ended := r.lasts[step.Machine]; ended != nil {
			<-ended
		}
		if step.Fault == failover.HostKilled || step.Fault == failover.MachineReset { // nothing can be done to one that HA is about to start
			s.await(soon, step.Machine+" runs", func() bool { return s.on(step.Machine) && s.state(s.hostOf(step.Machine)) == "connected" })
		}
		say("  %s", step)
		for _, vm := range s.Names() {
			if vm == step.Machine && step.Fault.Fatal() || step.Fault == failover.HostKilled && s.hostOf(vm) == s.hostOf(step.Machine) {
				r.booted[vm] = true
			}
		}
		r.strike(s, step, &lasting)
	}
}

func (r *random) strike(s *scene, step failover.Step, lasting *sync.WaitGroup) {
	during := func(begin, end func() error) {
		if err := begin(); err != nil {
			s.t.Errorf("%s: %v", step, err)
			return
		}
		ended := make(chan struct{})
		r.lasts[step.Machine] = ended
		lasting.Go(func() {
			defer close(ended)
			s.pause(step.For)
			if err := end(); err != nil {
				s.t.Errorf("end of %s: %v", step, err)
			}
		})
	}
	m := step.Machine
	switch step.Fault {
	case failover.HostKilled:
		r.hosts = append(r.hosts, s.hostOf(m))
		s.must(s.KillHost(s.hostOf(m)))
	case failover.MachineReset:
		s.must(s.Reset(m))
	case failover.GuestPanic:
		s.tryFor(m, "echo c >/proc/sysrq-trigger")
	case failover.GuestFrozen:
		during(s.VM(m).Freeze, s.VM(m).Thaw)
	case failover.VCenterDown:
		during(s.StopServing, s.StartServing)
	case failover.VCenterSlow:
		during(func() error { s.slow(2 * time.Second); return nil }, func() error { s.Clear(); return nil })
	case failover.LinkCut:
		during(func() error { return s.VM(m).Link(s.ctx, "vcenter", false) }, func() error { return s.VM(m).Link(s.ctx, "vcenter", true) })
	case failover.PluginKilled:
		s.tryFor(m, "systemctl kill -s KILL mooring-plugin")
	case failover.DockerKilled:
		s.tryFor(m, "systemctl kill -s KILL docker")
	case failover.DockerRestart:
		s.tryFor(m, "systemctl restart --no-block docker")
	case failover.WriterKilled:
		s.tryFor(m, "docker ps -q | head -1 | xargs -r docker kill")
	}
}

// expect brings killed hosts back, and waits until all machines are up and every writer writes again.
func (r *random) expect(s *scene) {
	for vm := range r.booted {
		s.rebooted(vm)
	}
	for _, host := range r.hosts {
		_ = s.StartHost(host) // twice killed, once started
	}
	for _, vm := range s.Names() {
		s.dockerUp(vm)
	}
	s.reviveKilled()
	s.goOn()
}
