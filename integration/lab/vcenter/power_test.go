package vcenter_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// Power on, off and reset, by whatever way, reach the machine, and a machine that cannot be started is off and has nothing locked.
func TestPowerReachesTheMachine(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) {
		m, _ := o.VMs[1].Guest.(vcenter.Powered)
		o.VMs[1].Guest, o.VMs[1].Off = struct{ vcenter.Powered }{m}, true
	})
	disk := f.disk("web")
	f.attach(f.one, disk, 0)
	if f.m2.runs() || f.machine("docker2").PoweredOn {
		t.Error("a machine that was to be off is on")
	}
	f.m1.done()
	f.must(f.wait(f.one.Reset(t.Context())))
	f.must(f.Reset("docker1"))
	f.must(f.wait(f.one.PowerOff(t.Context())))
	wantFault(t, f.wait(f.one.PowerOff(t.Context())), &types.InvalidPowerState{})
	wantFault(t, f.Reset("docker1"), &types.InvalidPowerState{})
	f.must(f.wait(f.one.PowerOn(t.Context())))
	wantFault(t, f.PowerOn("docker1"), &types.InvalidPowerState{})
	if got, want := f.m1.done(), []string{"reset", "reset", "off", "on esx1.lab 1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f.m1.set(func(m *fakeMachine) { m.bootErr = errBoom })
	f.must(f.PowerOff("docker1"))
	wantFault(t, f.wait(f.one.PowerOn(t.Context())), &types.GenericVmConfigFault{})
	if f.machine("docker1").PoweredOn {
		t.Error("a machine that could not be started is on")
	}
	f.must(f.wait(f.two.PowerOn(t.Context())))
	wantFault(t, f.Suspend("docker2"), &types.NotSupported{}) // it cannot stand still
	f.attach(f.two, disk, 0)                                  // it is free
	f.m1.set(func(m *fakeMachine) { m.bootErr = nil })
	wantFault(t, f.wait(f.one.PowerOn(t.Context())), &types.FileLocked{})
	f.wantEvents("docker1", map[string]int{"VmResettingEvent": 2, "VmFailedToPowerOnEvent": 1})
}

// A guest that hangs does not hear a reset: its plug is pulled, also while a reconfiguration waits for it.
func TestHungMachineCanBeResetAndPoweredOff(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	f.m1.set(func(m *fakeMachine) { m.resetErr = errBoom })
	f.m1.done()
	f.must(f.Reset("docker1"))
	if got, want := f.m1.done(), []string{"off", "on esx1.lab 0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	disk := f.disk("web")
	f.m1.set(func(m *fakeMachine) { m.hang = true })
	task, err := f.one.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{add(disk, 1001, new(int32(0)))},
	})
	f.must(err)
	f.must(f.PowerOff("docker1"))
	if err := task.Wait(t.Context()); err == nil {
		t.Error("a hung machine got a disk")
	}
	f.must(f.PowerOn("docker1"))
	f.attach(f.one, disk, 0)
}

// A guest that powers itself off is off for everybody, and its disks are free; HA lets it be. One whose process crashed is started again.
func TestGuestThatEndsByItself(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	disk := f.disk("web")
	f.attach(f.one, disk, 0)
	f.must(f.m1.PowerOff(t.Context()))
	f.PoweredOff("docker1")
	f.PoweredOff("docker1")
	f.eventually("it is seen as off", func() bool { return !f.machine("docker1").PoweredOn })
	f.attach(f.two, disk, 0)
	f.stays("it is off", 60, func() bool { return !f.m1.runs() })
	f.wantEvents("docker1", map[string]int{"VmPoweredOffEvent": 1})
	f.must(f.m2.PowerOff(t.Context()))
	f.Crashed("docker2")
	f.eventually("it runs again", f.m2.runs)
	f.eventually("HA is done", func() bool { return len(f.Restarts()) == 1 && f.Restarts()[0].Outcome == "restarted" })
	if r := f.Restarts()[0]; r.From != r.To {
		t.Errorf("got %+v, want it on its own host", r)
	}
	f.PoweredOff("docker9") // nobody is there
}

// Whoever waits for the end of a machine's process tells of it, also when the vCenter has asked for it, and perhaps late: what comes next
// goes on, and there is one event.
func TestEndThatWasAskedForIsNoNews(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	f.m1.set(func(m *fakeMachine) { m.ended, m.resetErr = func() { f.PoweredOff("docker1") }, errBoom })
	const n = 20
	for range n {
		f.must(f.Reset("docker1"))
		f.must(f.PowerOff("docker1"))
		f.must(f.PowerOn("docker1"))
	}
	f.stays("it is on", 20, func() bool { return f.m1.runs() && f.machine("docker1").PoweredOn })
	f.wantEvents("docker1", map[string]int{"VmPoweredOffEvent": n})
}

