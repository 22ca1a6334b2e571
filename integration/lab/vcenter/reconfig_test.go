package vcenter_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// remove describes the removal of a device by its key.
func remove(key int32) *types.VirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationRemove,
		Device:    &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: key}},
	}
}

// A specification is carried out as a whole or not at all. Each of these has one change that can be carried out, and one that cannot.
func TestWholeSpecificationIsCheckedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	changes := func(c ...types.BaseVirtualDeviceConfigSpec) []types.BaseVirtualDeviceConfigSpec { return c }
	cases := map[string]struct {
		changes func(good, other string) []types.BaseVirtualDeviceConfigSpec
		want    types.BaseMethodFault
		plain   string // what vcsim answers: "accepts", or the same fault after it has changed something
	}{
		"missing file": {
			func(good, _ string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), add("[vsanDatastore] dockvols/no.vmdk", 1001, new(int32(1))))
			}, &types.FileNotFound{}, "half",
		},
		"controller that is not there": {
			func(good, other string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), add(other, 4242, new(int32(0))))
			}, &types.InvalidController{}, "accepts",
		},
		"unit of the controller itself": {
			func(good, other string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), add(other, 1001, new(int32(7))))
			}, &types.InvalidDeviceSpec{}, "accepts",
		},
		"unit beyond the last": {
			func(good, other string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), add(other, 1001, new(int32(64))))
			}, &types.InvalidDeviceSpec{}, "accepts",
		},
		"unit that is taken": {
			func(good, other string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), add(other, 1001, new(int32(0))))
			}, &types.InvalidDeviceSpec{}, "half",
		},
		"same file twice": {
			func(good, _ string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), add(good, 1001, new(int32(1))))
			}, &types.InvalidDeviceSpec{}, "accepts",
		},
		"unknown device to remove": {
			func(good, _ string) []types.BaseVirtualDeviceConfigSpec {
				return changes(add(good, 1001, new(int32(0))), remove(9999))
			}, &types.InvalidDeviceSpec{}, "accepts",
		},
		"profile that is not there": {
			func(good, other string) []types.BaseVirtualDeviceConfigSpec {
				c := add(other, 1001, new(int32(1)))
				c.Profile = []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineDefinedProfileSpec{ProfileId: "gone"}}
				return changes(add(good, 1001, new(int32(0))), c)
			}, &types.InvalidArgument{}, "accepts",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(s *site, plain bool) {
				t := s.t
				good, other := s.disk("good"), s.disk("other")
				err := s.reconfigure(s.one, c.changes(good, other)...)
				var vm mo.VirtualMachine
				s.must(s.one.Properties(t.Context(), s.one.Reference(), []string{"summary.config.numVirtualDisks"}, &vm))
				if !plain {
					wantFault(t, err, c.want)
					if n := len(s.disks(s.one)); n != 0 || s.guest.count() != 0 || vm.Summary.Config.NumVirtualDisks != 1 {
						t.Fatalf("got %d disks, %d in the guest, counted %d; want that nothing changed", n, s.guest.count(), vm.Summary.Config.NumVirtualDisks)
					}
					return
				}
				switch {
				case c.plain == "accepts" && err != nil:
					t.Fatalf("plain vcsim has got the rule: %v", err)
				case c.plain == "half" && (err == nil || vm.Summary.Config.NumVirtualDisks == 0):
					t.Fatalf("plain vcsim has become atomic: %v, counts %d disks", err, vm.Summary.Config.NumVirtualDisks)
				}
			})
		})
	}
}

// A batch that fails after a removal leaves the device list alone; vcsim's list has lost one disk and has another twice.
func TestFailedBatchLeavesTheDeviceListAlone(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		a, b, c := s.disk("a"), s.disk("b"), s.disk("c")
		s.must(s.reconfigure(s.one, add(a, 1001, new(int32(0))), add(b, 1001, new(int32(1))), add(c, 1001, new(int32(2)))))
		before := keys(s.disks(s.one))
		err := s.reconfigure(s.one, remove(before[0]), add("[vsanDatastore] dockvols/no.vmdk", 1001, new(int32(3))))
		wantFault(t, err, &types.FileNotFound{})
		if same := slices.Equal(before, keys(s.disks(s.one))); same == plain {
			t.Fatalf("got device list unchanged: %v, want %v", same, !plain)
		}
	})
}

