package vcenter_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// A host that dies takes its machines with it, and HA starts them elsewhere with the disks that their configuration names: the reason for
// everything else here.
func TestMachineOfADeadHostIsRestartedElsewhereWithItsDisks(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	f.attach(f.one, f.disk("web"), 3)
	seen := f.watch(f.one.Reference(), "runtime.connectionState", "runtime.powerState", "runtime.host")
	f.m1.done()
	began := time.Now()
	f.must(f.KillHost("esx1.lab"))
	if f.m1.runs() {
		t.Error("the machine runs on a dead host")
	}
	if h := f.esx1(); h.State != "notResponding" || h.Power != "unknown" {
		t.Errorf("got %+v, want it not responding", h)
	}
	f.eventually("HA is done", func() bool { r := f.Restarts(); return len(r) == 1 && r[0].Outcome != "" })
	if d := time.Since(began); d < 150*time.Millisecond {
		t.Errorf("HA was done after %v, want no less than a hundredth of 15 s", d)
	}
	r := f.Restarts()[0]
	if r.VM != "docker1" || r.From != "esx1.lab" || r.To == "esx1.lab" || r.Outcome != "restarted" || len(r.Attempts) != 1 {
		t.Errorf("got %+v, want one attempt, elsewhere", r)
	}
	if d := r.Detected.Unscaled; d < 15*time.Second || d > 20*time.Second {
		t.Errorf("unscaled detection took %v, want 15 s and little more", d)
	}
	if m := f.machine("docker1"); !m.Runs || m.Suspended {
		t.Errorf("got %+v, want it running", m)
	}
	if !f.m1.runs() || !f.machine("docker1").PoweredOn || f.machine("docker1").Host != r.To {
		t.Errorf("got %+v, want it on at %s", f.machine("docker1"), r.To)
	}
	if n := len(f.m1.hw.Disks); n != 1 || f.m1.hw.Disks[0].Controller != 1 || f.m1.hw.Disks[0].Unit != 3 || f.m1.hw.Host != r.To {
		t.Errorf("booted with %+v, want the disk at 1:3", f.m1.hw)
	}
	f.wantEvents("docker1", map[string]int{
		"VmDisconnectedEvent": 1, "com.vmware.vc.ha.VmRestartedByHAEvent": 1, "VmPoweredOnEvent": 2, "VmPoweredOffEvent": 0,
	})
	f.wantEvents("", map[string]int{"HostConnectionLostEvent": 1, "com.vmware.vc.HA.DasHostFailedEvent": 1})
	// What a watcher sees is by exact paths: a change of "runtime" would pass him by.
	want := []string{"disconnected", "connected", "poweredOff", "poweredOn"}
	f.eventually("the watcher has seen all", func() bool {
		got := seen()
		return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(got, s) })
	})
}

// A machine on an isolated host runs on. As long as it does, its files are locked, and HA cannot start a second one of it.
func TestMachineOfAnIsolatedHostIsNotStartedTwice(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) { o.HA.RetryEvery = 20 * time.Second })
	disk := f.disk("web")
	f.attach(f.one, disk, 0)
	f.m1.done()
	f.must(f.IsolateHost("esx1.lab"))
	f.eventually("HA has tried twice", func() bool { r := f.Restarts(); return len(r) == 1 && len(r[0].Attempts) >= 2 })
	wantFault(t, f.reconfigure(f.two, add(disk, 1001, new(int32(0)))), &types.FileLocked{})
	other := f.disk("other")
	wantFault(t, f.reconfigure(f.one, add(other, 1001, new(int32(1)))), &types.HostNotConnected{})
	wantFault(t, f.PowerOff("docker1"), &types.HostNotConnected{})
	if got := f.m1.done(); len(got) != 0 {
		t.Errorf("the machine of an isolated host was touched: %v", got)
	}
	if m := f.machine("docker1"); m.Host != "esx1.lab" || !m.Runs {
		t.Errorf("got %+v, want it where it runs", m)
	}
	f.must(f.StartHost("esx1.lab"))
	f.stays("the machine is left alone", 60, func() bool { return len(f.m1.done()) == 0 })
	if r := f.Restarts()[0]; r.Outcome == "" || r.Outcome == "restarted" {
		t.Errorf("got %+v, want the restart settled", r)
	}
	f.must(f.reconfigure(f.one, add(other, 1001, new(int32(1)))))
}