// A suspended machine keeps its locks, and no device can be added to it.
func TestSuspendedMachineKeepsItsLocks(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
		s.must(s.wait(s.one.Suspend(t.Context())))
		err := s.reconfigure(s.two, add(disk, 1001, new(int32(0))))
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.FileLocked{})
		wantFault(t, s.reconfigure(s.one, add(s.disk("other"), 1001, new(int32(1)))), &types.InvalidPowerState{})
		n := s.guest.count()
		s.must(s.wait(s.one.PowerOn(t.Context())))
		if got := s.guest.count(); n != 1 || got != 1 {
			t.Errorf("the guest had %d disks while suspended and %d afterwards, want 1", n, got)
		}
		wantFault(t, s.one.StandbyGuest(t.Context()), &types.ToolsUnavailable{})
		wantFault(t, s.one.ShutdownGuest(t.Context()), &types.ToolsUnavailable{})
		wantFault(t, s.one.RebootGuest(t.Context()), &types.ToolsUnavailable{})
	})
}

// A guest with tools ends when it is asked, in its own time.
func TestGuestWithToolsIsAsked(t *testing.T) {
	t.Parallel()
	o := &obedient{}
	f := openFarm(t, func(opts *vcenter.Options) {
		m, _ := opts.VMs[0].Guest.(*fakeMachine)
		o.fakeMachine = m
		opts.VMs[0].Guest = o
	})
	f.must(f.one.ShutdownGuest(t.Context()))
	if !f.machine("docker1").PoweredOn {
		t.Error("it is off before it has ended")
	}
	f.must(f.m1.PowerOff(t.Context()))
	f.PoweredOff("docker1")
	f.eventually("it is seen as off", func() bool { return !f.machine("docker1").PoweredOn })
	f.must(f.PowerOn("docker1"))
	f.must(f.one.RebootGuest(t.Context()))
	if got := f.m1.done(); !slices.Contains(got, "asked to end") || !slices.Contains(got, "asked to boot") {
		t.Errorf("got %v, want it asked", got)
	}
	f.wantEvents("docker1", map[string]int{"VmGuestShutdownEvent": 1, "VmGuestRebootEvent": 1})
}

// SCSI controllers come and go in the guest, and a batch that fails in the middle leaves both sides as they were.
func TestControllersReachTheMachine(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	disk := f.disk("web")
	f.m1.done()
	f.must(f.reconfigure(f.one, removeController(1003), removeController(1002)))
	f.must(f.reconfigure(f.one, addController(-7), add(disk, -7, new(int32(2)))))
	want := []string{"remove controller 3", "remove controller 2", "add controller 2", "plug 2:2"}
	if got := f.m1.done(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f.m1.set(func(m *fakeMachine) { m.busErr = errBoom })
	wantFault(t, f.reconfigure(f.one, remove(f.disks(f.one)[0].Key), removeController(1002)), &types.GenericVmConfigFault{})
	if got, want := f.m1.done(), []string{"unplug 2:2", "plug 2:2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: the disk is given back", got, want)
	}
	if n := len(f.disks(f.one)); n != 1 {
		t.Errorf("%d disks after a batch that failed, want 1", n)
	}
	f.m1.set(func(m *fakeMachine) { m.busErr = nil; m.beating = false })
	f.must(f.PowerOff("docker1"))
	f.must(f.PowerOn("docker1"))
	if got := f.m1.hw; !slices.Equal(got.Controllers, []int{0, 1, 2}) || len(got.Disks) != 1 || got.Disks[0].Controller != 2 {
		t.Errorf("booted with %+v", got)
	}
}

// Without heartbeats a machine is reset, if it has been up for a while, three times at most.
func TestMachineWithoutHeartbeatsIsReset(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) {
		o.HA.Monitoring, o.HA.MinUptime, o.HA.MaxResets = true, 40*time.Second, 2
	})
	f.m1.done()
	f.stays("no machine that beats is reset", 100, func() bool { return len(f.m1.done()) == 0 })
	f.must(f.SetOverride("docker2", vcenter.Override{Unmonitored: true}))
	hang := func(m *fakeMachine) { m.beating = false }
	f.m2.set(hang)
	f.m1.set(hang)
	f.eventually("it is reset", func() bool { return slices.Contains(f.m1.done(), "reset") })
	f.m1.set(func(m *fakeMachine) { m.beating = false; m.resetErr = errBoom })
	f.eventually("its plug is pulled", func() bool { return slices.Contains(f.m1.done(), "off") })
	f.eventually("it is on", f.m1.runs)
	f.m1.set(hang)
	f.stays("two resets are enough", 200, func() bool { return f.count("docker1")["VmDasBeingResetEvent"] == 2 })
	if n := f.count("docker2")["VmDasBeingResetEvent"]; n != 0 {
		t.Errorf("a machine that is not monitored was reset %d times", n)
	}
}

func addController(key int32) *types.VirtualDeviceConfigSpec {
	c := &types.ParaVirtualSCSIController{}
	c.Key, c.ControllerKey = key, 100
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: c}
}

func removeController(key int32) *types.VirtualDeviceConfigSpec {
	c := &types.ParaVirtualSCSIController{}
	c.Key = key
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: c}
}