func keys(disks []*types.VirtualDisk) []int32 {
	var out []int32
	for _, d := range disks {
		out = append(out, d.Key)
	}
	slices.Sort(out)
	return out
}

// Somebody who has changed the machine meanwhile is noticed.
func TestStaleChangeVersionIsRefused(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk, other := s.disk("web"), s.disk("other")
		var vm mo.VirtualMachine
		s.must(s.one.Properties(t.Context(), s.one.Reference(), []string{"config.changeVersion"}, &vm))
		spec := func(d string, u int32) types.VirtualMachineConfigSpec {
			return types.VirtualMachineConfigSpec{
				ChangeVersion: vm.Config.ChangeVersion,
				DeviceChange:  []types.BaseVirtualDeviceConfigSpec{add(d, 1001, new(u))},
			}
		}
		s.must(s.wait(s.one.Reconfigure(t.Context(), spec(disk, 0))))
		err := s.wait(s.one.Reconfigure(t.Context(), spec(other, 1)))
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.ConcurrentAccess{})
	})
}

// What vSphere fills in by itself is what a plugin reads back: capacity, unit, key, UUID, label, the controller's children.
func TestAttachedDiskIsDescribedFromItsFile(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(1)))))
		got := s.disks(s.one)[0]
		devices, err := s.one.Device(t.Context())
		s.must(err)
		ctl, _ := devices.FindByKey(1001).(*types.ParaVirtualSCSIController)
		uuid, err := object.NewVirtualDiskManager(s.c.Client).QueryVirtualDiskUuid(t.Context(), disk, s.dc)
		s.must(err)
		flat, _ := got.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		right := got.CapacityInBytes == 32<<20 && got.CapacityInKB == 32<<10 && got.Key == 2017 &&
			slices.Contains(ctl.Device, got.Key) && strings.HasPrefix(flat.Uuid, "6000c29") &&
			strings.NewReplacer(" ", "", "-", "").Replace(uuid) == strings.ReplaceAll(flat.Uuid, "-", "") &&
			flat.DiskMode == string(types.VirtualDiskModeIndependent_persistent) && flat.FileName != disk
		if right == plain {
			t.Fatalf("device %+v of controller %+v with UUID %q: described rightly: %v, want %v", got, ctl, uuid, right, !plain)
		}
	})
}

// A unit that is left open is assigned, the controller's own left out.
func TestUnitIsAssigned(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		var changes []types.BaseVirtualDeviceConfigSpec
		for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			changes = append(changes, add(s.disk(n), 1002, nil))
		}
		s.must(s.reconfigure(s.one, changes...))
		var units []int32
		for _, d := range s.disks(s.one) {
			if d.UnitNumber != nil {
				units = append(units, *d.UnitNumber)
			}
		}
		if right := slices.Equal(units, []int32{0, 1, 2, 3, 4, 5, 6, 8}); right == plain {
			t.Fatalf("got units %v, which is right: %v, want %v", units, right, !plain)
		}
	})
}

// A controller and a disk on it may come in one specification, tied by a key that the caller made up.
func TestControllerAndDiskInOneSpecification(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	ctl := &types.ParaVirtualSCSIController{}
	ctl.Key = -5
	change := func(op types.VirtualDeviceConfigSpecOperation, d types.BaseVirtualDevice) *types.VirtualDeviceConfigSpec {
		return &types.VirtualDeviceConfigSpec{Operation: op, Device: d}
	}
	disk := add(s.disk("web"), -5, new(int32(0)))
	wantFault(t, s.reconfigure(s.one, change(types.VirtualDeviceConfigSpecOperationAdd, ctl), disk), &types.TooManyDevices{}) // it has four
	last := &types.ParaVirtualSCSIController{}
	last.Key = 1003
	s.must(s.reconfigure(s.one, change(types.VirtualDeviceConfigSpecOperationRemove, last)))
	s.must(s.reconfigure(s.one, change(types.VirtualDeviceConfigSpecOperationAdd, ctl), disk))
	if d := s.disks(s.one)[0]; d.ControllerKey != 1003 || d.Key != 2048 {
		t.Fatalf("got disk %d on controller %d, want 2048 on 1003", d.Key, d.ControllerKey)
	}
	wantFault(t, s.reconfigure(s.one, change(types.VirtualDeviceConfigSpecOperationRemove, last)), &types.InvalidDeviceSpec{}) // it has a disk
}