// An isolated host may be told to power its machines off, so that they run again elsewhere; and one that dies after all lets go of them too.
func TestIsolationResponseFreesTheMachines(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(f *farm) error{
		"powered off by the cluster's response": nil,
		"the host dies":                         func(f *farm) error { return f.KillHost("esx1.lab") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFarm(t, func(o *vcenter.Options) { o.HA.PowerOffIsolated = end == nil })
			f.attach(f.one, f.disk("web"), 0)
			f.must(f.IsolateHost("esx1.lab"))
			f.eventually("HA has tried", func() bool { r := f.Restarts(); return len(r) == 1 && len(r[0].Attempts) == 1 })
			if f.Restarts()[0].Attempts[0].Error == "" {
				t.Errorf("got %+v, want the first attempt to fail", f.Restarts()[0])
			}
			if end != nil {
				f.must(end(f))
			}
			f.eventually("the machine runs elsewhere", func() bool { return f.Restarts()[0].Outcome == "restarted" })
			if f.machine("docker1").Host == "esx1.lab" {
				t.Error("it is on the isolated host")
			}
		})
	}
}

// Another machine that has taken a dead one's disk keeps it: HA tries again later, and it works once the disk is given back. This is what a
// release prevents.
func TestRestartWaitsForADiskThatAnotherMachineHas(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) { o.HA.RetryEvery = 30 * time.Second })
	disk := f.disk("web")
	f.attach(f.one, disk, 0)
	f.must(f.KillHost("esx1.lab"))
	f.attach(f.two, disk, 0) // nobody has it locked any more
	f.eventually("HA has tried twice", func() bool { r := f.Restarts(); return len(r) == 1 && len(r[0].Attempts) >= 2 })
	if f.m1.runs() || f.machine("docker1").PoweredOn {
		t.Error("the machine runs without its disk, or with another's")
	}
	if f.count("docker1")["VmFailoverFailed"] < 2 {
		t.Errorf("got %v, want each failure told", f.count("docker1"))
	}
	f.must(f.reconfigure(f.two, remove(f.disks(f.two)[0].Key)))
	f.eventually("HA has restarted it", func() bool { return f.Restarts()[0].Outcome == "restarted" })
	if d, waited := f.Restarts()[0].PoweredOn.Unscaled, 15*time.Second+30*time.Second; d < waited {
		t.Errorf("unscaled restart took %v, want more than %v", d, waited)
	}
}

// HA gives up after five failures, and says so.
func TestRestartIsGivenUpAfterFiveFailures(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) { o.HA.RetryEvery, o.HA.MaxRestarts = time.Second, 3 })
	f.m1.set(func(m *fakeMachine) { m.bootErr = errBoom })
	f.must(f.KillHost("esx1.lab"))
	f.eventually("HA gives up", func() bool { r := f.Restarts(); return len(r) == 1 && r[0].Outcome == "gave up" })
	if n := len(f.Restarts()[0].Attempts); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	f.wantEvents("docker1", map[string]int{"VmFailoverFailed": 3, "VmMaxRestartCountReached": 1, "VmFailedToPowerOnEvent": 3})
	if f.machine("docker1").PoweredOn {
		t.Error("the machine that could not be started is shown as on")
	}
	f.m1.set(func(m *fakeMachine) { m.bootErr = nil })
	f.must(f.PowerOn("docker1"))
}

// A machine whose restart is disabled stays off, also when its host comes back; so does every one if HA is off.
func TestMachinesThatAreNotToBeRestartedStayOff(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*vcenter.Options){"by an override": func(*vcenter.Options) {}, "HA is off": func(o *vcenter.Options) { o.HA.Off = true }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFarm(t, change)
			f.must(f.SetOverride("docker1", vcenter.Override{Priority: "high"}))
			f.must(f.SetOverride("docker1", vcenter.Override{RestartDisabled: true}))
			f.must(f.KillHost("esx1.lab"))
			f.stays("the machine is off", 60, func() bool { return !f.m1.runs() })
			if m := f.machine("docker1"); !m.PoweredOn || m.Runs {
				t.Errorf("got %+v, want it shown as it was last seen", m)
			}
			wantFault(t, f.PowerOn("docker1"), &types.HostNotConnected{})
			f.must(f.StartHost("esx1.lab"))
			f.stays("the machine is off", 60, func() bool { return !f.m1.runs() && !f.machine("docker1").PoweredOn })
			if h := f.esx1(); h.State != "connected" || h.Power != "poweredOn" {
				t.Errorf("got %+v, want it connected", h)
			}
			f.must(f.PowerOn("docker1"))
		})
	}
}

