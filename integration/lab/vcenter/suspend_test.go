package vcenter_test

import (
	"slices"
	"testing"
)

// A suspended machine stands still and keeps its files locked: nobody else may have its disks, and HA lets it be.
func TestSuspendedMachineStandsStillAndKeepsItsDisks(t *testing.T) {
	t.Parallel()
	f := openFarm(t)
	disk := f.disk("web")
	f.attach(f.one, disk, 3)
	f.m1.done()
	f.must(f.Suspend("docker1"))
	if got, want := f.m1.done(), []string{"freeze"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := f.reconfigure(f.two, add(disk, 1001, new(int32(3)))); err == nil {
		t.Error("another machine gets the disk of a suspended one")
	}
	f.stays("the machine is left alone", 300, func() bool { return f.m1.runs() && len(f.Restarts()) == 0 })
	f.must(f.PowerOn("docker1"))
	if got, want := f.m1.done(), []string{"thaw"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !f.machine("docker1").PoweredOn {
		t.Error("a resumed machine is not powered on")
	}
}
