package vcenter_test

import (
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

func newSessions(c *vim25.Client) *session.Manager { return session.NewManager(c) }

// A disk that a running machine has cannot be added to another: this is what keeps two kernels from writing to one filesystem.
func TestDiskOfARunningMachineIsLocked(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
		err := s.reconfigure(s.two, add(disk, 1001, new(int32(0))))
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.FileLocked{})
		if n := len(s.disks(s.two)); n != 0 {
			t.Fatalf("the refused machine has %d disks, want none", n)
		}
	})
}

// Machines that all share a disk as multi-writers may have it together.
func TestMultiWritersShareADisk(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	disk := s.disk("web")
	shared := func() *types.VirtualDeviceConfigSpec {
		c := add(disk, 1001, new(int32(0)))
		b, _ := c.Device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		b.Sharing = string(types.VirtualDiskSharingSharingMultiWriter)
		return c
	}
	s.must(s.reconfigure(s.one, shared()))
	s.must(s.reconfigure(s.two, shared()))
	s2 := s.disk("other")
	s.must(s.reconfigure(s.one, add(s2, 1001, new(int32(1)))))
	c := add(s2, 1001, new(int32(1)))
	b, _ := c.Device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	b.Sharing = string(types.VirtualDiskSharingSharingMultiWriter)
	wantFault(t, s.reconfigure(s.two, c), &types.FileLocked{})
}

// A machine that is off has no lock, so its disk can be taken; and then it cannot be powered on, which is what a release prevents.
func TestMachineThatIsOffHoldsNoLockAndCannotStartWithoutItsDisk(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		s.must(s.reconfigure(s.two, add(disk, 1001, new(int32(0)))))
		s.must(s.wait(s.two.PowerOff(t.Context())))
		s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
		err := s.wait(s.two.PowerOn(t.Context()))
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.FileLocked{})
	})
}

// What is attached cannot be deleted, moved, grown behind the machine's back, or copied.
func TestFilesOfAnAttachedDiskAreNotTouched(t *testing.T) {
	t.Parallel()
	requests := map[string]func(s *site, m *object.VirtualDiskManager, disk string) (*object.Task, error){
		"delete": func(s *site, m *object.VirtualDiskManager, disk string) (*object.Task, error) {
			return m.DeleteVirtualDisk(s.t.Context(), disk, s.dc)
		},
		"move": func(s *site, m *object.VirtualDiskManager, disk string) (*object.Task, error) {
			return m.MoveVirtualDisk(s.t.Context(), disk, s.dc, "[vsanDatastore] dockvols/moved.vmdk", s.dc, false)
		},
		"extend": func(s *site, m *object.VirtualDiskManager, disk string) (*object.Task, error) {
			return m.ExtendVirtualDisk(s.t.Context(), disk, s.dc, 64<<10, nil)
		},
		"copy": func(s *site, m *object.VirtualDiskManager, disk string) (*object.Task, error) {
			return m.CopyVirtualDisk(s.t.Context(), disk, s.dc, "[vsanDatastore] dockvols/copy.vmdk", s.dc, nil, false)
		},
	}
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(s *site, plain bool) {
				t := s.t
				disk := s.disk("web")
				s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
				err := s.wait(request(s, object.NewVirtualDiskManager(s.c.Client), disk))
				if plain {
					if err != nil {
						t.Fatalf("plain vcsim has got the rule: %v", err)
					}
					return
				}
				wantFault(t, err, &types.FileLocked{})
			})
		})
	}
}

// vSphere deletes what is attached to a machine that is deleted from disk, and nothing that another machine has.
func TestDeletingAMachineDeletesTheDisksAttachedToIt(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	own, taken := s.disk("own"), s.disk("taken")
	s.must(s.reconfigure(s.two, add(own, 1001, new(int32(0))), add(taken, 1001, new(int32(1)))))
	s.must(s.wait(s.two.PowerOff(t.Context())))
	s.must(s.reconfigure(s.one, add(taken, 1001, new(int32(0)))))
	s.must(s.wait(s.two.Destroy(t.Context())))
	m := object.NewVirtualDiskManager(s.c.Client)
	if _, err := m.QueryVirtualDiskUuid(t.Context(), own, s.dc); err == nil {
		t.Error("the disk of the deleted machine is still there")
	}
	if _, err := m.QueryVirtualDiskUuid(t.Context(), taken, s.dc); err != nil {
		t.Errorf("the disk of another machine: got %v, want it there", err)
	}
}
