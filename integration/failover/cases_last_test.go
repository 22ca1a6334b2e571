//go:build machines

package failover_test

import (
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
)

// lastCases delete a machine, after which the fleet is of no more use.
func lastCases() []scenario {
	return []scenario{
		{
			name: "power-off-and-delete", ci: true,
			what: "a clean power-off leaves no volume attached: the machine is deleted from disk, and the volumes are there",
			setup: func(s *scene) {
				s.pair(two)
			},
			fault: func(s *scene) {
				s.spent = true
				s.off(two)
				if got := s.attached(two); len(got) != 0 {
					s.t.Errorf("%s has %q after a clean power-off, want nothing", two, got)
				}
				s.destroy(two)
			},
			expect: func(s *scene) {
				for _, v := range s.volumes {
					s.move(v, one, "always")
				}
				s.goOn()
			},
		},
		{
			name: "deleted-while-attached", what: "a machine that died is deleted from disk: what was attached goes with it, as doctor had said, and nothing else does",
			setup: func(s *scene) {
				_, b := s.pair(two)
				s.stop(b)
				s.detached(b)
			},
			fault: func(s *scene) {
				s.spent = true
				lost, kept := s.volumes[0], s.volumes[1]
				doctor, _ := s.try(two, "mooring doctor 2>&1") // its exit code says what it found
				if !strings.Contains(doctor, lost.name) || !strings.Contains(doctor, "delete") {
					s.t.Errorf("mooring doctor does not say that %s goes with the machine:\n%s", lost.name, doctor)
				}
				if strings.Contains(doctor, kept.name) {
					s.t.Errorf("mooring doctor names %s, which is not attached:\n%s", kept.name, doctor)
				}
				s.override(two, true)
				host := s.killHost(two)
				s.must(s.StartHost(host))
				s.await(soon, "the machine is off", func() bool { return !s.on(two) && s.state(host) == "connected" })
				s.destroy(two)
				lost.gone = true
			},
			expect: func(s *scene) {
				kept := s.volumes[1]
				s.move(kept, one, "always")
			},
		},
	}
}

// destroy deletes a machine as an administrator does: "Delete from Disk".
func (s *scene) destroy(vm string) {
	s.t.Helper()
	task, err := s.virtual(vm).Destroy(s.ctx)
	s.must(err)
	s.must(task.Wait(s.ctx))
}

// virtual is the machine as a client of vCenter has it.
func (s *scene) virtual(vm string) *object.VirtualMachine {
	s.t.Helper()
	m, err := find.NewFinder(s.administrator()).VirtualMachine(s.ctx, "/*/vm/"+vm)
	s.must(err)
	return m
}
