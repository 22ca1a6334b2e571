package vcenter_test

import (
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// A host that dies takes its machines with it, and HA starts them elsewhere with the disks that their configuration names: the reason for
// everything else here.
func TestMachineOfADeadHostIsRestartedElsewhereWithItsDisks(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	f.attach(f.one, f.disk("web"), 3)
	f.m1.done()
	began := time.Now()
	f.must(f.KillHost("esx1.lab"))
	if f.m1.runs() {
		t.Error("the machine runs on a dead host")
	}
	if h := f.host("esx1.lab"); h.State != "notResponding" || h.Power != "unknown" {
		t.Errorf("got %+v, want it not responding", h)
	}
	f.eventually("the machine runs", f.m1.runs)
	if d := time.Since(began); d < 150*time.Millisecond {
		t.Errorf("HA took notice after %v, want a hundredth of 15 s", d)
	}
	f.eventually("HA is done", func() bool { return f.Restarts()[0].Outcome != "" })
	r := f.Restarts()[0]
	if r.VM != "docker1" || r.From != "esx1.lab" || r.To == "esx1.lab" || r.Outcome != "restarted" || len(r.Attempts) != 1 {
		t.Errorf("got %+v, want one attempt, elsewhere", r)
	}
	if d := r.Detected.Unscaled; d < 15*time.Second || d > 25*time.Second {
		t.Errorf("unscaled detection took %v, want 15 s and little more", d)
	}
	if m := f.machine("docker1"); m.Host != r.To || !m.PoweredOn {
		t.Errorf("got %+v, want it on at %s", m, r.To)
	}
	if n := len(f.m1.hw.Disks); n != 1 || f.m1.hw.Disks[0].Controller != 1 || f.m1.hw.Disks[0].Unit != 3 {
		t.Errorf("booted with %+v, want the disk at 1:3", f.m1.hw)
	}
	f.wantEvents("docker1", map[string]int{
		"VmDisconnectedEvent": 1, "com.vmware.vc.ha.VmRestartedByHAEvent": 1, "VmPoweredOnEvent": 2, "VmPoweredOffEvent": 0,
	})
	f.wantEvents("", map[string]int{"HostConnectionLostEvent": 1, "com.vmware.vc.HA.DasHostFailedEvent": 1})
}

// A machine on an isolated host runs on. As long as it does, its files are locked, and HA cannot start a second one of it.
func TestMachineOfAnIsolatedHostIsNotStartedTwice(t *testing.T) {
	t.Parallel()
	f := openFarm(t, func(o *vcenter.Options) { o.HA.RetryEvery = 20 * time.Second })
	f.attach(f.one, f.disk("web"), 0)
	f.m1.done()
	f.must(f.IsolateHost("esx1.lab"))
	f.eventually("HA has tried twice", func() bool { r := f.Restarts(); return len(r) == 1 && len(r[0].Attempts) >= 2 })
	if got := f.m1.done(); len(got) != 0 {
		t.Errorf("the machine of an isolated host was touched: %v", got)
	}
	if m := f.machine("docker1"); m.Host != "esx1.lab" {
		t.Errorf("got %+v, want it where it runs", m)
	}
	f.must(f.StartHost("esx1.lab"))
	f.stays("the machine is left alone", 60, func() bool { return len(f.m1.done()) == 0 })
	if r := f.Restarts()[0]; r.Outcome == "" || r.Outcome == "restarted" {
		t.Errorf("got %+v, want the restart settled", r)
	}
}