// If the guest does not take the second disk, it has not got the first either, and the task has failed.
func TestGuestThatRefusesADiskUndoesTheBatch(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	a, b := s.disk("a"), s.disk("b")
	n := 0
	s.guest.refuse = func(vcenter.Disk) error {
		if n++; n == 2 {
			return errors.New("no slot")
		}
		return nil
	}
	err := s.reconfigure(s.one, add(a, 1001, new(int32(0))), add(b, 1001, new(int32(1))))
	wantFault(t, err, &types.GenericVmConfigFault{})
	if s.guest.count() != 0 || len(s.disks(s.one)) != 0 {
		t.Fatalf("got %d disks in the guest, %d in the hardware list, want none", s.guest.count(), len(s.disks(s.one)))
	}
	s.guest.refuse = nil
	s.must(s.reconfigure(s.two, add(a, 1001, new(int32(0))))) // no lock is left
}

// Two machines that reach for one disk at the same moment do not both get it.
func TestOnlyOneOfTwoMachinesGetsADisk(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	disk := s.disk("web")
	s.Delay("ReconfigVM_Task", 1)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, vm := range []*object.VirtualMachine{s.one, s.two} {
		wg.Go(func() { errs[i] = s.reconfigure(vm, add(disk, 1001, new(int32(0)))) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !fault.Is(err, &types.FileLocked{}):
			t.Errorf("got %v, want FileLocked", err)
		}
	}
	if won != 1 {
		t.Fatalf("%d machines have the disk, want one", won)
	}
}

// Growing an attached disk grows its file and the guest's device; shrinking it is refused.
func TestAttachedDiskGrowsAndNeverShrinks(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	disk := s.disk("web")
	s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
	d := *s.disks(s.one)[0]
	edit := func(mb int64) error {
		d.CapacityInKB, d.CapacityInBytes = mb<<10, mb<<20
		return s.reconfigure(s.one, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: &d})
	}
	s.must(edit(64))
	wantFault(t, edit(48), &types.InvalidDeviceOperation{})
	for _, p := range s.guest.plugged {
		if n := wantFile(t, p.Extent).Size(); n != 64<<20 {
			t.Errorf("got extent of %d bytes, want %d", n, 64<<20)
		}
	}
	if n := s.disks(s.one)[0].CapacityInBytes; n != 64<<20 {
		t.Errorf("got capacity %d, want %d", n, 64<<20)
	}
}

// Detaching gives the disk back to everybody and touches no file.
func TestDetachedDiskIsFreeAndWhole(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	disk := s.disk("web")
	s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
	if s.guest.count() != 1 {
		t.Fatalf("got %d disks in the guest, want one", s.guest.count())
	}
	s.must(s.reconfigure(s.one, remove(s.disks(s.one)[0].Key)))
	if s.guest.count() != 0 {
		t.Fatalf("got %d disks in the guest, want none", s.guest.count())
	}
	s.must(s.reconfigure(s.two, add(disk, 1001, new(int32(0)))))
}

// The machine's power is the guest's.
func TestGuestLosesItsDisksWithThePower(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	s.must(s.reconfigure(s.one, add(s.disk("web"), 1001, new(int32(0)))))
	s.must(s.VCenter.PowerOff("docker1"))
	if s.guest.count() != 0 {
		t.Fatalf("got %d disks in a guest without power, want none", s.guest.count())
	}
	s.must(s.VCenter.PowerOn("docker1"))
	if s.guest.count() != 1 {
		t.Fatalf("got %d disks in the guest, want one and no boot disk", s.guest.count())
	}
}
