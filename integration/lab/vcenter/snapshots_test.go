package vcenter_test

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

func (s *site) snapshot(vm *object.VirtualMachine, memory bool) error {
	s.t.Helper()
	return s.wait(vm.CreateSnapshot(s.t.Context(), "s", "", memory, false))
}

// backings returns the UUIDs of the machine's disks but the first, sorted.
func (s *site) backings(vm *object.VirtualMachine) []string {
	s.t.Helper()
	var out []string
	for _, d := range s.disks(vm) {
		b, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		out = append(out, b.Uuid)
	}
	slices.Sort(out)
	return out
}

// Reverting gives a machine back the hardware list of then, whoever has the disks now: a guest wakes up with disks that it does not expect, or
// without those that it does. What independent disks hold stays as it is. vcsim changes nothing.
func TestRevertRestoresTheHardwareList(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		then, since := s.disk("then"), s.disk("since")
		s.must(s.reconfigure(s.one, add(then, 1001, new(int32(0)))))
		want := s.backings(s.one)
		s.must(s.snapshot(s.one, false))
		s.must(s.reconfigure(s.one, remove(s.disks(s.one)[0].Key)))
		s.must(s.reconfigure(s.one, add(since, 1001, new(int32(4)))))
		task, err := s.one.RevertToSnapshot(t.Context(), "s", true)
		s.must(s.wait(task, err))
		got := s.backings(s.one)
		if plain {
			if slices.Equal(got, want) {
				t.Fatal("plain vcsim has got the rule")
			}
			return
		}
		if !slices.Equal(got, want) {
			t.Errorf("got the disks %v, want %v", got, want)
		}
		if state, err := s.one.PowerState(t.Context()); err != nil || state != types.VirtualMachinePowerStatePoweredOff {
			t.Errorf("got %v, %v, want it off: its memory was not kept", state, err)
		}
		if n := s.guest.count(); n != 0 {
			t.Errorf("the guest of a machine that is off has %d disks", n)
		}
		s.must(s.reconfigure(s.two, add(then, 1001, new(int32(0)))))
		wantFault(t, s.wait(s.one.PowerOn(t.Context())), &types.FileLocked{})
		s.must(s.reconfigure(s.two, remove(s.disks(s.two)[0].Key), add(since, 1001, new(int32(0)))))
		s.must(s.wait(s.one.PowerOn(t.Context())))
		if n := s.guest.count(); n != 1 {
			t.Errorf("the guest has %d disks, want the one of then", n)
		}
		s.must(s.wait(s.one.RevertToCurrentSnapshot(t.Context(), true)))
		wantFault(t, s.wait(s.two.RevertToCurrentSnapshot(t.Context(), true)), &types.NotFound{})
	})
}

// A snapshot with memory is refused for a machine with independent disks, as in vSphere; one of dependent disks, which the lab cannot make.
func TestSnapshotsThatCannotBe(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	wantFault(t, f.snapshot(f.one, true), &types.NotSupported{})
	f.attach(f.one, f.disk("web"), 0)
	wantFault(t, f.snapshot(f.one, true), &types.MemorySnapshotOnIndependentDisk{})
	c := add(f.disk("dependent"), 1001, new(int32(0)))
	b, _ := c.Device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	b.DiskMode = string(types.VirtualDiskModePersistent)
	f.must(f.reconfigure(f.two, c))
	wantFault(t, f.snapshot(f.two, false), &types.NotSupported{})
}

// twin is a machine whose boot disk can be kept and copied.
type twin struct {
	*fakeMachine
	clone *fakeMachine
	fail  error
}

func (w *twin) Snapshot(_ context.Context, name string) error {
	w.set(func(m *fakeMachine) { m.note("snapshot") })
	return w.fail
}

func (w *twin) Revert(_ context.Context, name string) error {
	w.set(func(m *fakeMachine) { m.note("revert") })
	return w.fail
}

func (w *twin) Clone(_ context.Context, name string) (vcenter.Guest, error) {
	w.clone = &fakeMachine{name: name, room: w.room}
	return w.clone, w.fail
}

func openTwin(t *testing.T) (*farm, *twin) {
	t.Helper()
	w := &twin{}
	f := openFarm(t, func(o *vcenter.Options) {
		w.fakeMachine, _ = o.VMs[0].Guest.(*fakeMachine)
		o.VMs[0].Guest = w
	})
	return f, w
}

