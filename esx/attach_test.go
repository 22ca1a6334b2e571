package esx_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

// reconfigure changes another machine's hardware, as its own plugin would.
func (v *vcsim) reconfigure(t *testing.T, vm types.ManagedObjectReference, changes ...types.BaseVirtualDeviceConfigSpec) {
	t.Helper()
	task, err := object.NewVirtualMachine(v.client(t), vm).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{DeviceChange: changes})
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func adding(vol mooring.Volume) types.BaseVirtualDeviceConfigSpec {
	d := disk(-1, 202, 12, vol, types.VirtualDiskModeIndependent_persistent)
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}
}

// attached lists the files of the volumes that the machine has.
func attached(t *testing.T, h *esx.Host) []mooring.Backing {
	t.Helper()
	m, err := h.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []mooring.Backing
	for _, d := range m.Disks {
		if strings.HasPrefix(d.Backing.File(), "dockvols/") {
			list = append(list, d.Backing)
		}
	}
	slices.Sort(list)
	return list
}

func createMany(t *testing.T, h *esx.Host, n int) []mooring.Volume {
	t.Helper()
	var vols []mooring.Volume
	for i := range n {
		vols = append(vols, create(t, h, mooring.Name(fmt.Sprintf("vol%02d", i))))
	}
	return vols
}

// attachAll attaches at once and returns each error.
func attachAll(t *testing.T, h *esx.Host, vols []mooring.Volume) []error {
	t.Helper()
	errs := make([]error, len(vols))
	var all sync.WaitGroup
	for i, vol := range vols {
		all.Go(func() { errs[i] = h.Attach(t.Context(), vol) })
	}
	all.Wait()
	return errs
}

// A task takes a second or more on a real vCenter, and a machine does one at a time.
func TestAttachmentsThatComeTogetherShareOneTask(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	h.SetCollect(500 * time.Millisecond)
	vols := createMany(t, h, 10)
	if err := errors.Join(attachAll(t, h, vols)...); err != nil {
		t.Fatal(err)
	}
	if n := v.count("ReconfigVM_Task"); n != 1 {
		t.Errorf("got %d tasks for %d disks, want 1", n, len(vols))
	}
	if got := attached(t, h); len(got) != len(vols) {
		t.Errorf("got %v", got)
	}
	if err := errors.Join(attachAll(t, h, vols)...); err != nil || v.count("ReconfigVM_Task") != 1 {
		t.Errorf("got %v and %d tasks, want none for what is attached already", err, v.count("ReconfigVM_Task")-1)
	}
	if err := h.Detach(t.Context(), vols...); err != nil {
		t.Fatal(err)
	}
	if n := v.count("ReconfigVM_Task"); n != 2 || len(attached(t, h)) != 0 {
		t.Errorf("got %d tasks for the detachment of %d disks and %v left, want 1 and none", n-1, len(vols), attached(t, h))
	}
	if err := h.Detach(t.Context(), vols...); err != nil || v.count("ReconfigVM_Task") != 2 {
		t.Errorf("got %v and %d tasks, want none for what is not attached", err, v.count("ReconfigVM_Task")-2)
	}
	if got := v.folder(t); len(got) != 3*len(vols) {
		t.Errorf("got %d files, want all %d: detaching touches none", len(got), 3*len(vols))
	}
}

func TestAttachedDiskIsReportedWhereItIs(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	m, err := h.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Disks, func(a mooring.Attachment) bool { return a.Disk == vol.Disk })
	if i < 0 || m.Disks[i].Backing != vol.Backing || m.Disks[i].Unit == 7 || m.Name != v.vm.Name || m.BIOS != v.vm.Config.Uuid || m.Instance != v.vm.Config.InstanceUuid {
		t.Errorf("got %+v, want %s in it", m, vol.Disk)
	}
}

func TestDiskOfARunningMachineIsWaitedForThenNamed(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	other := v.other()
	v.reconfigure(t, other.Self, adding(vol))
	err := h.Attach(t.Context(), vol)
	if !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), other.Name) || !strings.Contains(err.Error(), "powered on") {
		t.Errorf("got %v, want ErrInUse naming %s", err, other.Name)
	}
	if n := v.count("ReconfigVM_Task"); n != 1 {
		t.Errorf("got %d tasks of ours, want none: nothing is tried blindly", n-1)
	}

	h.SetLinger(time.Hour, time.Hour)
	if err := h.Reattach(t.Context(), vol); !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), other.Name) {
		t.Errorf("got %v, want ErrInUse naming %s, at once", err, other.Name)
	}

	h.SetLinger(20*time.Second, 20*time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- h.Attach(t.Context(), vol) }()
	looks := v.count("CreateContainerView")
	eventually(t, "two looks at the machines in view", func() bool { return v.count("CreateContainerView") >= looks+2 })
	theirs := newHostOn(t, v, other)
	if err := theirs.Detach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("got %v for a disk that only lingered", err)
	}
}

