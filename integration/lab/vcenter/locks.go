package vcenter

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// claim is a virtual machine's hold on a disk file: its configuration names it, or a running task is about to add it.
// A machine that is on locks the file; one that is off merely names it.
type claim struct {
	vm     types.ManagedObjectReference
	name   string // of the machine
	on     bool
	shared bool // sharingMultiWriter
	disk   *types.VirtualDisk
}

// reservation is a claim that a running task has on a file which is in no configuration yet.
type reservation struct {
	claim claim
}

// association is an attached disk: what a storage policy is associated with.
type association struct {
	vm  types.ManagedObjectReference
	key int32
}

// machine is a copy of what the registry holds of a virtual machine. Devices are never changed in place, so their
// pointers may be kept.
type machine struct {
	ref     types.ManagedObjectReference
	name    string
	host    types.ManagedObjectReference
	on      bool                           // it runs or is suspended, which is when its files are locked
	state   types.VirtualMachinePowerState // as the inventory has it
	version string                         // config.changeVersion
	devices []types.BaseVirtualDevice
	config  struct{ bios, instance, hardware, folder, vmx string }
	memory  int32
}

// look copies the machine's state, or returns false if there is none any more.
func (v *VCenter) look(ref types.ManagedObjectReference) (machine, bool) {
	vm, ok := v.reg.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return machine{}, false
	}
	m := machine{ref: ref, on: v.process(ref).on.Load()}
	v.reg.WithLock(v.context(""), vm, func() {
		m.name = vm.Name
		m.state = vm.Runtime.PowerState
		if vm.Runtime.Host != nil {
			m.host = *vm.Runtime.Host
		}
		if vm.Config == nil {
			return
		}
		m.version, m.memory = vm.Config.ChangeVersion, vm.Config.Hardware.MemoryMB
		m.devices = append(m.devices, vm.Config.Hardware.Device...)
		m.config.bios, m.config.instance, m.config.hardware = vm.Config.Uuid, vm.Config.InstanceUuid, vm.Config.Version
		m.config.vmx = vm.Config.Files.VmPathName
		m.config.folder = folderOf(m.config.vmx)
	})
	return m, true
}

// folderOf returns the datastore path without its last element.
func folderOf(name string) string {
	if i := strings.LastIndex(name, "/"); i >= 0 {
		return name[:i]
	}
	return name
}

// disks returns the virtual disks among the devices.
func disks(devices []types.BaseVirtualDevice) []*types.VirtualDisk {
	var out []*types.VirtualDisk
	for _, d := range devices {
		if disk, ok := d.(*types.VirtualDisk); ok {
			out = append(out, disk)
		}
	}
	return out
}

// fileOf returns the datastore path and sharing mode of a disk's backing.
func fileOf(d *types.VirtualDisk) (name string, shared bool) {
	b, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return "", false
	}
	if flat, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		shared = flat.Sharing == string(types.VirtualDiskSharingSharingMultiWriter)
	}
	return b.GetVirtualDeviceFileBackingInfo().FileName, shared
}

// claims returns who has the file, or is about to. The caller holds v.hw.
func (v *VCenter) claims(file string) []claim {
	out := v.holders(file)
	if r, ok := v.reserved[file]; ok {
		out = append(out, r.claim)
	}
	return out
}

// holders returns the machines whose configurations name the file. The caller holds v.hw.
func (v *VCenter) holders(file string) []claim {
	var out []claim
	for _, e := range v.reg.All("VirtualMachine") {
		m, ok := v.look(e.Reference())
		if !ok {
			continue
		}
		for _, d := range disks(m.devices) {
			name, shared := fileOf(d)
			if f, fault := v.resolve(name); fault == nil && f == file {
				out = append(out, claim{vm: m.ref, name: m.name, on: m.on, shared: shared, disk: d})
			}
		}
	}
	return out
}

// free returns a fault if any virtual machine has the file. The caller holds v.hw.
func (v *VCenter) free(file, name string) types.BaseMethodFault {
	found := v.claims(file)
	for _, c := range found {
		if c.on {
			return locked(name, c.name)
		}
	}
	if len(found) > 0 {
		return inUse(name, found[0].name)
	}
	return nil
}

// conflict returns FileLocked if another machine that is on has the file, unless all share it as multi-writers. The caller holds v.hw.
func (v *VCenter) conflict(file, name string, vm types.ManagedObjectReference, shared bool) types.BaseMethodFault {
	for _, c := range v.claims(file) {
		if c.vm != vm && c.on && !(c.shared && shared) {
			return locked(name, c.name)
		}
	}
	return nil
}

// locked is the fault for a file that another machine has open. As in vSphere, only the message names who, and only here for those who read it.
func locked(name, owner string) types.BaseMethodFault {
	return withMessage(&types.FileLocked{FileFault: types.FileFault{File: name}}, "msg.disk.lock",
		"Failed to lock the file %s: it is held by the virtual machine %s", name, owner)
}

// inUse is the fault for a file that the configuration of a machine names, which need not be on.
func inUse(name, owner string) types.BaseMethodFault {
	return withMessage(&types.InvalidState{}, "lab.attached", "%s is in the configuration of the virtual machine %s", name, owner)
}
