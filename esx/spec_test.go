package esx_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

func pvscsi(key, bus int32) types.BaseVirtualDevice {
	return &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
		ScsiCtlrUnitNumber: 7,
		VirtualController:  types.VirtualController{BusNumber: bus, VirtualDevice: types.VirtualDevice{Key: key}},
	}}
}

func lsi(key, bus int32) types.BaseVirtualDevice {
	return &types.VirtualLsiLogicController{VirtualSCSIController: types.VirtualSCSIController{
		VirtualController: types.VirtualController{BusNumber: bus, VirtualDevice: types.VirtualDevice{Key: key}},
	}}
}

func disk(key, controller, unit int32, vol mooring.Volume, mode types.VirtualDiskMode) types.BaseVirtualDevice {
	return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
		Key: key, ControllerKey: controller, UnitNumber: &unit,
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: string(vol.Backing)},
			Uuid:                         string(vol.Disk), DiskMode: string(mode),
		},
	}}
}

func volume(n int) mooring.Volume {
	name := fmt.Sprintf("vol%d", n)
	return mooring.Volume{
		Spec:    mooring.Spec{Name: mooring.Name(name), Size: mooring.GB},
		Backing: mooring.NewBacking("vsanDatastore", "dockvols/default/"+name+".vmdk"),
		Disk:    mooring.DiskID(fmt.Sprintf("6000c29d-0000-0000-0000-%012d", n)),
		Profile: "profile-1",
	}
}

func bootDisk() mooring.Volume {
	return mooring.Volume{Backing: "[vsanDatastore] vm/boot.vmdk", Disk: "6000c29d-ffff-ffff-ffff-000000000000"}
}

// G6: a file operation with a device creates, replaces or destroys its file. There is no case in which Mooring wants that.
func TestNoSpecCarriesAFileOperation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		devices := []types.BaseVirtualDevice{pvscsi(1000, 0), disk(2000, 1000, 0, bootDisk(), types.VirtualDiskModePersistent)}
		attached := rapid.IntRange(0, 13).Draw(t, "attached")
		var remove, add []mooring.Volume
		for i := range attached {
			unit := int32(1 + i + i/6)
			devices = append(devices, disk(2001+int32(i), 1000, unit, volume(i), types.VirtualDiskModeIndependent_persistent))
			if rapid.Bool().Draw(t, "remove") {
				remove = append(remove, volume(i))
			}
		}
		for i := range rapid.IntRange(0, 20).Draw(t, "add") {
			add = append(add, volume(100+i))
		}
		spec, _ := esx.Plan("7", devices, add, remove)
		removing := true
		keys := map[int32]bool{}
		for _, c := range spec.DeviceChange {
			change := c.GetVirtualDeviceConfigSpec()
			if change.FileOperation != "" {
				t.Fatalf("file operation %q", change.FileOperation)
			}
			isRemoval := change.Operation == types.VirtualDeviceConfigSpecOperationRemove
			if isRemoval && !removing {
				t.Fatal("a removal stands behind an addition")
			}
			removing = isRemoval
			key := change.Device.GetVirtualDevice().Key
			if keys[key] || (key < 0) == isRemoval {
				t.Fatalf("device key %d is used twice, or not of the right sign", key)
			}
			keys[key] = true
		}
	})
}

func TestAddedDiskIsIndependentThinOnItsFileAndHasItsProfile(t *testing.T) {
	spec, errs := esx.Plan("7", []types.BaseVirtualDevice{pvscsi(1000, 0), pvscsi(1001, 1)}, []mooring.Volume{volume(1)}, nil)
	if len(errs) > 0 || len(spec.DeviceChange) != 1 || spec.ChangeVersion != "7" {
		t.Fatalf("got %+v, %v", spec, errs)
	}
	change := spec.DeviceChange[0].GetVirtualDeviceConfigSpec()
	d := change.Device.(*types.VirtualDisk)
	b := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if b.FileName != string(volume(1).Backing) || b.DiskMode != "independent_persistent" || b.Sharing != "" || d.CapacityInKB != 0 {
		t.Errorf("got %+v", b)
	}
	if p := change.Profile[0].(*types.VirtualMachineDefinedProfileSpec); p.ProfileId != "profile-1" {
		t.Errorf("got profile %q", p.ProfileId)
	}
}