// A machine that is powered off gives nothing back by itself, and could not be powered on again.
func TestDiskOfAPoweredOffMachineIsRefusedAtOnceWithTheCure(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	h.SetLinger(time.Hour, time.Hour)
	vol := create(t, h, "db")
	other := v.other()
	v.reconfigure(t, other.Self, adding(vol))
	task, err := object.NewVirtualMachine(v.client(t), other.Self).PowerOff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = h.Attach(t.Context(), vol)
	hint, ok := errors.AsType[*mooring.HintError](err)
	if !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), other.Name) || !ok || hint.Hint != "mooring volume release db --from "+other.Name {
		t.Errorf("got %v with hint %+v, want ErrInUse naming %s and the cure", err, hint, other.Name)
	}
}

// failing refuses tasks that add a disk as f says; times < 0 means always.
func (v *vcsim) failing(times int, f func(*types.VirtualDeviceConfigSpec) types.BaseMethodFault) {
	var mu sync.Mutex
	v.refuse(func(method string, body any) types.BaseMethodFault {
		req, ok := body.(*types.ReconfigVM_Task)
		mu.Lock()
		defer mu.Unlock()
		if !ok || times == 0 {
			return nil
		}
		for _, c := range req.Spec.DeviceChange {
			if fault := f(c.GetVirtualDeviceConfigSpec()); fault != nil {
				times--
				return fault
			}
		}
		return nil
	})
}

func TestFaultsOfATaskAreAnsweredByTheirClass(t *testing.T) {
	always := func(f types.BaseMethodFault) func(*types.VirtualDeviceConfigSpec) types.BaseMethodFault {
		return func(*types.VirtualDeviceConfigSpec) types.BaseMethodFault { return f }
	}
	for name, c := range map[string]struct {
		fault types.BaseMethodFault
		times int
		want  error
		tasks int
	}{
		"busy twice":            {&types.TaskInProgress{}, 2, nil, 3},
		"changed twice":         {&types.ConcurrentAccess{}, 2, nil, 3},
		"the unit was taken":    {&types.InvalidDeviceSpec{}, 1, nil, 2},
		"the host was away":     {&types.HostNotConnected{}, 1, nil, 2},
		"locked by nobody seen": {&types.FileLocked{}, -1, mooring.ErrFenced, 1},
		"no room":               {&types.TooManyDevices{}, -1, mooring.ErrCapacity, 1},
		"the file is gone":      {&types.FileNotFound{}, -1, mooring.ErrNotFound, 1},
		"no right":              {&types.NoPermission{PrivilegeId: "VirtualMachine.Config.AddExistingDisk"}, -1, mooring.ErrInvalid, 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVCSim(t)
			h := newHost(t, v)
			vol := create(t, h, "db")
			v.failing(c.times, always(c.fault))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := h.Attach(ctx, vol); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if n := v.count("ReconfigVM_Task"); n != c.tasks {
				t.Errorf("got %d tasks, want %d", n, c.tasks)
			}
		})
	}
}