// The machine that matters most is started first, and one for which no host has room waits until there is some.
func TestRestartsHaveAnOrderAndNeedRoom(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) {
		o.VMs = []vcenter.VM{o.VMs[0], {Name: "on2"}, {Name: "on3"}, o.VMs[1], {Name: "too"}} // hosts in turn: both are on the first
		o.HA.VMsPerHost, o.HA.RestartDelay = 2, 10*time.Second
	})
	f.must(f.SetOverride("docker1", vcenter.Override{Priority: "low"}))
	f.must(f.SetOverride("docker2", vcenter.Override{Priority: "highest"}))
	f.must(f.KillHost("esx1.lab"))
	f.eventually("one runs again", func() bool { return f.m2.runs() })
	f.stays("the other has no room", 60, func() bool { return !f.m1.runs() })
	f.wantEvents("docker1", map[string]int{"NotEnoughResourcesToStartVmEvent": 1})
	f.must(f.PowerOff("too"))
	f.eventually("the other runs where there is room", f.m1.runs)
	if h := f.machine("docker1").Host; h != "esx2.lab" {
		t.Errorf("it is on %s", h)
	}
	for _, r := range f.Restarts() {
		if r.Attempts[0].At.Unscaled < 25*time.Second {
			t.Errorf("got %+v, want 15 s and 10 s at least", r)
		}
	}
}

// Machines for which there is no host wait for one, be it the one that they were on; a host that is back before anybody has noticed starts its
// machines too. What cannot be done to a host in its state is refused.
func TestHostThatComesBackRunsItsMachinesAgain(t *testing.T) {
	t.Parallel()
	for name, noticed := range map[string]bool{"after HA has noticed": true, "before HA has noticed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFarm(t, func(o *vcenter.Options) {
				if !noticed {
					o.HA.Detect = time.Hour
				}
			})
			f.must(f.EnterMaintenance("esx3.lab")) // nowhere else to go
			if f.StartHost("esx1.lab") == nil {
				t.Error("a host that is on was started")
			}
			if f.KillHost("esx9.lab") == nil || f.EnterMaintenance("esx9.lab") == nil || f.ExitMaintenance("esx9.lab") == nil {
				t.Error("a host that is not there was found")
			}
			f.must(f.KillHost("esx2.lab"))
			f.must(f.KillHost("esx1.lab"))
			if f.KillHost("esx1.lab") == nil || f.IsolateHost("esx1.lab") == nil || f.EnterMaintenance("esx1.lab") == nil {
				t.Error("a dead host did something")
			}
			if noticed {
				f.eventually("there is no room", func() bool { return f.count("docker1")["NotEnoughResourcesToStartVmEvent"] == 1 })
			}
			f.must(f.StartHost("esx1.lab"))
			f.eventually("it runs again", f.m1.runs)
			f.eventually("the other too", func() bool { return f.m2.runs() == noticed })
			f.wantEvents("docker1", map[string]int{"VmConnectedEvent": 1})
		})
	}
}

// HA lives on the hosts: that nobody reaches vCenter does not keep it from anything.
func TestRestartNeedsNoService(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	f.must(f.StopServing())
	f.must(f.KillHost("esx1.lab"))
	f.eventually("the machine runs", f.m1.runs)
}

// What is being done to a machine ends when its host dies, however slow it was; the machine is not held up by it.
func TestKilledHostEndsWhatWasBeingDoneToItsMachines(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	f.Delay("ReconfigVM_Task", time.Hour)
	slow, err := f.one.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{Annotation: "x"})
	f.must(err)
	f.m2.set(func(m *fakeMachine) { m.hang = true })
	disk := f.disk("web")
	f.Clear()
	stuck, err := f.two.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{add(disk, 1001, new(int32(0)))},
	})
	f.must(err)
	f.must(f.KillHost("esx1.lab"))
	f.must(f.KillHost("esx2.lab"))
	wantFault(t, slow.Wait(t.Context()), &types.HostCommunication{})
	wantFault(t, stuck.Wait(t.Context()), &types.HostCommunication{})
	f.eventually("both run again", func() bool { return f.m1.runs() && f.m2.runs() })
	f.eventually("the disk can be attached", func() bool { return f.reconfigure(f.two, add(disk, 1001, new(int32(0)))) == nil })
}
