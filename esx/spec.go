package esx

import (
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// Specs are built here and by hand. govmomi's helpers send a file operation along (create, replace, destroy), and that destroys data.

// firstDiskKey is the temporary key of the first disk that a spec adds; those of controllers are -1 to -4.
const firstDiskKey = -100

// addition is a disk that a spec adds.
type addition struct {
	file    mooring.Backing
	profile mooring.ProfileID // empty: none is given along
	slot    slot
}

// reconfigureSpec returns the spec that removes disks, then makes controllers, then adds disks, in one task. The version makes vCenter refuse it if
// somebody else has changed the machine since its hardware was read.
func reconfigureSpec(version string, removed []device, made []controller, added []addition) types.VirtualMachineConfigSpec {
	spec := types.VirtualMachineConfigSpec{ChangeVersion: version}
	for _, d := range removed {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d.raw,
		})
	}
	for _, c := range made {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: newController(c),
		})
	}
	for i, a := range added {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: newDisk(firstDiskKey-int32(i), a), Profile: profileOfDisk(a.profile),
		})
	}
	return spec
}

func newController(c controller) *types.ParaVirtualSCSIController {
	return &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
		SharedBus:          types.VirtualSCSISharingNoSharing,
		ScsiCtlrUnitNumber: ownUnit,
		VirtualController:  types.VirtualController{BusNumber: c.bus, VirtualDevice: types.VirtualDevice{Key: c.key}},
	}}
}

// newDisk returns the device for an existing file. Independent: a snapshot of the machine neither contains the volume nor puts a delta file on it.
func newDisk(key int32, a addition) *types.VirtualDisk {
	return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
		Key: key, ControllerKey: a.slot.controller, UnitNumber: new(a.slot.unit),
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: string(a.file)},
			DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
		},
	}}
}

// profileOfDisk returns the profile as disk and device specs want it, nothing for none.
func profileOfDisk(id mooring.ProfileID) []types.BaseVirtualMachineProfileSpec {
	if id == "" {
		return nil
	}
	return []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineDefinedProfileSpec{ProfileId: string(id)}}
}

// diskSpec returns what the virtual disk manager is to make: a thin disk. The adapter type is what the descriptor says (ddb.adapterType) and has no word for
// PVSCSI: the API knows ide, busLogic and lsiLogic, and says that it no longer matters on which SCSI controller a disk is put (VmDiskFileQueryFlags.controllerType).
func diskSpec(vol mooring.Volume) *types.FileBackedVirtualDiskSpec {
	return &types.FileBackedVirtualDiskSpec{
		VirtualDiskSpec: types.VirtualDiskSpec{
			DiskType: string(types.VirtualDiskTypeThin), AdapterType: string(types.VirtualDiskAdapterTypeLsiLogic),
		},
		CapacityKb: int64(vol.Size) >> 10,
		Profile:    profileOfDisk(vol.Profile),
	}
}