func TestBusyMachineIsWaitedForNoLongerThanTheCallerWaits(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	v.failing(-1, func(*types.VirtualDeviceConfigSpec) types.BaseMethodFault { return &types.TaskInProgress{} })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := h.Attach(ctx, vol); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func fileOf(c *types.VirtualDeviceConfigSpec) string {
	if d, ok := c.Device.(*types.VirtualDisk); ok && c.Operation == types.VirtualDeviceConfigSpecOperationAdd {
		return d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName
	}
	return ""
}

func TestOneBadDiskDoesNotKeepOthersAway(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	h.SetCollect(500 * time.Millisecond)
	vols := createMany(t, h, 9)
	v.failing(-1, func(c *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
		if strings.Contains(fileOf(c), "vol04") {
			return &types.FileLocked{}
		}
		return nil
	})
	for i, err := range attachAll(t, h, vols) {
		if bad := i == 4; bad != errors.Is(err, mooring.ErrFenced) || !bad && err != nil {
			t.Errorf("%s: got %v", vols[i].Name, err)
		}
	}
	if got := attached(t, h); len(got) != 8 {
		t.Errorf("got %v, want all but one", got)
	}
}

// A policy that was deleted, or a policy service that is down, must not keep a volume down.
func TestRefusedProfileIsLeftOutAndReported(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	vol.Profile, vol.Policy = "deleted", "SW=2"
	v.failing(-1, func(c *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
		if len(c.Profile) > 0 {
			return &types.InvalidArgument{InvalidProperty: "profile"}
		}
		return nil
	})
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	got := h.Conditions()
	if len(got) != 1 || got[0].Volume != "db" || !strings.Contains(got[0].What, "SW=2") || got[0].Cure == "" {
		t.Errorf("got conditions %+v, want one on db about SW=2", got)
	}
	if err := h.Detach(t.Context(), vol); err != nil || len(h.Conditions()) != 0 {
		t.Errorf("got %v and conditions %+v after the detachment", err, h.Conditions())
	}
}

// The file of the name may hold another disk than the ledger knows: made anew by another host. To hand that out would be a lie.
func TestStrangeDiskAtTheVolumesFileIsNotLeftAttached(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	vol.Disk = volume(1).Disk
	if err := h.Attach(t.Context(), vol); !errors.Is(err, mooring.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if got := attached(t, h); len(got) != 0 {
		t.Errorf("got %v attached, want none", got)
	}
}

func TestTwoDevicesWithOneUUIDAreCorrupt(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	v.reconfigure(t, v.vm.Self, adding(vol)) // vcsim lets it
	if err := h.Attach(t.Context(), vol); !errors.Is(err, mooring.ErrCorrupt) {
		t.Errorf("attach: got %v, want ErrCorrupt", err)
	}
	if err := h.Detach(t.Context(), vol); !errors.Is(err, mooring.ErrCorrupt) || len(attached(t, h)) != 2 {
		t.Errorf("detach: got %v, want ErrCorrupt and nothing done", err)
	}
}

// vSAN makes top-level folders by its namespace manager only, names them by an ID, and some versions want that ID in a hardware list.
func TestFolderOnVSANIsMadeAndAttachedFromByItsID(t *testing.T) {
	v := newVCSim(t)
	ds := v.model.Map().Any("Datastore").(*simulator.Datastore)
	ds.Summary.Type, ds.Summary.Url = "vsan", ds.Summary.Url+"/"
	ds.Capability.TopLevelDirectoryCreateSupported = new(false)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if n := v.count("CreateDirectory"); n != 1 {
		t.Errorf("got %d folders made by the namespace manager, want 1", n)
	}
	v.failing(-1, func(c *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
		if strings.Contains(fileOf(c), "dockvols") {
			return &types.FileNotFound{}
		}
		return nil
	})
	vol.Disk = "" // vcsim derives it from the path, so that it would be another by the folder's ID
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	m, err := h.Machine(t.Context())
	if err != nil || !slices.ContainsFunc(m.Disks, func(a mooring.Attachment) bool {
		return esx.SameFile(a.Backing, vol.Backing) && a.Backing != vol.Backing
	}) {
		t.Errorf("got %+v, %v, want %s by its folder's ID", m.Disks, err, vol.Backing)
	}
}

// A running machine has the disk's file open; that must not make the volume unknown.
func TestDiskWhoseUUIDCannotBeReadIsKnownByTheHardwareThatHasIt(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	v.refuse(func(method string, _ any) types.BaseMethodFault {
		if method == "QueryVirtualDiskUuid" {
			return &types.FileLocked{}
		}
		return nil
	})
	if got, err := h.Find(t.Context(), "db"); err != nil || got.Disk != vol.Disk || got.Format != mooring.FormatNone {
		t.Errorf("got %+v, %v, want %+v", got, err, vol)
	}
}

// One caller that goes away must not take the task away from the others, and must not wait for it.
func TestCallerThatGoesLeavesTheBatchToTheOthers(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	h.SetCollect(300 * time.Millisecond)
	vols := createMany(t, h, 2)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- h.Attach(ctx, vols[0]) }()
	stayed := make(chan error, 1)
	go func() { stayed <- h.Attach(t.Context(), vols[1]) }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if err := <-stayed; err != nil {
		t.Errorf("the one that stayed: got %v", err)
	}
	if got := attached(t, h); !slices.Equal(got, []mooring.Backing{vols[1].Backing}) {
		t.Errorf("got %v attached, want what somebody still waits for", got)
	}
}

func TestClosedHostChangesNothing(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Attach(t.Context(), vol); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