// Making a controller stuns the machine; with a busy volume it has crashed some.
func TestControllerIsMadeOnlyWhileNoVolumeIsAttached(t *testing.T) {
	boot := disk(2000, 1000, 0, bootDisk(), types.VirtualDiskModePersistent)
	full := []types.BaseVirtualDevice{pvscsi(1000, 0)}
	for i := range int32(16) {
		if i != 7 {
			full = append(full, disk(2000+i, 1000, i, volume(int(i)), types.VirtualDiskModeIndependent_persistent))
		}
	}
	for name, c := range map[string]struct {
		devices  []types.BaseVirtualDevice
		add      int
		made     int
		refused  int
		attached int
	}{
		"room on the first":                 {[]types.BaseVirtualDevice{pvscsi(1000, 0), boot}, 14, 0, 0, 14},
		"none yet":                          {[]types.BaseVirtualDevice{lsi(1000, 0), boot}, 1, 3, 0, 1},
		"more than fit":                     {[]types.BaseVirtualDevice{lsi(1000, 0), boot}, 50, 3, 5, 45},
		"full of volumes":                   {full, 2, 0, 2, 0},
		"four of another kind":              {[]types.BaseVirtualDevice{lsi(1000, 0), lsi(1001, 1), lsi(1002, 2), lsi(1003, 3)}, 1, 0, 1, 0},
		"one volume, and more than fit one": {[]types.BaseVirtualDevice{pvscsi(1000, 0), disk(2000, 1000, 0, volume(0), types.VirtualDiskModeIndependent_persistent)}, 15, 0, 1, 14},
	} {
		t.Run(name, func(t *testing.T) {
			var add []mooring.Volume
			for i := range c.add {
				add = append(add, volume(100+i))
			}
			spec, errs := esx.Plan("7", c.devices, add, nil)
			made, attached := 0, 0
			for _, change := range spec.DeviceChange {
				switch change.GetVirtualDeviceConfigSpec().Device.(type) {
				case *types.ParaVirtualSCSIController:
					made++
				case *types.VirtualDisk:
					attached++
				}
			}
			if made != c.made || attached != c.attached || len(errs) != c.refused {
				t.Errorf("got %d controllers made, %d disks added, %d refused, want %d, %d, %d", made, attached, len(errs), c.made, c.attached, c.refused)
			}
			for _, err := range errs {
				if !errors.Is(err, mooring.ErrCapacity) {
					t.Errorf("got %v, want ErrCapacity", err)
				}
			}
		})
	}
}

// vSAN shows its own name of a folder in hardware lists, where people and paths use the folder's.
func TestOneFileIsKnownByBothNamesOfItsFolder(t *testing.T) {
	for _, c := range []struct {
		a, b mooring.Backing
		same bool
	}{
		{"[ds] dockvols/default/a.vmdk", "[ds] dockvols/default/a.vmdk", true},
		{"[ds] dockvols/default/a.vmdk", "[ds] dockvols//default/a.vmdk", true},
		{"[ds] dockvols/default/a.vmdk", "[ds] 5e3cbe59-78c9-1c2e-f3ab-020011223344/default/a.vmdk", true},
		{"[ds] dockvols/default/a.vmdk", "[ds] kubevols/default/a.vmdk", false},
		{"[ds] dockvols/default/a.vmdk", "[ds] dockvols/other/a.vmdk", false},
		{"[ds] dockvols/default/a.vmdk", "[other] dockvols/default/a.vmdk", false},
		{"", "", false},
	} {
		if got := esx.SameFile(c.a, c.b); got != c.same {
			t.Errorf("%s and %s: got %t, want %t", c.a, c.b, got, c.same)
		}
		if got := esx.SameFile(c.b, c.a); got != c.same {
			t.Errorf("%s and %s: got %t, want %t", c.b, c.a, got, c.same)
		}
	}
}
