//go:build machines

package failover_test

import (
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// machineCases are those in which the machine itself stops, and its host does not.
func machineCases() []scenario {
	return []scenario{
		{
			name: "machine-reset", what: "a reset of the machine: the same as a dead host, on the same host",
			setup:  func(s *scene) { s.pair(two) },
			fault:  func(s *scene) { s.must(s.Reset(two)) },
			expect: func(s *scene) { s.backElsewhere(two) },
		},
		{
			name: "guest-panic", ci: true,
			what:  "the guest's kernel panics: HA misses its heartbeats and resets it",
			setup: func(s *scene) { s.pair(two) },
			fault: func(s *scene) {
				s.sh(two, "sysctl -q kernel.panic=0 kernel.sysrq=1")
				s.tryFor(two, "echo c >/proc/sysrq-trigger") // never returns
			},
			expect: func(s *scene) { s.backElsewhere(two) },
		},
		{
			name: "guest-frozen", what: "a frozen guest that HA gives up on, and that is thawed too late, writes nothing any more",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.must(s.VM(one).Freeze())
				s.t.Cleanup(func() { _ = s.VM(one).Thaw() })
				ctx := s.ctx
				if _, err := s.VM(one).AwaitBoot(ctx, s.boots[one]); err != nil {
					s.t.Fatalf("HA does not reset a frozen machine: %v", err)
				}
				_ = s.VM(one).Thaw() // of a machine that is another by now
			},
			expect: func(s *scene) { s.backElsewhere(one) },
		},
		{
			name: "guest-frozen-briefly", what: "a guest that is frozen and thawed before anybody gives up on it goes on",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.must(s.VM(one).Freeze())
				s.pause(8 * time.Second)
				s.must(s.VM(one).Thaw())
			},
			expect: func(s *scene) { s.goOn(); s.sameBoot(one) },
		},
		{
			name: "link-cut", what: "the machine loses its link to vCenter: containers run, start and stop; new disks wait for the link",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.must(s.VM(one).Link(s.ctx, "vcenter", false))
				s.t.Cleanup(func() { _ = s.VM(one).Link(s.ctx, "vcenter", true) })
				s.sh(one, "docker restart "+s.volumes[0].box+" >/dev/null")
				s.goOn()
				began := time.Now()
				v := &vol{name: s.prefix + "-never", machine: one, fs: "ext4"}
				s.refused(one, v.create())
				if took := time.Since(began); took > 30*time.Second {
					s.t.Errorf("a create without vCenter took %s, want a prompt error", took)
				}
				s.must(s.VM(one).Link(s.ctx, "vcenter", true))
			},
			expect: func(s *scene) {
				s.sameBoot(one)
				var fresh *vol
				s.await(soon, "a volume is created again", func() bool {
					v := &vol{name: s.prefix + "-fresh", machine: one, fs: "ext4", labels: map[string]string{"keep": "fresh"}}
					if _, err := s.try(one, v.create()); err != nil {
						return false
					}
					fresh = v
					return true
				})
				s.volumes = append(s.volumes, fresh)
				s.goOn()
			},
		},
		{
			name: "vcenter-restarted", what: "vCenter goes and comes while volumes are in use: they stay, and everything works afterwards",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.must(s.StopServing())
				s.goOn()
				s.sh(one, "docker restart "+s.volumes[1].box+" >/dev/null")
				s.goOn()
				s.must(s.StartServing())
			},
			expect: func(s *scene) {
				s.sameBoot(one)
				s.await(soon, "vCenter is used again", func() bool {
					out, _ := s.try(one, "mooring status -o json") // its exit code says what is wrong
					return strings.Contains(out, `"reachable":true`) || strings.Contains(out, `"reachable": true`)
				})
				s.goOn()
			},
		},
		{
			name: "machine-off-and-on", what: "the machine's plug is pulled and put in again: what has no restart policy is detached after the boot",
			setup: func(s *scene) {
				a, b := s.pair(one)
				s.drop(b)
				s.sh(one, b.run("no"))
				s.more(a, 1)
				s.more(b, 1)
			},
			fault: func(s *scene) {
				s.override(one, true)
				s.must(s.PowerOff(one))
				if got := s.attached(one); len(got) != 2 {
					s.t.Errorf("a machine whose plug was pulled has the disks %q, want both: nobody could detach them", got)
				}
				s.override(one, false)
				s.must(s.PowerOn(one))
			},
			expect: func(s *scene) {
				s.volumes[1].down = true
				s.rebooted(one)
				s.goOn()
				s.detached(s.volumes[1])
			},
		},
		{
			name: "machine-suspended", what: "a suspended machine keeps its disks, and goes on with them",
			setup: func(s *scene) { s.pair(one) },
			fault: func(s *scene) {
				s.must(s.Suspend(one))
				s.pause(3 * time.Second)
				if got := s.attached(one); len(got) != 2 {
					s.t.Errorf("the suspended machine has %q, want both disks", got)
				}
				s.status(release(s.volumes[0]), 12)
				s.must(s.PowerOn(one))
			},
			expect: func(s *scene) { s.goOn(); s.sameBoot(one) },
		},
	}
}

// override says whether HA leaves the machine off.
func (s *scene) override(vm string, off bool) {
	s.t.Helper()
	s.must(s.SetOverride(vm, vcenter.Override{RestartDisabled: off}))
}