// A guest with power of its own is off before its boot disk is put back; one that cannot keep it has no snapshot.
func TestSnapshotReachesTheGuest(t *testing.T) {
	t.Parallel()
	f, w := openTwin(t)
	w.fail = errBoom
	wantFault(t, f.snapshot(f.one, false), &types.GenericVmConfigFault{})
	var vm mo.VirtualMachine
	f.must(f.one.Properties(t.Context(), f.one.Reference(), []string{"snapshot"}, &vm))
	if vm.Snapshot != nil {
		t.Errorf("got %+v after a snapshot that failed", vm.Snapshot)
	}
	w.fail = nil
	f.must(f.snapshot(f.one, false))
	w.done()
	f.must(f.wait(f.one.RevertToSnapshot(t.Context(), "s", true)))
	f.must(f.PowerOn("docker1"))
	if got, want := w.done(), []string{"off", "revert", "on esx1.lab 0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := f.count("docker1")["com.vmware.vc.vm.VmStateRevertedToSnapshot"]; n != 1 {
		t.Errorf("%d events of it, want 1", n)
	}
}

// A clone has copies of all disks, with UUIDs of their own, so that neither machine ever writes to the other's. vcsim's clone has empty ones.
func TestCloneHasCopiesOfTheDisks(t *testing.T) {
	t.Parallel()
	f, w := openTwin(t)
	f.attach(f.one, f.disk("web"), 4)
	f.attach(f.one, f.disk("left"), 5)
	extent := f.m1.hw.Disks[0].Extent
	f.must(os.WriteFile(extent, append([]byte("precious"), make([]byte, 32<<20-8)...), 0o600))
	folders, err := f.dc.Folders(t.Context())
	f.must(err)
	clone := func(name string) error {
		return f.wait(f.one.Clone(t.Context(), folders.VmFolder, name, types.VirtualMachineCloneSpec{
			PowerOn: true,
			Config:  &types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{remove(f.disks(f.one)[1].Key)}},
		}))
	}
	wantFault(t, clone("twin"), &types.InvalidPowerState{})
	f.must(f.PowerOff("docker1"))
	w.fail = errBoom
	wantFault(t, clone("twin"), &types.GenericVmConfigFault{})
	w.fail = nil
	f.must(clone("twin"))
	wantFault(t, clone("twin"), &types.DuplicateName{})
	m := f.machine("twin")
	if !w.clone.runs() || !m.PoweredOn || len(m.Disks) != 2 || len(w.clone.hw.Disks) != 0 {
		t.Fatalf("got %+v with %+v, want it on, with two disks in its own folder", m, w.clone.hw)
	}
	vm, err := f.finder.VirtualMachine(t.Context(), "twin")
	f.must(err)
	copied := f.disks(vm)[0]
	b, _ := copied.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if copied.ControllerKey != 1001 || *copied.UnitNumber != 4 || b.DiskMode != string(types.VirtualDiskModeIndependent_persistent) {
		t.Errorf("got %+v, want it in the place and mode of the first", copied)
	}
	if slices.Contains(f.backings(f.one), b.Uuid) || b.Uuid == "" {
		t.Errorf("the copy has the UUID %q, which is the first's", b.Uuid)
	}
	f.must(f.PowerOn("docker1"))
	f.must(f.PowerOff("twin"))
	f.must(f.wait(vm.Destroy(t.Context())))
	wantFile(t, extent)
}

// A machine that was out of the inventory is as it was, with the disks that its configuration names, whoever has them. vcsim makes a new one.
func TestRegisteredMachineIsAsItWas(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	disk := f.disk("web")
	f.attach(f.one, disk, 0)
	wantFault(t, f.one.Unregister(t.Context()), &types.InvalidPowerState{})
	before := f.machine("docker1")
	var vm mo.VirtualMachine
	f.must(f.one.Properties(t.Context(), f.one.Reference(), []string{"config.files", "resourcePool"}, &vm))
	f.must(f.PowerOff("docker1"))
	f.must(f.one.Unregister(t.Context()))
	f.attach(f.two, disk, 0)
	folders, err := f.dc.Folders(t.Context())
	f.must(err)
	task, err := folders.VmFolder.RegisterVM(t.Context(), vm.Config.Files.VmPathName, "docker1", false,
		object.NewResourcePool(f.c.Client, *vm.ResourcePool), f.hostSystem())
	f.must(f.wait(task, err))
	after := f.machine("docker1")
	if after.BIOS != before.BIOS || after.Instance != before.Instance || len(after.Disks) != 2 || after.PoweredOn {
		t.Errorf("got %+v, want %+v, off", after, before)
	}
	wantFault(t, f.PowerOn("docker1"), &types.FileLocked{})
	f.must(f.reconfigure(f.two, remove(f.disks(f.two)[0].Key)))
	f.must(f.PowerOn("docker1"))
	if !f.m1.runs() || len(f.m1.hw.Disks) != 1 {
		t.Errorf("got %+v, want it on with its disk", f.m1.hw)
	}
}
