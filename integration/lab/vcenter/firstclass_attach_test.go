package vcenter_test

import (
	"errors"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// An attachment is a device: nothing else makes the disk appear in the guest.
func TestAttachedFirstClassDiskIsADevice(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		s.must(f.attach(s.one))
		f.wantConsumers(biosOne)
		found := s.disks(s.one)
		if plain {
			if len(found) != 0 {
				t.Fatalf("plain vcsim has got the rule: %d devices", len(found))
			}
			return
		}
		if len(found) != 1 || found[0].VDiskId == nil || found[0].VDiskId.Id != f.id {
			t.Fatalf("got %d devices, want one with the disk's ID", len(found))
		}
		d := found[0]
		flat, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if flat == nil || flat.FileName != f.backing() || flat.Uuid == "" || flat.DiskMode != string(types.VirtualDiskModePersistent) {
			t.Fatalf("got backing %+v, want %s, dependent, with a UUID", flat, f.backing())
		}
		if d.CapacityInBytes != 32<<20 || d.ControllerKey != 1001 || *d.UnitNumber != 0 || d.Key != 2016 {
			t.Fatalf("got %d bytes at %d:%d with key %d, want 32 MB at 1001:0 with key 2016", d.CapacityInBytes, d.ControllerKey, *d.UnitNumber, d.Key)
		}
		plugged, ok := s.guest.all()[flat.Uuid]
		if !ok || wantFile(t, plugged.Extent).Size() != 32<<20 {
			t.Fatalf("got %+v plugged, want an extent of 32 MB", s.guest.all())
		}
		s.must(f.detach(s.one))
		f.wantConsumers()
		if n := len(s.disks(s.one)); n != 0 || s.guest.count() != 0 {
			t.Fatalf("detached: got %d devices, %d in the guest, want none", n, s.guest.count())
		}
		wantFile(t, plugged.Extent)
	})
}

// The lock is that of the file, whichever call attaches it.
func TestFirstClassDiskOfARunningMachineIsLocked(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		s.must(f.attach(s.one))
		err := f.attach(s.two)
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.FileLocked{})
		wantFault(t, s.reconfigure(s.two, add(f.backing(), 1001, nil)), &types.FileLocked{})
		f.wantConsumers(biosOne)
		s.must(f.detach(s.one))
		s.must(f.attach(s.two))
		f.wantConsumers(biosTwo)
	})
}

// The API is documented as not idempotent: callers have to read back.
func TestAttachOfAFirstClassDiskIsNotIdempotent(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		s.must(f.attach(s.one))
		again := f.attach(s.one)
		s.must(f.detach(s.one))
		twice := f.detach(s.one)
		if plain {
			if again != nil || twice != nil {
				t.Fatalf("plain vcsim has got the rule: %v, %v", again, twice)
			}
			return
		}
		wantFault(t, again, &types.InvalidDeviceSpec{})
		wantFault(t, twice, &types.NotFound{})
	})
}

// A machine that is off is given the disk by its configuration, and its guest meets it at power-on, if nobody else has it by then.
func TestMachineThatIsOffMeetsItsFirstClassDiskAtPowerOn(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		s.must(s.wait(s.one.PowerOff(t.Context())))
		s.must(f.attach(s.one))
		if n := s.guest.count(); n != 0 {
			t.Fatalf("got %d disks in a guest that is off, want none", n)
		}
		s.must(f.attach(s.two))
		err := s.wait(s.one.PowerOn(t.Context()))
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.FileLocked{})
		s.must(f.detach(s.two))
		s.must(s.wait(s.one.PowerOn(t.Context())))
		if n := s.guest.count(); n != 1 {
			t.Fatalf("got %d disks in the guest, want one", n)
		}
	})
}

// The place of the disk is checked as for every other disk, and so is that there is such a disk.
func TestImpossibleAttachmentsOfFirstClassDisksAreRefused(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		at := func(controller int32, unit *int32) error {
			return s.one.AttachDisk(t.Context(), f.id, f.ds, controller, unit)
		}
		requests := map[string]struct {
			err  error
			want types.BaseMethodFault
		}{
			"no controller named, and four to choose from": {at(0, nil), &types.InvalidController{}},
			"no such controller":                           {at(4242, nil), &types.InvalidController{}},
			"the controller's own unit":                    {at(1001, new(int32(7))), &types.InvalidDeviceSpec{}},
			"no such unit":                                 {at(1001, new(int32(64))), &types.InvalidDeviceSpec{}},
		}
		for name, r := range requests {
			if plain {
				if r.err != nil {
					t.Errorf("%s: plain vcsim has got the rule: %v", name, r.err)
				}
				continue
			}
			t.Run(name, func(t *testing.T) { wantFault(t, r.err, r.want) })
		}
		if plain {
			return
		}
		wantFault(t, s.one.AttachDisk(t.Context(), "00000000-0000-4000-8000-000000000000", f.ds, 1001, nil), &types.NotFound{})
		f.wantConsumers()
	})
}

// A disk that the guest refuses is not attached.
func TestRefusedFirstClassDiskLeavesNoTrace(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	f := s.fcd("web")
	s.guest.refuse = func(vcenter.Disk) error { return errors.New("no room") }
	wantFault(t, f.attach(s.one), &types.GenericVmConfigFault{})
	f.wantConsumers()
	if n := len(s.disks(s.one)); n != 0 {
		t.Fatalf("got %d devices, want none", n)
	}
	s.must(f.remove())
}

// The plugin's account may use first class disks by the rights that it has for plain ones, and lacks them when it lacks those.
func TestFirstClassDisksNeedTheRightsOfPlainOnes(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	s.c = s.login(s.Plugin())
	f := s.fcd("web")
	vm := object.NewVirtualMachine(s.c.Client, s.one.Reference())
	s.must(f.attach(vm))
	s.must(f.extend(64))
	s.must(f.detach(vm))
	s.must(f.remove())

	s = open(t, false, func(o *vcenter.Options) { o.Privileges = []string{"Datastore.FileManagement"} })
	s.c = s.login(s.Plugin())
	f = s.fcd("web")
	vm = object.NewVirtualMachine(s.c.Client, s.one.Reference())
	wantFault(t, f.attach(vm), &types.NoPermission{})
	wantFault(t, f.detach(vm), &types.NoPermission{})
}
